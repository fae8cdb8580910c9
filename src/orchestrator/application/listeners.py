"""Who listens to what: the journeys of a project that take subjects in, or would if they were not paused, as its
definitions stand now.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from asyncpg import Connection, Record

from orchestrator.application.versions import Prepared, Versions
from orchestrator.domain.entry import Gone, SegmentContract, TriggerContract
from orchestrator.domain.journey import JourneyVersion
from orchestrator.domain.trigger_contract import MAX_EVENT_AGE, Contract, EntryCondition
from orchestrator.predicates.faults import Unreadable
from orchestrator.predicates.parse import About, parse
from orchestrator.predicates.paths import split_path
from orchestrator.predicates.tree import Everyone, Not, Predicate
from orchestrator.storage import catalog, conversions, event_names

logger = logging.getLogger(__name__)

#: Holds for no one.
_NOBODY = Not(clause=Everyone())


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """A journey that is active or paused, and how it listens; `contract` None: it does not any more."""

    prepared: Prepared
    goal_revision: int
    contract: TriggerContract | SegmentContract | None
    audience_id: str | None
    audience: Predicate | Gone | None

    @property
    def version(self) -> JourneyVersion:
        return self.prepared.version

    @property
    def journey_id(self) -> str:
        return self.version.journey_id

    @property
    def asked(self) -> list[Predicate]:
        """What is asked about a subject that would enter, and then on its first steps."""
        asked = list(self.prepared.asked)
        if self.audience is not None and not isinstance(self.audience, Gone):
            asked.append(self.audience)
        if (of_contract := self.asked_by_contract) is not None:
            asked.append(of_contract)
        return asked

    @property
    def asked_by_contract(self) -> Predicate | None:
        """What the contract itself asks about a subject."""
        return self.contract.predicate if isinstance(self.contract, SegmentContract) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalog:
    """The listeners of a project: by the number of their event's name, or by segment and whether it is entered; and all
    of them by journey. `goals` are the events that goals have, or had, by the numbers of their names.
    """

    definitions_version: int
    of_events: Mapping[int, tuple[Listener, ...]]
    of_segments: Mapping[tuple[int, bool], tuple[Listener, ...]]
    of_journeys: Mapping[str, Listener]
    goals: Mapping[int, str]


async def read_catalog(conn: Connection[Record], versions: Versions, project: catalog.Current) -> Catalog:
    """May give numbers to names of events."""
    listening = await catalog.listening(conn, project.project_no)
    goals = await conversions.goal_names(conn, project.project_no)
    named = goals | {row.event_name for row in listening if row.event_name is not None}
    numbers = await event_names.ensure(conn, project.project_no, named)
    of_events: defaultdict[int, list[Listener]] = defaultdict(list)
    of_segments: defaultdict[tuple[int, bool], list[Listener]] = defaultdict(list)
    of_journeys: dict[str, Listener] = {}
    for row in listening:
        try:
            listener = await listener_of(conn, versions, project.project_no, row)
        except Unreadable as error:
            # The others go on. The doctor names it.
            logger.error(
                "the version of a journey does not read: it hears nothing",
                extra={"journey_id": row.journey_id, "error": type(error).__name__},
            )
            continue
        of_journeys[row.journey_id] = listener
        if row.event_name is not None:
            of_events[numbers[row.event_name]].append(listener)
        elif row.segment_no is not None:
            of_segments[row.segment_no, row.entered].append(listener)
    return Catalog(
        definitions_version=project.definitions_version,
        of_events={number: tuple(found) for number, found in of_events.items()},
        of_segments={way: tuple(found) for way, found in of_segments.items()},
        of_journeys=of_journeys,
        goals={numbers[name]: name for name in goals},
    )


async def listener_of(
    conn: Connection[Record], versions: Versions, project_no: int, row: catalog.Listening
) -> Listener:
    """A journey that starts on something, ready to listen."""
    prepared = await versions.get(conn, project_no, row.journey_id, row.latest_version)
    return Listener(
        prepared=prepared,
        goal_revision=row.goal_revision,
        contract=contract_of(row, prepared.version),
        audience_id=row.audience_id,
        audience=audience_of(row.audience_id, row.audience),
    )


async def deaf_listener(
    conn: Connection[Record], versions: Versions, project_no: int, journey_id: str
) -> Listener | None:
    """A journey that listens to nothing, for those who came when it did; None: it is gone, or was never published."""
    journey = await catalog.entered_by_hand(conn, project_no, journey_id, hold=False)
    if journey is None or journey.latest_version is None:
        return None
    return Listener(
        prepared=await versions.get(conn, project_no, journey_id, journey.latest_version),
        goal_revision=journey.goal_revision,
        contract=None,
        audience_id=journey.audience_id,
        audience=audience_of(journey.audience_id, journey.audience),
    )


def stored_predicate(document: Any, about: About) -> Predicate:
    """The tree of a predicate that was checked when it was saved. Raises Unreadable."""
    predicate, faults = parse(document, about=about)
    if predicate is None:
        raise Unreadable("a stored predicate", faults)
    return predicate


def audience_of(audience_id: str | None, document: Any) -> Predicate | Gone | None:
    """The audience a version names, as it stands now. One that does not read is as good as gone."""
    if audience_id is None:
        return None
    if document is None:
        return Gone()
    try:
        return stored_predicate(document, About.SUBJECT)
    except Unreadable:
        return Gone()


def contract_of(row: catalog.Listening, version: JourneyVersion) -> TriggerContract | SegmentContract:
    """How a journey listens: through a contract that any may name, or through its own."""
    own = version.definition.entry_condition
    return heard_through(row.trigger_contract_id or "", _contract(row)) if own is None else heard_by(own)


def heard_by(condition: EntryCondition) -> TriggerContract | SegmentContract:
    """How a journey listens that has a contract of its own."""
    return _heard("", condition.contract, condition.predicate)


def heard_through(contract_id: str, contract: Contract) -> TriggerContract | SegmentContract:
    """How a journey listens that names this contract."""
    if contract.predicate is None:
        return _heard(contract_id, contract, None)
    try:
        predicate = stored_predicate(contract.predicate, contract.about)
    except Unreadable:
        # Whoever comes is refused by name, and can be decided on again when it is mended. The doctor names it.
        predicate = _NOBODY
    return _heard(contract_id, contract, predicate)


def _heard(contract_id: str, contract: Contract, predicate: Predicate | None) -> TriggerContract | SegmentContract:
    if contract.segment_id is not None:
        return SegmentContract(
            trigger_contract_id=contract_id,
            segment_id=contract.segment_id,
            predicate=predicate,
            include_definition_changes=contract.include_definition_changes,
        )
    assert contract.event_name is not None, "a contract names an event or a segment"
    return TriggerContract(
        trigger_contract_id=contract_id,
        event_name=contract.event_name,
        predicate=predicate,
        entry_key_path=split_path(contract.entry_key_path) if contract.entry_key_path else (),
        max_event_age=contract.max_event_age,
    )


def _contract(row: catalog.Listening) -> Contract:
    return Contract(
        name="",
        event_name=row.event_name,
        predicate=row.predicate,
        entry_key_path=row.entry_key_path,
        max_event_age=row.max_event_age if row.max_event_age is not None else MAX_EVENT_AGE,
        segment_id=row.segment_id,
        include_definition_changes=row.include_definition_changes,
    )
