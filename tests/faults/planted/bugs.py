"""Twelve bugs that products of this kind have had, and the invariant that each breaks."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

HOOK = Path(__file__).parent / "hook"

#: (was, instead)
Change = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bug:
    """`changes`: texts of modules, as they were and as they are instead, in the processes whose command line has the
    word `only`, or in all. `statement`: what is done to the database as well. `scenario`: what is gone through with it
    (scenarios.py).
    """

    name: str
    invariant: str
    scenario: str
    changes: Mapping[str, Sequence[Change]] = field(default_factory=dict)
    only: str = ""
    statement: str = ""

    def environment(self, directory: Path) -> dict[str, str]:
        """What processes are given so that they have it."""
        file = directory / "bug.json"
        file.write_text(json.dumps({"only": self.only, "changes": {m: list(c) for m, c in self.changes.items()}}))
        return {"PYTHONPATH": str(HOOK), "PLANTED": str(file)}


_SERVER, _WORKER = "serve", "workers.main"

BUGS: tuple[Bug, ...] = (
    Bug(
        name="a unique key is dropped",
        invariant="I1",
        scenario="repeated",
        statement="ALTER TABLE event_ids DROP CONSTRAINT event_ids_pkey",
    ),
    Bug(
        name="a message goes out before it is reserved",
        invariant="I3",
        scenario="signed_up",
        only=_WORKER,
        changes={
            "orchestrator.application.sending": [
                (
                    "class Sending:\n",
                    "_LATER: dict[Any, Any] = {}\n\n\n"
                    "async def _remember(earlier: Any, reservation: Any) -> int:\n"
                    "    _LATER[reservation.execution_id, reservation.seq] = reservation\n"
                    "    return earlier.attempt + 1 if earlier is not None else 1\n\n\n"
                    "class Sending:\n",
                ),
                (
                    "attempt = await sends.reserve(\n            conn,\n",
                    "attempt = await _remember(\n            earlier,\n",
                ),
                (
                    "            async with self._transactions.write(None) as conn:\n"
                    "                effect = await self._settle_and_decide(",
                    "            later = _LATER.pop((reserved.execution_id, reserved.seq), None)\n"
                    "            if later is not None:\n"
                    "                async with self._transactions.write(None) as conn:\n"
                    "                    await sends.reserve(conn, replace(later, reserved_at=await clock.now(conn)))\n"
                    "            async with self._transactions.write(None) as conn:\n"
                    "                effect = await self._settle_and_decide(",
                ),
            ]
        },
    ),
    Bug(
        name="a request is acknowledged before the commit",
        invariant="I1",
        scenario="server_killed_when_it_has_answered",
        only=_SERVER,
        changes={
            "orchestrator.application.transactions": [
                (
                    "        async with connection(self._pool, project_no, self._places) as conn:\n"
                    "            transaction = conn.transaction()\n"
                    "            await transaction.start()\n"
                    "            try:\n"
                    "                yield conn\n"
                    "            except BaseException:\n"
                    "                await _roll_back(transaction)\n"
                    "                raise\n"
                    "            canceled = await _see_through(transaction.commit())\n"
                    "            if committed is not None:\n"
                    "                committed()\n"
                    "            if canceled is not None:\n"
                    "                raise canceled\n",
                    "        borrowed = connection(self._pool, project_no, self._places)\n"
                    "        conn = await borrowed.__aenter__()\n"
                    "        transaction = conn.transaction()\n"
                    "        await transaction.start()\n"
                    "        try:\n"
                    "            yield conn\n"
                    "        except BaseException:\n"
                    "            await _roll_back(transaction)\n"
                    "            await borrowed.__aexit__()\n"
                    "            raise\n\n"
                    "        async def commit() -> None:\n"
                    "            await asyncio.sleep(0.25)\n"
                    "            await transaction.commit()\n"
                    "            if committed is not None:\n"
                    "                committed()\n"
                    "            await borrowed.__aexit__()\n\n"
                    "        self._late = ensure_future(commit())\n",
                )
            ]
        },
    ),
    Bug(
        name="what Temporal is to be told is not written down",
        invariant="I7",
        scenario="server_killed_when_it_has_enrolled",
        only=_SERVER,
        changes={
            "orchestrator.storage.outbox": [
                (
                    "INSERT INTO outbox (project_no, bucket, subject_no, execution_id, kind, workflow_id, "
                    "leased_until, created_at,\n                    behind, trace)\n"
                    "SELECT i.project_no, i.bucket, i.subject_no, i.execution_id, $5, i.workflow_id, $7, $8, "
                    "i.behind, i.trace\n",
                    "SELECT -row_number() OVER () AS outbox_no, $5::text, $7::timestamptz, $8::timestamptz\n",
                ),
                (
                    "execution_id, workflow_id, behind, trace)\nRETURNING outbox_no\n",
                    "execution_id, workflow_id, behind, trace)\n",
                ),
            ]
        },
    ),
    Bug(
        name="what comes is counted, whether it is new or not",
        invariant="I6",
        scenario="repeated",
        only=_SERVER,
        changes={
            "orchestrator.storage.ingest": [
                (
                    "    rows = await conn.fetch(_CLAIM, project_no, event_hashes, buckets, subject_ids, now)\n",
                    "    rows = await conn.fetch(_CLAIM, project_no, event_hashes, buckets, subject_ids, now)\n"
                    "    await conn.execute(\n"
                    "        'UPDATE subject_event_state AS c SET total = c.total + 1 '\n"
                    "        '  FROM unnest($2::smallint[], $3::text[]) AS b (bucket, subject_id) '\n"
                    "        '  JOIN subjects AS s ON s.project_no = $1 AND s.bucket = b.bucket '\n"
                    "        '   AND s.subject_id = b.subject_id '\n"
                    "        ' WHERE c.project_no = $1 AND c.bucket = s.bucket AND c.subject_no = s.subject_no '\n"
                    "        '   AND c.name_no > 0 AND $4',\n"
                    "        project_no, buckets, subject_ids, len(rows) < len(event_hashes),\n"
                    "    )\n",
                )
            ]
        },
    ),
    Bug(
        name="the provider's key is made of the run's id",
        invariant="I2",
        scenario="signed_up",
        only=_WORKER,
        changes={
            "orchestrator.application.sending": [
                (
                    "        return idempotency_key(self.execution_id, self.seq)\n",
                    "        from temporalio import activity\n\n"
                    "        run = activity.info().workflow_run_id\n"
                    "        return hashlib.sha256(f'{self.execution_id}/{run}/{self.seq}'.encode()).hexdigest()\n",
                )
            ]
        },
    ),
    Bug(
        name="the provider's key is made of the attempt",
        invariant="I2",
        scenario="worker_killed_in_mid_send",
        only=_WORKER,
        changes={
            "orchestrator.application.sending": [
                (
                    "        return idempotency_key(self.execution_id, self.seq)\n",
                    "        repeat = f'/{self.attempt}' if self.attempt > 1 else ''\n"
                    "        return hashlib.sha256(f'{self.execution_id}/{self.seq}{repeat}'.encode()).hexdigest()\n",
                )
            ]
        },
    ),
    Bug(
        name="pokes are counted after asking",
        invariant="I5",
        scenario="told_as_they_begin_to_wait",
        only=_WORKER,
        changes={
            "workers.workflows.journey_execution": [
                (
                    "            asked = self._pokes\n            question = Question(\n",
                    "            question = Question(\n",
                ),
                ("            seen, effect = asked, answer\n", "            seen, effect = self._pokes, answer\n"),
            ]
        },
    ),
    Bug(
        name="consumers take subjects without a lease",
        invariant="I5",
        scenario="told_while_it_is_decided_that_they_wait",
        only=_WORKER,
        changes={
            # What they have of a subject is the lock of its row, for as long as their transaction lasts.
            "orchestrator.storage.inbox": [("\n          FOR NO KEY UPDATE SKIP LOCKED) AS s\n", ") AS s\n")],
        },
    ),
    Bug(
        name="whoever was frozen writes over who took over",
        invariant="I2",
        scenario="worker_frozen_in_mid_send",
        only=_WORKER,
        changes={
            "orchestrator.storage.sends": [
                ("   AND state = 'dispatching' AND attempt = $10\n", "   AND state = 'dispatching' AND $10::int > 0\n"),
            ],
            # The net in front of it: who is told that his try is not his any more, leaves it.
            "workers.activities.tries": [
                ("        trying.cancel()\n        raise\n", "        return await trying\n"),
            ],
        },
    ),
    Bug(
        name="a statement has lost its project",
        invariant="I12",
        scenario="two_projects",
        only=_SERVER,
        statement="ALTER TABLE subjects DISABLE ROW LEVEL SECURITY",
        changes={
            "orchestrator.storage.subjects": [
                (
                    "WHERE project_no = $1 AND ($2::bigint IS NULL OR subject_no < $2)",
                    "WHERE $1::int IS NOT NULL AND ($2::bigint IS NULL OR subject_no < $2)",
                )
            ]
        },
    ),
    Bug(
        name="who is forgotten keeps their events",
        invariant="I10",
        scenario="somebody_forgotten",
        only=_WORKER,
        changes={
            "orchestrator.storage.erasing": [
                ('"subject_event_state", "events",\n', '"subject_event_state",\n'),
            ]
        },
    ),
)  # fmt: skip
