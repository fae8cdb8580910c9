"""Looking a definition over, against what there is in its project."""

from __future__ import annotations

from asyncpg import Connection, Record

from orchestrator.application.predicates import cohort_sizes
from orchestrator.application.segment_rules import stored_rules
from orchestrator.domain import journey_graph
from orchestrator.domain.journey import Definition, Goal
from orchestrator.domain.journey_graph import Existing, Findings
from orchestrator.domain.trigger_contract import Contract
from orchestrator.predicates.facts import needs
from orchestrator.predicates.tree import Predicate
from orchestrator.storage import communications, projects, segments
from orchestrator.storage.audiences import audiences
from orchestrator.storage.trigger_contracts import trigger_contracts


async def existing(conn: Connection[Record], project_no: int, definition: Definition, goal: Goal) -> Existing:
    """Of what a definition names, that which exists now. `goal` is the journey's."""
    audience = await _audience(conn, project_no, definition.audience_id)
    contract_id = definition.trigger_contract_id
    contract = await trigger_contracts.find(conn, project_no, contract_id) if contract_id is not None else None
    asked = journey_graph.predicates_in(definition)
    heard = _cohorts_in(contract.content) if contract is not None else set()
    sent = journey_graph.communications_in(definition)
    of_steps = needs(asked).cohorts
    of_audience = needs(audience.values()).cohorts
    named = journey_graph.segments_in(definition)
    own = definition.entry_condition.contract if definition.entry_condition is not None else None
    trigger = own or (contract.content if contract is not None else None)
    return Existing(
        communications=await communications.pins(conn, project_no, sent) if sent else {},
        audiences=audience,
        trigger_contracts={contract.id} if contract is not None else set(),
        cohorts=await segments.known(conn, project_no, of_steps | of_audience | heard | named),
        heard_cohorts=heard,
        contract_asks=trigger is not None and trigger.segment_id is not None and trigger.predicate is not None,
        has_goal=goal.event_name is not None,
        has_entry_keys=trigger is not None and trigger.segment_id is None,
        event_retention=(await projects.get(conn, project_no)).settings.event_retention,
        sizes=await cohort_sizes(conn, project_no, of_steps),
    )


async def examine(conn: Connection[Record], project_no: int, definition: Definition, goal: Goal) -> Findings:
    """Everything that is wrong or odd about a definition; paths start at it."""
    return journey_graph.examine(definition, await existing(conn, project_no, definition, goal))


def _cohorts_in(contract: Contract) -> set[str]:
    """The segments that a trigger contract names."""
    if contract.segment_id is None:
        return set()
    predicate = stored_rules(contract.predicate) if contract.predicate is not None else None
    return {contract.segment_id} | (set(needs([predicate]).cohorts) if predicate is not None else set())


async def _audience(conn: Connection[Record], project_no: int, audience_id: str | None) -> dict[str, Predicate]:
    found = await audiences.find(conn, project_no, audience_id) if audience_id is not None else None
    if found is None:
        return {}
    return {found.id: stored_rules(found.content.predicate)}
