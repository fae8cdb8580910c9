"""Trigger contracts: made, changed, deleted. Callers own the transaction."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from asyncpg import Connection, Record

from orchestrator.application import authoring
from orchestrator.application.predicates import predicate_faults
from orchestrator.domain import audit as actions
from orchestrator.domain.etag import Expected
from orchestrator.domain.resource import Page, Place, Resource
from orchestrator.domain.scope import Scope
from orchestrator.domain.trigger_contract import Contract, faults_in
from orchestrator.predicates.faults import Fault
from orchestrator.predicates.parse import About
from orchestrator.storage.trigger_contracts import trigger_contracts

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
    return await authoring.create(conn, scope, TRIGGER_CONTRACT, contract_id, contract, _check)


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
        conn, scope, TRIGGER_CONTRACT, contract_id, lambda before: replace(before, **changes), expected, _check
    )


async def delete(conn: Connection[Record], scope: Scope, contract_id: str, expected: Expected) -> None:
    """Journeys that name it are no longer started by events. Raises NotFound, Conflict."""
    await authoring.delete(conn, scope, TRIGGER_CONTRACT, contract_id, expected)


async def _check(
    conn: Connection[Record], project_no: int, contract: Contract, changed: Collection[str]
) -> list[Fault]:
    faults = faults_in(contract, "")
    if "predicate" in changed and contract.predicate is not None:
        faults += await predicate_faults(conn, project_no, contract.predicate, "predicate", about=About.EVENT)
    return faults
