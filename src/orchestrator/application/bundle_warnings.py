"""What keeps a project's own bundle from being imported elsewhere: names of what is gone. Callers own the transaction.

Where such a definition is, it goes on: what it names was deleted after it was saved or published. Elsewhere it is new.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from asyncpg import Connection, Record

from orchestrator.application.examination import examine
from orchestrator.application.project_definitions import Definitions
from orchestrator.application.publishing import told
from orchestrator.domain.bundle import Bundle
from orchestrator.domain.journey_form import stored
from orchestrator.domain.trigger_contract import Contract
from orchestrator.predicates.check import unknown_cohorts
from orchestrator.predicates.faults import Fault, under
from orchestrator.predicates.parse import About, parse


async def absences(conn: Connection[Record], project_no: int, bundle: Bundle, there: Definitions) -> list[Fault]:
    """Of the definitions `there`, of which the bundle was made. Drafts may name what is not there."""
    found: list[Fault] = []
    for at, segment in enumerate(bundle.segments):
        found += _unknown(segment.content.predicate, there, under(under("segments", at), "rules"))
    for at, audience in enumerate(bundle.audiences):
        found += _unknown(audience.content.predicate, there, under(under("audiences", at), "predicate"))
    for at, contract in enumerate(bundle.trigger_contracts):
        found += _of_contract(contract.content, there, under("triggerContracts", at))
    for at, journey in enumerate(bundle.journeys):
        if journey.is_published:
            goal = there.journeys[journey.id].goal
            findings = await examine(conn, project_no, stored(journey.definition), goal)
            for fault in told(findings, journey.definition).faults:
                path = under("journeys", at)
                found.append(replace(fault, path=under(path, fault.path) if fault.path else path))
    return found


def _of_contract(contract: Contract, there: Definitions, path: str) -> Iterator[Fault]:
    if contract.segment_id is not None and contract.segment_id not in there.segments:
        message = f"there is no segment {contract.segment_id}"
        yield Fault(path=under(path, "segmentId"), reason="SEGMENT_NOT_FOUND", message=message)
    if contract.about is About.SUBJECT:
        yield from _unknown(contract.predicate, there, under(path, "predicate"))


def _unknown(document: Any, there: Definitions, path: str) -> list[Fault]:
    predicate = parse(document)[0] if document is not None else None
    return unknown_cohorts(predicate, there.segments, path) if predicate is not None else []
