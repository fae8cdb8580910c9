"""What a simulation or a backtest stands on: the draft as publishing would make it, or the newest version, and how it
is entered. Read in one transaction that writes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from asyncpg import Connection, Record

from orchestrator.application import journeys
from orchestrator.application.contents import Contents
from orchestrator.application.examination import existing
from orchestrator.application.listeners import audience_of, heard_by, heard_through
from orchestrator.application.publishing import refuse_faulty
from orchestrator.application.simulation_work import Content
from orchestrator.application.versions import Prepared, Versions
from orchestrator.domain.entry import Gone, SegmentContract, TriggerContract
from orchestrator.domain.journey import Goal, Journey, JourneyVersion
from orchestrator.domain.journey_form import stored
from orchestrator.domain.scope import Scope
from orchestrator.predicates.tree import Predicate
from orchestrator.storage import catalog, communications
from orchestrator.storage.audiences import audiences
from orchestrator.storage.trigger_contracts import trigger_contracts


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """A version and how it is entered. `goal`: where the version ends by it. `number` None: it is the draft."""

    journey: Journey
    number: int | None
    prepared: Prepared
    audience: Predicate | Gone | None
    contract: TriggerContract | SegmentContract | None
    transition: str
    project: catalog.Current
    goal: Goal | None

    @property
    def version(self) -> JourneyVersion:
        return self.prepared.version

    @property
    def asked_at_entry(self) -> list[Predicate]:
        """The predicates about the subject that are asked before it comes in."""
        asked = [self.audience] if self.audience is not None and not isinstance(self.audience, Gone) else []
        contract = self.contract
        if isinstance(contract, SegmentContract) and contract.predicate is not None:
            asked.append(contract.predicate)
        return asked


class Grounds:
    """One per process."""

    def __init__(self, versions: Versions) -> None:
        self._versions = versions
        self._contents = Contents()

    async def of(self, conn: Connection[Record], scope: Scope, journey_id: str) -> Ground:
        """Raises NotFound JOURNEY_NOT_FOUND, and FailedPrecondition INVALID_DEFINITION with every fault of a draft that
        could not be published.
        """
        project_no = scope.project_no
        journey = await journeys.get(conn, scope, journey_id)
        prepared = await self._prepared(conn, scope, journey)
        definition = prepared.version.definition
        audience: Predicate | Gone | None = None
        if definition.audience_id is not None:
            found = await audiences.find(conn, project_no, definition.audience_id)
            audience = audience_of(definition.audience_id, found.content.predicate if found is not None else None)
        contract: TriggerContract | SegmentContract | None = None
        transition = None
        own, contract_id = definition.entry_condition, definition.trigger_contract_id
        if own is not None:
            contract, transition = heard_by(own), own.contract.transition
        elif contract_id is not None:
            named = await trigger_contracts.find(conn, project_no, contract_id)
            if named is not None:
                contract, transition = heard_through(named.id, named.content), named.content.transition
        return Ground(
            journey=journey,
            number=None if journey.has_draft else journey.latest_version,
            prepared=prepared,
            audience=audience,
            contract=contract,
            transition=transition or "",
            project=(await catalog.current(conn, [project_no]))[project_no],
            goal=journey.goal if definition.exit_on_goal else None,
        )

    async def contents(
        self, conn: Connection[Record], project_no: int, version: JourneyVersion
    ) -> Mapping[str, Content]:
        """What would be sent, by communication."""
        contents = {}
        for communication_id, pinned in version.pinned.items():
            revision = pinned.content_revision
            if version.definition.follow_live_communications:
                revision = await communications.newest_like(conn, project_no, communication_id, pinned)
            content = await self._contents.get(conn, project_no, communication_id, revision)
            contents[communication_id] = Content(revision=revision, content=content)
        return contents

    async def _prepared(self, conn: Connection[Record], scope: Scope, journey: Journey) -> Prepared:
        """The draft as publishing would make it, or the newest version."""
        if not journey.has_draft:
            assert journey.latest_version is not None, "what was never published has a draft"
            return await self._versions.get(conn, scope.project_no, journey.journey_id, journey.latest_version)
        definition = stored(journey.definition)
        there = await existing(conn, scope.project_no, definition, journey.goal)
        refuse_faulty(journey.journey_id, journey.definition, there)
        return Prepared(
            JourneyVersion(
                journey_id=journey.journey_id,
                version=(journey.latest_version or 0) + 1,
                definition=definition,
                pinned=there.communications,
            )
        )
