"""A worker's side of segments, timed: `python -m bench.segments_process DSN`."""

from __future__ import annotations

import asyncio
import resource
import sys
import time
from typing import Any

from bench.remote import obey, run
from orchestrator.application.inbox import Inbox
from orchestrator.application.ingest import Ingest
from orchestrator.application.segment_rules import read_rules
from orchestrator.application.segment_runs import SegmentRuns, prepare
from orchestrator.application.transactions import Transactions
from orchestrator.application.versions import Versions
from orchestrator.domain.event import Event
from orchestrator.domain.subject import BUCKETS
from orchestrator.storage import clock, memberships, segment_passes
from orchestrator.storage.pool import API_ROLE, WORKER_ROLE, open_pool

#: Parts of a pass that one worker process does beside each other, and consumers of the inbox that two have.
AT_ONCE = 2


async def main(dsn: str) -> None:
    transactions = Transactions(await open_pool(dsn, role=WORKER_ROLE, size=8, application_name="bench-segments"))
    api = Transactions(await open_pool(dsn, role=API_ROLE, size=4, application_name="bench-segments-api"))
    versions = Versions()
    runs = SegmentRuns(transactions, versions.rule_book)
    ingest = Ingest(api)

    async def whole_pass(asked: list[Any]) -> dict[str, float]:
        """A run of a project, and what came of it; the most memory this process ever took, in bytes."""
        project_no, kind = asked
        began = time.perf_counter()
        begun = await runs.begin(project_no, kind, None)
        assert begun is not None, "there is nothing to run"
        parts = iter(begun.parts)

        async def worker() -> None:
            for part in parts:
                await runs.work(project_no, begun.run_no, kind, None, part, lambda bucket: None)

        await asyncio.gather(*(worker() for _ in range(AT_ONCE)))
        finished = await runs.finish(project_no, begun.run_no)
        assert finished is not None
        seconds = time.perf_counter() - began
        peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return {
            "seconds": seconds,
            "peak": peak,
            "subjects": finished.subjects,
            "moved": finished.entered + finished.departed,
            "drift": finished.drift,
        }

    async def happen(asked: list[Any]) -> None:
        """One event of each of these subjects."""
        project_no, series, subject_ids = asked
        for start in range(0, len(subject_ids), 1000):
            batch = [
                Event(
                    event_id=f"{series}-{subject_id}", name="purchase", subject_id=subject_id, occurred_at=None,
                    properties=b"{}",
                )
                for subject_id in subject_ids[start : start + 1000]
            ]  # fmt: skip
            await ingest.take(project_no, batch, backfill=False)

    async def settle(_: object) -> float:
        """Seconds until the inbox is empty, with as many consumers as two workers have."""
        began = time.perf_counter()

        async def consumer() -> None:
            inbox = Inbox(transactions, versions)
            while keys := await inbox.waiting():
                if not (await inbox.work(keys)).subjects:
                    await asyncio.sleep(0.02)

        await asyncio.gather(*(consumer() for _ in range(AT_ONCE)))
        return time.perf_counter() - began

    async def some(asked: list[Any]) -> float:
        """Seconds that a pass over a project takes on one connection when it asks the first so many segments."""
        project_no, count = asked
        began = time.perf_counter()
        async with transactions.read(None) as conn:
            rules = await read_rules(conn, project_no)
        ours = sorted(number for number, name in rules.ids.items() if name.startswith(("plain-", "cohort-")))
        for first in range(0, BUCKETS, 64):
            async with transactions.write(None) as conn:
                await memberships.take_buckets(conn, project_no, first, first + 63)
                asked_now = {number: rules.asked[number] for number in ours[:count]}
                work = await prepare(conn, project_no, rules, asked_now, await clock.now(conn))
                await segment_passes.of_buckets(conn, project_no, first, first + 63, work)
        return time.perf_counter() - began

    await obey({"pass": whole_pass, "happen": happen, "settle": settle, "some": some})


if __name__ == "__main__":
    run(main(sys.argv[1]))
