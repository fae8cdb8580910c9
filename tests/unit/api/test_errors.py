"""From exceptions to what callers are told."""

from __future__ import annotations

import logging

import asyncpg
import pytest
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RequestInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc import StatusCode

from orchestrator.api.errors import (
    CODES,
    HTTP_STATUS,
    MAX_STATUS_BYTES,
    MAX_VIOLATIONS,
    DeadlineExceeded,
    Failure,
    failure_of,
    to_fitting_status,
    to_json,
    to_status,
)
from orchestrator.domain import refusals
from orchestrator.predicates.faults import Fault

UNAVAILABLE = StatusCode.UNAVAILABLE


def told(error: Exception) -> Failure:
    return failure_of(error, call_id="c-1", method="Service/Method")


def detail(status: Status, kind: type[ErrorInfo] | type[BadRequest]) -> ErrorInfo | BadRequest:
    found = kind()
    assert sum(packed.Unpack(found) for packed in status.details) == 1
    return found


def test_every_kind_of_refusal_has_a_code() -> None:
    kinds = set(refusals.Refusal.__subclasses__())

    assert {kind for kind in kinds if kind.__module__ == refusals.__name__} == CODES.keys()
    assert set(CODES.values()) < HTTP_STATUS.keys()


@pytest.mark.parametrize(
    ("refusal", "code", "http_status"),
    [
        (refusals.InvalidArgument.of("name", "REQUIRED", "must be given"), StatusCode.INVALID_ARGUMENT, 400),
        (refusals.Unauthenticated("UNAUTHENTICATED", "no key"), StatusCode.UNAUTHENTICATED, 401),
        (refusals.PermissionDenied("ROLE_TOO_LOW", "no", requiredRole="admin"), StatusCode.PERMISSION_DENIED, 403),
        (refusals.NotFound("JOURNEY_NOT_FOUND", "no", journeyId="j"), StatusCode.NOT_FOUND, 404),
        (refusals.AlreadyExists("ALREADY_EXISTS", "no", journeyId="j"), StatusCode.ALREADY_EXISTS, 409),
        (refusals.FailedPrecondition("NO_DRAFT", "no", journeyId="j"), StatusCode.FAILED_PRECONDITION, 400),
        (refusals.Conflict("ETAG_MISMATCH", "no", journeyId="j", currentEtag="e"), StatusCode.ABORTED, 409),
        (refusals.ResourceExhausted("RATE_LIMITED", "no"), StatusCode.RESOURCE_EXHAUSTED, 429),
        (refusals.ResourceExhausted("PLAN_LIMIT_REACHED", "no"), StatusCode.RESOURCE_EXHAUSTED, 402),
        (refusals.Unavailable("UNAVAILABLE", "no"), StatusCode.UNAVAILABLE, 503),
    ],
)
def test_a_refusal_keeps_its_reason_and_metadata(refusal: refusals.Refusal, code: StatusCode, http_status: int) -> None:
    failure = told(refusal)

    status = to_fitting_status(failure, "c-1")
    info = detail(status, ErrorInfo)
    assert isinstance(info, ErrorInfo)
    assert (failure.code, info.reason, info.domain) == (code, refusal.reason, "orchestrator")
    assert dict(refusal.metadata).items() <= dict(info.metadata).items()
    assert to_json(failure, "c-1")[0] == http_status


def test_a_kind_of_refusal_nobody_listed_is_told_as_the_kind_it_derives_from() -> None:
    class Odd(refusals.NotFound):
        pass

    assert told(Odd("ODD_NOT_FOUND", "no")).code is StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (asyncpg.DiskFullError("x"), UNAVAILABLE),
        (asyncpg.PostgresIOError("could not read block 7"), UNAVAILABLE),
        (asyncpg.StatementCompletionUnknownError("x"), UNAVAILABLE),
        (asyncpg.TooManyConnectionsError("x"), UNAVAILABLE),
        (asyncpg.CannotConnectNowError("x"), UNAVAILABLE),
        (asyncpg.AdminShutdownError("x"), UNAVAILABLE),
        (asyncpg.ConnectionDoesNotExistError("x"), UNAVAILABLE),
        (asyncpg.ReadOnlySQLTransactionError("x"), UNAVAILABLE),
        (asyncpg.InvalidPasswordError("x"), UNAVAILABLE),
        (asyncpg.ObjectNotInPrerequisiteStateError("not accepting connections"), UNAVAILABLE),
        (asyncpg.InvalidCatalogNameError("x"), UNAVAILABLE),
        (asyncpg.InternalClientError("cannot switch to state 11; another operation (2) is in progress"), UNAVAILABLE),
        (asyncpg.InterfaceError("connection is closed"), UNAVAILABLE),
        (asyncpg.InterfaceError("pool is closing"), UNAVAILABLE),
        (
            asyncpg.InterfaceError("cannot call Connection.fetchval(): connection has been released back to the pool"),
            UNAVAILABLE,
        ),
        (ConnectionRefusedError(111, "refused"), UNAVAILABLE),
        (TimeoutError(), UNAVAILABLE),
        (asyncpg.SerializationError("x"), StatusCode.ABORTED),
        (asyncpg.DeadlockDetectedError("x"), StatusCode.ABORTED),
        (asyncpg.LockNotAvailableError("x"), StatusCode.ABORTED),
        (asyncpg.QueryCanceledError("x"), StatusCode.DEADLINE_EXCEEDED),
        (DeadlineExceeded(), StatusCode.DEADLINE_EXCEEDED),
        (asyncpg.UniqueViolationError("x"), StatusCode.INTERNAL),
        (asyncpg.InterfaceError("the server expects 2 arguments for this query, 1 was passed"), StatusCode.INTERNAL),
        (asyncpg.InterfaceError("cannot perform operation: another operation is in progress"), StatusCode.INTERNAL),
        (asyncpg.InterfaceError("cursor: the prepared statement is closed"), StatusCode.INTERNAL),
        (asyncpg.DataError("invalid input for query argument $1: 'closed'"), StatusCode.INTERNAL),
        (ZeroDivisionError(), StatusCode.INTERNAL),
    ],
)
def test_errors_of_the_database_say_whether_to_try_again(error: Exception, code: StatusCode) -> None:
    failure = told(error)

    assert failure.code is code
    again = code in (StatusCode.UNAVAILABLE, StatusCode.ABORTED)
    assert any(packed.Is(RetryInfo.DESCRIPTOR) for packed in to_status(failure, "c-1").details) == again


def test_an_unexpected_error_is_logged_and_its_words_are_told_to_nobody(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        failure = told(ValueError("secret detail"))

    status = to_status(failure, "c-1")
    assert b"secret" not in status.SerializeToString()
    request_info = RequestInfo()
    assert any(packed.Unpack(request_info) for packed in status.details)
    assert request_info.request_id == "c-1"
    [record] = caplog.records
    assert record.exc_info is not None
    assert vars(record)["call_id"] == "c-1"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("steps[3].branch.arms[0].when.clauses[1].fieldPath", "must be given"),
        ("x" * 5_000, "y" * 5_000),
        ("ключ." * 500, "💥" * 3_000),
    ],
)
def test_however_many_faults_there_are_the_status_fits_into_trailers(path: str, message: str) -> None:
    faults = [Fault(path=f"{path}[{n}]", reason="REQUIRED", message=message) for n in range(300)]

    status = to_fitting_status(told(refusals.InvalidArgument(faults)), "c-1")

    bad, info = detail(status, BadRequest), detail(status, ErrorInfo)
    assert isinstance(bad, BadRequest)
    assert isinstance(info, ErrorInfo)
    assert 0 < len(bad.field_violations) <= MAX_VIOLATIONS
    assert info.metadata["violationsOmitted"] == str(300 - len(bad.field_violations))
    assert status.ByteSize() <= MAX_STATUS_BYTES
    assert len(status.message.encode()) <= 1024


def test_short_faults_are_told_up_to_the_limit() -> None:
    faults = [Fault(path=f"a[{n}]", reason="REQUIRED", message="must be given") for n in range(25)]

    status = to_fitting_status(told(refusals.InvalidArgument(faults)), "c-1")

    bad, info = detail(status, BadRequest), detail(status, ErrorInfo)
    assert isinstance(bad, BadRequest)
    assert isinstance(info, ErrorInfo)
    assert len(bad.field_violations) == 25
    assert "violationsOmitted" not in info.metadata


def test_metadata_alone_cannot_make_the_status_too_large() -> None:
    metadata = {f"key{n}": "ü" * 2_000 for n in range(50)}

    status = to_fitting_status(told(refusals.NotFound("THING_NOT_FOUND", "no", **metadata)), "c-1")

    assert status.ByteSize() <= MAX_STATUS_BYTES


def test_an_http_body_carries_every_fault() -> None:
    faults = [Fault(path=f"a[{n}]", reason="REQUIRED", message="must be given") for n in range(300)]

    _, document = to_json(told(refusals.InvalidArgument(faults)), "c-1")

    [violations] = [d["fieldViolations"] for d in document["error"]["details"] if "fieldViolations" in d]
    assert len(violations) == 300


def test_texts_that_no_protobuf_can_hold_are_told_without_what_is_wrong_with_them() -> None:
    failure = told(refusals.InvalidArgument.of("a\ud800", "INVALID_VALUE", "b\udfff"))

    assert to_fitting_status(failure, "c-1").message == "a?: b?"
