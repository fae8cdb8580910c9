"""Trigger contracts: made, changed, deleted. Callers own the transaction."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from asyncpg import Connection, Record

from orchestrator.application import authoring
from orchestrator.application.predicates import predicate_faults
from orchestrator.domain import audit as actions
from orchestrator.domain.etag import Expected
from orchestrator.domain.refusals import FailedPrecondition
from orchestrator.domain.resource import Page, Place, Resource
from orchestrator.domain.scope import Scope
from orchestrator.domain.trigger_contract import Contract, completed, edited, faults_in
from orchestrator.predicates.faults import Fault
from orchestrator.storage import journeys, segments
from orchestrator.storage.trigger_contracts import trigger_contracts

#: A refusal to delete names at most so many journeys.
USERS_NAMED = 20

TRIGGER_CONTRACT = authoring.Noun(
    name="triggerContract",
    prefix="trg",
    store=trigger_contracts,
    created=actions.TRIGGER_CONTRACT_CREATED,
    updated=actions.TRIGGER_CONTRACT_UPDATED,
    deleted=actions.TRIGGER_CONTRACT_DELETED,
)


async def create(conn: Connection[Record], scope: Scope, contract_id: str, contract: Contract) -> Resource[Contract]:
    """Make a trigger contract. Raises InvalidArgument with all faults, and AlreadyExists."""
    return await authoring.create(conn, scope, TRIGGER_CONTRACT, contract_id, completed(contract), _check)


async def get(conn: Connection[Record], scope: Scope, contract_id: str) -> Resource[Contract]:
    """Raises NotFound."""
    return await authoring.get(conn, scope, TRIGGER_CONTRACT, contract_id)


async def page(conn: Connection[Record], scope: Scope, after: Place | None, limit: int) -> Page[Contract]:
    """Newest first."""
    return await authoring.page(conn, scope, TRIGGER_CONTRACT, after, limit)


async def update(
    conn: Connection[Record], scope: Scope, contract_id: str, changes: Mapping[str, Any], expected: Expected
) -> Resource[Contract]:
    """Set the named fields. Raises NotFound, Conflict, InvalidArgument."""
    return await authoring.update(
        conn, scope, TRIGGER_CONTRACT, contract_id, lambda before: edited(before, changes), expected, _check
    )


async def delete(conn: Connection[Record], scope: Scope, contract_id: str, expected: Expected) -> None:
    """Raises NotFound, Conflict, and FailedPrecondition TRIGGER_CONTRACT_IN_USE while journeys name it."""

    async def refuse_in_use(_: Resource[Contract]) -> None:
        if users := await journeys.listening_through(conn, scope.project_no, contract_id, limit=USERS_NAMED):
            names = ", ".join(users)
            raise FailedPrecondition(
                "TRIGGER_CONTRACT_IN_USE",
                f"the trigger contract is used by {names}",
                [
                    Fault(path=f"journey/{user}", reason="TRIGGER_CONTRACT_IN_USE", message=f"names {contract_id}")
                    for user in users
                ],
                triggerContractId=contract_id,
                users=names,
            )

    await authoring.delete(conn, scope, TRIGGER_CONTRACT, contract_id, expected, refuse_in_use)


async def _check(
    conn: Connection[Record], project_no: int, contract: Contract, changed: Collection[str]
) -> list[Fault]:
    faults = faults_in(contract, "")
    segment_id = contract.segment_id
    if "segment_id" in changed and segment_id is not None and await missing_segments(conn, project_no, [contract]):
        faults.append(Fault(path="segmentId", reason="SEGMENT_NOT_FOUND", message=f"there is no segment {segment_id}"))
    # An event's does not do for a segment, nor the other way round.
    if contract.predicate is not None and not {"predicate", "segment_id"}.isdisjoint(changed):
        faults += await predicate_faults(conn, project_no, contract.predicate, "predicate", about=contract.about)
    return faults


async def missing_segments(conn: Connection[Record], project_no: int, contracts: Iterable[Contract]) -> set[str]:
    """Of the segments that these contracts name, those that do not exist."""
    named = {contract.segment_id for contract in contracts if contract.segment_id is not None}
    return named - await segments.known(conn, project_no, named)
