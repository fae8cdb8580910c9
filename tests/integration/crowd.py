"""A project with segments, its subjects, and the workers' side of keeping membership."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import count
from typing import TYPE_CHECKING, Any

from orchestrator.application import segments
from orchestrator.application.inbox import Inbox
from orchestrator.application.ingest import Ingest
from orchestrator.application.segment_rules import read_rules
from orchestrator.application.segment_runs import SegmentRuns
from orchestrator.application.subjects import upsert
from orchestrator.application.transactions import Transactions
from orchestrator.application.versions import Versions
from orchestrator.domain.event import Event
from orchestrator.domain.scope import SubjectKey
from orchestrator.domain.segment import DYNAMIC, STATIC, Segment
from orchestrator.domain.subject import SubjectPatch
from orchestrator.predicates.evaluate import evaluate
from orchestrator.storage import clock, facts, memberships
from orchestrator.storage.segment_runs import Finished, Kind
from tests.integration.journey_world import World

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record

#: Of every project.
SYSTEM = {"everyone", "new_last_7_days", "active_last_30_days", "dormant_90_days"}


class Crowd:
    """What people do to segments and subjects goes through the API's role, keeping membership through the workers'."""

    def __init__(self, world: World, pool: Pool[Record]) -> None:
        self.world = world
        self.owner = world.owner
        self.project_no = world.scope.project_no
        transactions, versions = Transactions(pool), Versions()
        self.transactions = transactions
        self.inbox = Inbox(transactions, versions)
        self.runs = SegmentRuns(transactions, versions.rule_book)
        self.ingest = Ingest(world.transactions)
        self._events = count()

    @classmethod
    async def make(cls, owner: Connection[Record], api_pool: Pool[Record], worker_pool: Pool[Record]) -> Crowd:
        return cls(await World.make(owner, api_pool), worker_pool)

    async def segment(self, segment_id: str, rules: dict[str, Any] | None) -> None:
        """A segment with rules, or a list."""
        kind = STATIC if rules is None else DYNAMIC
        await self.world.do(
            segments.create, segment_id, Segment(kind=kind, name=segment_id, description="", predicate=rules)
        )

    async def happened(
        self, *events: tuple[str, str, datetime | None], backfill: bool = False, **properties: Any
    ) -> None:
        """(subject id, event name, when) of each."""
        batch = [
            Event(
                event_id=f"e{next(self._events)}",
                name=name,
                subject_id=subject_id,
                occurred_at=at,
                properties=json.dumps(properties).encode(),
            )
            for subject_id, name, at in events
        ]
        await self.ingest.take(self.project_no, batch, backfill=backfill)

    async def known(self, **attributes: Mapping[str, Any]) -> None:
        """Subjects with these attributes, by id."""
        async with self.world.transactions.write(self.project_no) as conn:
            patches = [
                SubjectPatch(subject_id=subject_id, attributes=dict(given), path="")
                for subject_id, given in attributes.items()
            ]
            await upsert(conn, self.project_no, patches)

    async def settle(self) -> None:
        """Work until nothing waits and nothing is due."""
        while keys := await self.inbox.waiting():
            await self.inbox.work(keys)

    async def run(self, kind: Kind, segment_id: str | None = None) -> Finished | None:
        """Do a run as a workflow would; None when there was none."""
        segment_no = await self.number(segment_id) if segment_id is not None else None
        begun = await self.runs.begin(self.project_no, kind, segment_no)
        if begun is None:
            return None
        for part in begun.parts:
            await self.runs.work(self.project_no, begun.run_no, kind, segment_no, part, lambda bucket: None)
        return await self.runs.finish(self.project_no, begun.run_no)

    async def spoil(self, segment_id: str, rules: Mapping[str, Any]) -> None:
        """Give a segment rules that nobody may save."""
        await self.owner.execute(
            "UPDATE segments SET predicate = $3 WHERE project_no = $1 AND segment_id = $2",
            self.project_no,
            segment_id,
            json.dumps(rules),
        )
        await self.owner.execute(
            "UPDATE projects SET definitions_version = definitions_version + 1 WHERE project_no = $1", self.project_no
        )

    async def jam(self) -> None:
        """Let no pass over this project be written down."""
        constraint = f"CHECK (project_no <> {self.project_no}) NOT VALID"
        await self.owner.execute(f"ALTER TABLE segment_run_chunks ADD CONSTRAINT jammed {constraint}")

    async def number(self, segment_id: str) -> int:
        number: int = await self.owner.fetchval(
            "SELECT segment_no FROM segments WHERE project_no = $1 AND segment_id = $2", self.project_no, segment_id
        )
        return number

    async def members(self, segment_id: str) -> set[str]:
        page = await self.world.look(segments.members, segment_id, after=segments.FIRST, limit=1000)
        return {member.subject_id for member in page.members}

    async def transitions(self, segment_id: str) -> list[tuple[str, bool, str]]:
        """(subject id, entered, cause), in order."""
        rows = await self.owner.fetch(
            """
            SELECT s.subject_id, t.entered, t.cause FROM segment_transitions AS t
              JOIN subjects AS s USING (project_no, bucket, subject_no)
             WHERE t.project_no = $1 AND t.segment_no = $2 ORDER BY t.transition_no
            """,
            self.project_no,
            await self.number(segment_id),
        )
        return [(row["subject_id"], row["entered"], row["cause"]) for row in rows]

    async def wrong(self) -> list[str]:
        """Everything that is not as the reference says: membership, the fold of transitions, sizes."""
        async with self.transactions.read(None) as conn:
            rules = await read_rules(conn, self.project_no)
            rows = await conn.fetch(
                "SELECT bucket, subject_no, subject_id FROM subjects WHERE project_no = $1", self.project_no
            )
            ids = {
                SubjectKey(project_no=self.project_no, bucket=row["bucket"], subject_no=row["subject_no"]): row[2]
                for row in rows
            }
            known = await facts.load(conn, self.project_no, list(ids), rules.needs)
            now = await clock.now(conn)
            stored = await _stored(conn, self.project_no)
            folded = await _folded(conn, self.project_no)
            sizes = await memberships.sizes(conn, self.project_no, [*rules.asked, *rules.lists.values()])
            listed = await _listed(conn, self.project_no)
        faults = []
        for name, number in rules.lists.items():
            if folded.get(number, set()) != listed.get(number, set()):
                faults.append(f"{name}: transitions fold to something else")
            if sizes.get(number, 0) != len(listed.get(number, ())):
                faults.append(f"{name}: members are counted as {sizes.get(number, 0)}")
        for number, asked in rules.asked.items():
            name = rules.ids[number]
            wanted = {ids[key] for key, one in known.items() if evaluate(asked, one.facts, now)}
            found = {ids[key] for key in ids if number in stored.get((key.bucket, key.subject_no), ())}
            if wanted != found:
                faults.append(f"{name}: {sorted(wanted - found)} are missing, {sorted(found - wanted)} too many")
            if folded.get(number, set()) != {(key.bucket, key.subject_no) for key in ids if ids[key] in found}:
                faults.append(f"{name}: transitions fold to something else")
            if sizes.get(number, 0) != len(found):
                faults.append(f"{name}: {len(found)} members are counted as {sizes.get(number, 0)}")
        return faults


async def _stored(conn: Connection[Record], project_no: int) -> dict[tuple[int, int], Sequence[int]]:
    rows = await conn.fetch(
        "SELECT bucket, subject_no, segment_nos FROM subject_segments WHERE project_no = $1", project_no
    )
    return {(row["bucket"], row["subject_no"]): row["segment_nos"] for row in rows}


async def _listed(conn: Connection[Record], project_no: int) -> dict[int, set[tuple[int, int]]]:
    """List → who is on it."""
    lists: dict[int, set[tuple[int, int]]] = {}
    rows = await conn.fetch(
        "SELECT bucket, subject_no, segment_no FROM static_members WHERE project_no = $1", project_no
    )
    for bucket, subject_no, segment_no in rows:
        lists.setdefault(segment_no, set()).add((bucket, subject_no))
    return lists


async def _folded(conn: Connection[Record], project_no: int) -> dict[int, set[tuple[int, int]]]:
    """Segment number → who is in it, if one believes the transitions, none of which may be told twice."""
    within: dict[int, set[tuple[int, int]]] = {}
    rows = await conn.fetch(
        "SELECT bucket, subject_no, segment_no, entered FROM segment_transitions WHERE project_no = $1 "
        "ORDER BY transition_no",
        project_no,
    )
    for bucket, subject_no, segment_no, entered in rows:
        members = within.setdefault(segment_no, set())
        assert ((bucket, subject_no) in members) is not entered, "a transition is told twice"
        (members.add if entered else members.remove)((bucket, subject_no))
    return within
