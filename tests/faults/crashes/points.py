"""All crash points, by what the product does when it comes to them.

A point that is called "uncommitted" lies before the commit: what was done there is undone. All others lie behind one,
where somebody is still to be told of it.
"""

from __future__ import annotations

from tests.faults.crashes.point import Point

#: Calls that change something: one point before the commit, and one between it and the answer, for each.
CALLS = {
    "EnrollSubjects": "enrolling",
    "PublishJourney": "publishing",
    "ArchiveJourney": "archiving",
    "CancelExecutions": "canceling",
    "CreateEnrollmentJob": "jobs",
    "CreateSegment": "segments",
    "ForgetSubject": "erasing",
    "RotateApiKey": "keys",
    "MergeSubjects": "merging",
    "UpdatePreferences": "preferences",
}

_SEND = "workers.activities.send"
_EFFECTS = "workers.activities.effects"
_SWEEPER = "workers.sweeper"
_APPLICATION = "orchestrator.application"
_RELAY = f"{_APPLICATION}.relay"
_RUNS = f"{_APPLICATION}.segment_runs"
_ERASURES = f"{_APPLICATION}.erasures"


def _sweeping(name: str, group: str, what: str) -> Point:
    """Between two pages of what workers do that nobody waits for."""
    text = f"""
        while not self._stopping.is_set() and await self.{what}.step():
            <<>>
            pass
"""
    return Point(name=name, group=group, module=_SWEEPER, text=text)


def _claimed(name: str, group: str, errands: str) -> Point:
    """Work was claimed that Temporal is to be told of."""
    text = f"""
        claimed = await self._requests.claim_untold()
        <<if claimed and type(self).__name__ == {errands!r}>>
"""
    return Point(name=name, group=group, module=f"{_APPLICATION}.errands", text=text)


def _erased(phase: str) -> Point:
    text = f"""
    await erasures.go_on(conn, held, following, phases, now)
    <<if phase.value == {phase!r}>>
"""
    return Point(name=f"erased of {phase}, uncommitted", group="erasing", module=_ERASURES, text=text)


POINTS: tuple[Point, ...] = (
    *(
        point
        for rpc, group in CALLS.items()
        for point in (
            Point(
                name=f"{rpc}, uncommitted",
                group=group,
                module=f"{_APPLICATION}.transactions",
                text=f"""
            await idempotency.settle(conn, key, response)
            <<if key.method.endswith("/{rpc}")>>
""",
            ),
            Point(
                name=f"{rpc} unanswered",
                group=group,
                module=f"{_APPLICATION}.transactions",
                text=f"""
            answered = await self._claimed(key, fingerprint, work, committed)
            <<if method.endswith("/{rpc}")>>
""",
            ),
        )
    ),
    # Events as they come in.
    Point(
        name="names of events learned",
        group="ingesting",
        module=f"{_APPLICATION}.ingest",
        text="""
                numbers = await event_names.ensure(conn, project_no, unknown)
            <<>>
""",
    ),
    Point(
        name="events stored, uncommitted",
        group="ingesting",
        module=f"{_APPLICATION}.ingest",
        text="""
                    new += await self._store_at(conn, project_no, batch, times, begun, backfill=backfill, hops=hops)
                    <<if new>>
""",
    ),
    Point(
        name="events stored",
        group="ingesting",
        module=f"{_APPLICATION}.ingest",
        text="""
        def tell() -> None:
            <<if new>>
""",
    ),
    Point(
        name="events unanswered",
        group="ingesting",
        module="orchestrator.api.handlers.events",
        text="""
        <<>>
        return ingest_response(""",
    ),
    # The inbox and the outbox.
    Point(
        name="inbox worked through, uncommitted",
        group="entering",
        module=f"{_APPLICATION}.inbox",
        text="""
            await refused.write(conn)
            <<>>
""",
    ),
    Point(
        name="inbox worked through",
        group="entering",
        module="workers.inbox",
        text="""
        <<if told>>
        self._telling_behind.begin(self._relay, [notice for notice in told if notice.behind])
""",
    ),
    Point(
        name="outbox told",
        group="telling",
        module=_RELAY,
        text="""
        done = [answer.notice.outbox_no for answer in answers if isinstance(answer, _Taken)]
        <<if done>>
""",
    ),
    Point(
        name="outbox marked, uncommitted",
        group="telling",
        module=_RELAY,
        text="""
            await outbox.delete(conn, done)
            <<if done>>
""",
    ),
    Point(
        name="outbox claimed",
        group="telling",
        module=_RELAY,
        text="""
        <<if notices>>
        told = await self.tell(notices, lease=LEASE)
""",
    ),
    Point(
        name="outbox swept",
        group="telling",
        module=_RELAY,
        text="""
        <<if notices>>
        return Swept(taken=len(notices) + len(orphans), told=told + len(orphans))
""",
    ),
    # Executions.
    Point(
        name="advanced, uncommitted",
        group="sending",
        module=f"{_APPLICATION}.advance",
        text="return <<await answer(conn, self._versions, found)>>",
    ),
    Point(
        name="advanced",
        group="sending",
        module="workers.activities.advance",
        text="return <<await self.advance_execution(question)>>",
    ),
    Point(
        name="send reserved",
        group="sending",
        module=_SEND,
        text="""
                return reserved
            <<>>
""",
    ),
    Point(
        name="turn of a channel taken",
        group="crowding",
        module=_SEND,
        text="""
        wait = await self.sending.take_turn(reserved)
        <<if wait is not None and reserved.rate is not None>>
""",
    ),
    Point(
        name="send answered",
        group="sending",
        module=_SEND,
        text="""
            receipt = await self._dispatch(reserved)
            <<if receipt is not None>>
""",
    ),
    Point(
        name="send settled, uncommitted",
        group="sending",
        module=f"{_APPLICATION}.sending",
        text="""
                watched = await self._watched(conn, reserved)
                <<>>
""",
    ),
    Point(
        name="send settled",
        group="sending",
        module=f"{_APPLICATION}.sending",
        text="""
        <<>>
        if watched and receipt.state == FAILED:
""",
    ),
    Point(
        name="sends let out, uncommitted",
        group="crowding",
        module=f"{_APPLICATION}.channel_turns",
        text="""
            <<if told>>
            return await outbox.insert_pokes(conn, told, await clock.now(conn))
""",
    ),
    Point(
        name="sends let out",
        group="crowding",
        module="workers.channel_turns",
        text="<<await self._letting_out.step(project_no, channel)>>",
    ),
    Point(
        name="call reserved",
        group="effects",
        module=_EFFECTS,
        text="""
                return reserved
            <<>>
""",
    ),
    Point(
        name="call about to be made",
        group="effects",
        module=_EFFECTS,
        text="""
                <<>>
                made = await self.calls.make(call)
""",
    ),
    Point(
        name="call answered",
        group="effects",
        module=_EFFECTS,
        text="""
            receipt = await self._made(reserved, task)
            <<>>
""",
    ),
    Point(
        name="call settled, uncommitted",
        group="effects",
        module=f"{_APPLICATION}.calling",
        text="return <<await self._settled(conn, found, reserved, receipt)>>",
    ),
    Point(
        name="call settled",
        group="effects",
        module=_EFFECTS,
        text="return <<await self.calling.settle(question, reserved, receipt)>>",
    ),
    *(
        point
        for name, kind in (("subject updated", "UpdateSubject"), ("event emitted", "EmitEvent"))
        for point in (
            Point(
                name=f"{name}, uncommitted",
                group="effects",
                module=f"{_APPLICATION}.changing",
                text=f"""
            <<if isinstance(plan.step, {kind})>>
            effect = await record(conn, found, decide(found, done))
""",
            ),
            Point(
                name=name,
                group="effects",
                module=f"{_APPLICATION}.changing",
                text=f"""
        <<if isinstance(plan.step, {kind})>>
        if done.result is Result.EXECUTED:
            await self._bell.ring()
""",
            ),
        )
    ),
    Point(
        name="arm chosen, uncommitted",
        group="effects",
        module=f"{_APPLICATION}.choosing",
        text="""
            arm_id = await self._arm(conn, found, step)
            <<>>
""",
    ),
    Point(
        name="arm chosen",
        group="effects",
        module=_EFFECTS,
        text="return <<await self.choosing(question)>>",
    ),
    # Definitions and keys.
    Point(
        name="version written, journey not told, uncommitted",
        group="publishing",
        module=f"{_APPLICATION}.publishing",
        text="""
    await journey_versions.insert(conn, scope.project_no, version)
    <<>>
""",
    ),
    Point(
        name="key made, older one not ended, uncommitted",
        group="keys",
        module=f"{_APPLICATION}.api_keys",
        text="""
        <<>>
        ends = now + overlap
""",
    ),
    Point(
        name="policy learned",
        group="learning",
        module=f"{_APPLICATION}.policy_updates",
        text="""
        learned = await asyncio.to_thread(learn, before, age)
        <<if learned.is_news>>
""",
    ),
    Point(
        name="policy written, uncommitted",
        group="learning",
        module=f"{_APPLICATION}.policy_updates",
        text="return <<await policy_versions.insert(conn, version)>> or None",
    ),
    Point(
        name="policy written",
        group="learning",
        module=f"{_APPLICATION}.policy_updates",
        text="""
                done = await self._update(journey, learner, step)
                <<if done>>
""",
    ),
    _claimed("policies claimed", "learning", "PolicyErrands"),
    # Crowds, page by page.
    Point(
        name="page of a job, uncommitted",
        group="jobs",
        module=f"{_APPLICATION}.enrollment_pages",
        text="""
                told = await self._work(conn, found, found.job, most, leave_behind=leave_behind)
                <<if told>>
""",
    ),
    Point(
        name="page of a job",
        group="jobs",
        module=f"{_APPLICATION}.enrollment_pages",
        text="""
        <<if told>>
        return Step(worked=True, told=told, rate=found.job.rate)
""",
    ),
    Point(
        name="page of a carry, uncommitted",
        group="carrying",
        module=f"{_APPLICATION}.carrying",
        text="""
        await carries.mark_and_poke(conn, under_way, goes, now)
        <<>>
""",
    ),
    _sweeping("page of a carry", "carrying", "_carries"),
    Point(
        name="gone over, uncommitted",
        group="carrying",
        module=f"{_APPLICATION}.advance",
        text="return <<await record(conn, there, decision, raises_seq=True)>>",
    ),
    Point(
        name="page of a cancellation, uncommitted",
        group="canceling",
        module=f"{_APPLICATION}.canceling",
        text="""
            await cancellations.go_on(conn, under_way, marked, page.place, now)
            <<>>
""",
    ),
    _sweeping("page of a cancellation", "canceling", "_cancellations"),
    Point(
        name="page of an archived journey, uncommitted",
        group="archiving",
        module=f"{_APPLICATION}.closings",
        text="return <<await journey_pokes.poke_some(conn, await clock.now(conn), self._page)>>",
    ),
    _sweeping("page of an archived journey", "archiving", "_closings"),
    Point(
        name="page of held entries, uncommitted",
        group="holding",
        module=f"{_APPLICATION}.held_entries",
        text="""
                        moved += await held_entries.release(conn, one.project_no, one.journey_id, room, now)
                        <<if moved>>
""",
    ),
    _sweeping("page of held entries", "holding", "_held"),
    Point(
        name="page of a replay, uncommitted",
        group="replaying",
        module=f"{_APPLICATION}.entry_replay_pages",
        text="""
        await entry_replays.record(conn, project_no, replay, place, now)
        <<>>
""",
    ),
    Point(
        name="page of a replay",
        group="replaying",
        module=_SWEEPER,
        text="""
            <<if told>>
            await self._relay.tell(told)
""",
    ),
    Point(
        name="page of pokes of a topic, uncommitted",
        group="quieting",
        module=f"{_APPLICATION}.topic_pokes",
        text="""
            await topic_pokes.poke_some(conn, one, now, self._page)
            <<>>
""",
    ),
    _sweeping("page of pokes of a topic", "quieting", "_topic_pokes"),
    # Schedules and segments.
    Point(
        name="schedule told",
        group="scheduling",
        module=f"{_APPLICATION}.journey_schedules",
        text="""
        <<>>
        async with self._transactions.write(None) as conn:
            await journey_schedules.told(""",
    ),
    Point(
        name="schedule fired, uncommitted",
        group="scheduling",
        module=f"{_APPLICATION}.journey_schedules",
        text="""
        await journey_schedules.seen_to(conn, standing, due_at, job_id if skipped is None else None)
        <<>>
""",
    ),
    Point(
        name="schedule fired",
        group="scheduling",
        module="workers.activities.schedules",
        text="return <<await fire(self.transactions, due.project_no, due.journey_id, due.digest, due_at)>>",
    ),
    _claimed("segment run claimed", "segments", "SegmentErrands"),
    Point(
        name="segment run begun",
        group="segments",
        module=_RUNS,
        text="""
        <<>>
        step = BUCKETS // PARTS
""",
    ),
    Point(
        name="chunk of a segment run, uncommitted",
        group="segments",
        module=_RUNS,
        text="""
            await segment_runs.record(conn, project_no, run_no, first, last, chunk)
            <<>>
""",
    ),
    Point(
        name="chunk of a segment run",
        group="segments",
        module=_RUNS,
        text="""
        <<>>
        return last + 1
""",
    ),
    Point(
        name="segment run finished, uncommitted",
        group="segments",
        module=_RUNS,
        text="""
            await segment_passes.forget_looks(conn, project_no)
            <<>>
""",
    ),
    Point(
        name="segment run finished",
        group="segments",
        module=_RUNS,
        text="""
        <<>>
        return finished
""",
    ),
    # What must be true whoever dies: erasures, the audit log, what Temporal has ended, tests of messages.
    _claimed("erasure claimed", "erasing", "ErasureErrands"),
    Point(
        name="erasure written down",
        group="erasing",
        module=_ERASURES,
        text="""
            await self._ledger.add(line)
            <<>>
""",
    ),
    *(_erased(phase) for phase in ("ledger", "executions", "runs", "rows", "answers")),
    Point(
        name="step of an erasure",
        group="erasing",
        module="workers.activities.erasures",
        text="""
        <<>>
        return ErasureStep(""",
    ),
    Point(
        name="entries sealed, uncommitted",
        group="sealing",
        module=f"{_APPLICATION}.audit_sealing",
        text="""
                await audit_seals.seal(conn, project_no, sealed, await clock.now(conn))
                <<>>
""",
    ),
    Point(
        name="entries sealed",
        group="sealing",
        module=f"{_APPLICATION}.audit_sealing",
        text="""
        <<if sealed>>
        return len(sealed), """,
    ),
    Point(
        name="anchor kept",
        group="sealing",
        module=f"{_APPLICATION}.audit_sealing",
        text="""
            <<>>
            await audit_seals.note(conn, due, now)
""",
    ),
    Point(
        name="execution closed, uncommitted",
        group="reconciling",
        module=f"{_APPLICATION}.reconciliation",
        text="""
            <<if closed is not None>>
            if closed is not None:
                await audit.append(""",
    ),
    Point(
        name="execution closed",
        group="reconciling",
        module=f"{_APPLICATION}.reconciliation",
        text="""
        <<if closed is not None>>
        return closed is not None
""",
    ),
    Point(
        name="test send taken",
        group="testing",
        module="workers.sent_tests",
        text="""
        <<>>
        await self.tests.note(due, await self._sent(due))
""",
    ),
    Point(
        name="test send answered",
        group="testing",
        module="workers.sent_tests",
        text="await self.tests.note(due, <<await self._sent(due)>>)",
    ),
)
