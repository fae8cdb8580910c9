from __future__ import annotations

import asyncpg
import pytest
from temporalio.exceptions import ApplicationErrorCategory
from temporalio.service import RPCError, RPCStatusCode

from orchestrator.domain.refusals import NotFound, Unavailable
from orchestrator.storage.outages import is_outage
from workers.channels.channel import ChannelUnavailable
from workers.errors import as_failure

OUTAGES = [
    asyncpg.ConnectionDoesNotExistError("x"),
    asyncpg.TooManyConnectionsError("x"),
    asyncpg.DiskFullError("x"),
    asyncpg.DeadlockDetectedError("x"),
    asyncpg.LockNotAvailableError("x"),
    asyncpg.ReadOnlySQLTransactionError("x"),
    asyncpg.PostgresIOError("x"),
    asyncpg.InterfaceError("cannot perform operation: connection is closed"),
    asyncpg.InternalClientError("x"),
    ConnectionRefusedError("x"),
    TimeoutError("x"),
    Unavailable("UNAVAILABLE", "x"),
]
FAULTS = [
    asyncpg.UniqueViolationError("x"),
    asyncpg.exceptions.DivisionByZeroError("x"),
    asyncpg.exceptions._base.DataError("x"),  # what an argument that does not fit its column raises
    asyncpg.InterfaceError("cannot perform operation: another operation is in progress"),  # two at once on one
    asyncpg.InterfaceError("the server expects 2 arguments for this query, 1 was passed"),
    asyncpg.UndefinedTableError("x"),
    ValueError("x"),
    KeyError("x"),
]


def name(error: Exception) -> str:
    return type(error).__name__


def rpc_error(status: RPCStatusCode) -> RPCError:
    return RPCError("x", status, b"")


@pytest.mark.parametrize("status", [RPCStatusCode.UNAVAILABLE, RPCStatusCode.UNKNOWN, RPCStatusCode.CANCELLED])
def test_temporal_that_is_away_is_expected(status: RPCStatusCode, caplog: pytest.LogCaptureFixture) -> None:
    failure = as_failure(rpc_error(status))

    assert failure.category is ApplicationErrorCategory.BENIGN
    assert caplog.records == []


def test_what_temporal_will_never_do_is_a_fault(caplog: pytest.LogCaptureFixture) -> None:
    failure = as_failure(rpc_error(RPCStatusCode.INVALID_ARGUMENT))

    assert failure.category is ApplicationErrorCategory.UNSPECIFIED
    assert len(caplog.records) == 1


@pytest.mark.parametrize("error", OUTAGES, ids=name)
def test_an_outage_is_expected_and_its_failure_says_which(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    failure = as_failure(error, execution_id="execution")

    assert is_outage(error)
    assert failure.category is ApplicationErrorCategory.BENIGN
    assert failure.type == name(error)
    assert caplog.records == []


@pytest.mark.parametrize("error", FAULTS, ids=name)
def test_a_fault_is_logged_with_its_trace_and_its_values_stay_out_of_the_history(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    failure = as_failure(error, execution_id="execution")

    assert not is_outage(error)
    assert failure.category is ApplicationErrorCategory.UNSPECIFIED
    assert failure.message == name(error)
    assert [vars(record)["execution_id"] for record in caplog.records] == ["execution"]


def test_a_refusal_and_a_provider_that_is_away_are_told_by_their_reasons() -> None:
    refusal = as_failure(NotFound("JOURNEY_NOT_FOUND", "there is no journey x"), execution_id="execution")
    away = as_failure(ChannelUnavailable("timeout", in_doubt=True), execution_id="execution")

    assert (refusal.message, away.message) == ("JOURNEY_NOT_FOUND", "timeout")
