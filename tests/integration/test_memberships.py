"""Stored membership: it follows what happens and the clock, passes prove it, and nothing is told twice."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.application import preferences, segments, upkeep
from orchestrator.application.segment_rules import RuleBook
from orchestrator.domain.etag import Expected
from orchestrator.domain.preferences import PreferenceChange
from orchestrator.domain.refusals import InvalidArgument, PermissionDenied
from tests.eventually import eventually
from tests.integration.crowd import SYSTEM, Crowd

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record

DAY = timedelta(days=1)
WEEK: dict[str, Any] = {"type": "last_n_days", "days": 7}
PRO = {"kind": "attribute", "fieldPath": "tier", "operator": "equals", "value": "pro"}
ANY_STATE = Expected()


def bought(window: dict[str, Any] | None = None, at_least: int = 1) -> dict[str, Any]:
    return {"kind": "event_fired", "eventName": "purchase", "window": window, "atLeast": at_least}


def cohort(cohort_id: str) -> dict[str, Any]:
    return {"kind": "in_cohort", "cohortId": cohort_id}


def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
async def crowd(owner: Connection[Record], api_pool: Pool[Record], worker_pool: Pool[Record]) -> Crowd:
    return await Crowd.make(owner, api_pool, worker_pool)


async def test_every_project_has_the_system_segments_and_they_are_right(crowd: Crowd) -> None:
    await crowd.happened(("new", "visit", None), ("old", "visit", now() - 100 * DAY))
    await crowd.owner.execute("UPDATE subjects SET created_at = now() - interval '200 days' WHERE subject_id = 'old'")

    await crowd.settle()

    assert {segment_id: await crowd.members(segment_id) for segment_id in SYSTEM} == {
        "everyone": {"new", "old"},
        "new_last_7_days": {"new"},
        "active_last_30_days": {"new"},
        "dormant_90_days": {"old"},
    }
    assert await crowd.wrong() == []


async def test_system_segments_are_read_only_and_come_first(crowd: Crowd) -> None:
    await crowd.segment("pros", PRO)

    with pytest.raises(PermissionDenied, match="read-only"):
        await crowd.world.do(segments.update, "everyone", {"name": "All"}, ANY_STATE)
    with pytest.raises(PermissionDenied, match="read-only"):
        await crowd.world.do(segments.delete, "everyone", ANY_STATE, force=True)
    first = await crowd.world.look(segments.page, None, 3)
    rest = await crowd.world.look(segments.page, first.end, 3)
    assert {one.id for one in first.resources} < SYSTEM
    assert [one.id for one in rest.resources][-1] == "pros"


async def test_membership_follows_events_and_attributes(crowd: Crowd) -> None:
    await crowd.segment("pros", PRO)
    await crowd.segment("buyers", bought(WEEK, at_least=2))
    await crowd.run("build")
    await crowd.known(ann={"tier": "pro"}, bob={"tier": "free"})
    await crowd.happened(("bob", "purchase", None), ("cleo", "purchase", now() - DAY), ("cleo", "purchase", now()))
    await crowd.settle()
    assert (await crowd.members("pros"), await crowd.members("buyers")) == ({"ann"}, {"cleo"})

    await crowd.known(ann={"tier": "free"}, bob={"tier": "pro"})
    await crowd.happened(("bob", "purchase", now() - 6 * DAY))
    await crowd.settle()

    assert (await crowd.members("pros"), await crowd.members("buyers")) == ({"bob"}, {"bob", "cleo"})
    assert sorted(await crowd.transitions("pros")) == sorted(
        [("ann", True, "data"), ("ann", False, "data"), ("bob", True, "data")]
    )
    assert await crowd.wrong() == []


async def test_a_window_that_runs_out_is_noticed_without_anything_happening(crowd: Crowd) -> None:
    await crowd.segment("lately", bought(WEEK))
    await crowd.run("build")
    await crowd.happened(("ann", "purchase", now() - 7 * DAY + timedelta(seconds=1)), ("bob", "purchase", None))
    await crowd.settle()
    assert await crowd.members("lately") == {"ann", "bob"}

    async def noticed() -> bool:
        await crowd.settle()
        return await crowd.members("lately") == {"bob"}

    await eventually(noticed, within=5)
    *entered, left = await crowd.transitions("lately")
    assert sorted(entered) == [("ann", True, "data"), ("bob", True, "data")]
    assert left == ("ann", False, "time")
    assert await crowd.wrong() == []


async def test_when_nothing_happens_nothing_is_looked_at(crowd: Crowd) -> None:
    await crowd.segment("pros", PRO)
    await crowd.known(ann={"tier": "pro"})
    await crowd.settle()

    assert await crowd.inbox.waiting() == []


async def test_rules_that_are_new_are_built_for_everybody_and_do_not_count_as_news(crowd: Crowd) -> None:
    await crowd.known(ann={"tier": "pro"}, bob={"tier": "free"})
    await crowd.settle()
    await crowd.segment("pros", PRO)
    state = (await crowd.world.look(_states, ["pros"]))["pros"]
    assert (state.freshness.building, state.size) == (True, 0)

    finished = await crowd.run("build")

    assert finished is not None
    assert (finished.subjects, finished.entered, finished.drift) == (2, 1, 0)
    state = (await crowd.world.look(_states, ["pros"]))["pros"]
    assert (state.freshness.building, state.size, state.freshness.entered) == (False, 1, 1)
    assert await crowd.transitions("pros") == [("ann", True, "definition")]
    assert await crowd.wrong() == []


async def test_changed_rules_are_built_again_also_where_others_ask_about_them(crowd: Crowd) -> None:
    await crowd.segment("pros", PRO)
    await crowd.segment("others", {"kind": "not", "clause": cohort("pros")})
    await crowd.run("build")
    await crowd.known(ann={"tier": "pro"}, bob={"tier": "free"})
    await crowd.settle()
    assert await crowd.members("others") == {"bob"}

    await crowd.world.do(segments.update, "pros", {"predicate": {**PRO, "value": "free"}}, ANY_STATE)
    states = await crowd.world.look(_states, ["pros", "others"])
    assert [state.freshness.building for state in states.values()] == [True, True]
    await crowd.run("build")

    assert (await crowd.members("pros"), await crowd.members("others")) == ({"bob"}, {"ann"})
    assert {cause for _, _, cause in (await crowd.transitions("others"))[1:]} == {"definition"}
    assert await crowd.wrong() == []


async def test_a_sweep_finds_nothing_to_put_right(crowd: Crowd) -> None:
    await crowd.segment("buyers", bought(WEEK, at_least=2))
    await crowd.run("build")
    await crowd.happened(*((f"s{n}", "purchase", now() - (n % 10) * DAY) for n in range(60) for _ in range(n % 3)))
    await crowd.settle()
    before = await crowd.owner.fetchval("SELECT count(*) FROM segment_transitions")

    finished = await crowd.run("sweep")

    assert finished is not None
    assert (finished.subjects, finished.entered, finished.departed, finished.drift) == (40, 0, 0, 0)
    assert await crowd.owner.fetchval("SELECT count(*) FROM segment_transitions") == before
    state = (await crowd.world.look(_states, ["buyers"]))["buyers"]
    assert state.freshness.evaluated_at is not None
    assert await crowd.wrong() == []


async def test_a_sweep_does_not_mind_what_is_still_waiting_and_tells_of_what_is_wrong(crowd: Crowd) -> None:
    await crowd.segment("pros", PRO)
    await crowd.run("build")
    await crowd.known(ann={"tier": "pro"}, bob={"tier": "pro"})
    await crowd.settle()
    await crowd.known(ann={"tier": "free"})  # waits in the inbox
    await crowd.owner.execute("UPDATE subjects SET attributes = '{}' WHERE subject_id = 'bob'")  # nobody was told

    finished = await crowd.run("sweep")

    assert finished is not None
    assert (finished.departed, finished.drift) == (2, 1)
    assert await crowd.wrong() == []
    assert (
        await crowd.owner.fetchval("SELECT metadata ->> 'drift' FROM audit_log ORDER BY audit_no DESC LIMIT 1") == "1"
    )
    await crowd.settle()
    assert await crowd.wrong() == []


async def test_a_part_that_was_left_goes_on_where_it_stopped(crowd: Crowd) -> None:
    await crowd.known(**{f"s{n}": {"tier": "pro"} for n in range(50)})
    await crowd.settle()
    await crowd.segment("pros", PRO)
    begun = await crowd.runs.begin(crowd.project_no, "build", None)
    assert begun is not None

    class Killed(Exception):
        pass

    def killed(bucket: int) -> None:
        raise Killed

    for part in begun.parts:
        with pytest.raises(Killed):
            await crowd.runs.work(crowd.project_no, begun.run_no, "build", None, part, killed)
    again = await crowd.runs.begin(crowd.project_no, "build", None)
    assert again == begun
    for part in begun.parts:
        await crowd.runs.work(crowd.project_no, begun.run_no, "build", None, part, lambda bucket: None)
    finished = await crowd.runs.finish(crowd.project_no, begun.run_no)

    assert finished is not None
    assert (finished.subjects, finished.entered) == (50, 50)
    assert await crowd.runs.finish(crowd.project_no, begun.run_no) == finished
    assert await crowd.wrong() == []


async def test_two_runs_and_the_inbox_at_once_leave_the_same_as_one_after_the_other(crowd: Crowd) -> None:
    await crowd.segment("buyers", bought(WEEK))
    await crowd.segment("pros", PRO)
    await crowd.happened(*((f"s{n}", "purchase", None) for n in range(80)))

    async def keep_happening() -> None:
        for round_number in range(6):
            await crowd.known(**{f"s{n}": {"tier": "pro" if (n + round_number) % 2 else "free"} for n in range(80)})
            await crowd.settle()

    await asyncio.gather(keep_happening(), crowd.run("build"), crowd.run("sweep"), keep_happening())
    await crowd.settle()

    assert await crowd.wrong() == []


async def test_rules_edited_during_a_run_stay_to_be_built(crowd: Crowd) -> None:
    await crowd.known(ann={"tier": "pro"}, bob={"tier": "free"})
    await crowd.settle()
    await crowd.segment("pros", PRO)
    begun = await crowd.runs.begin(crowd.project_no, "build", None)
    assert begun is not None
    first, *rest = begun.parts
    await crowd.runs.work(crowd.project_no, begun.run_no, "build", None, first, lambda bucket: None)

    await crowd.world.do(segments.update, "pros", {"predicate": {**PRO, "value": "free"}}, ANY_STATE)
    for part in rest:
        await crowd.runs.work(crowd.project_no, begun.run_no, "build", None, part, lambda bucket: None)
    await crowd.runs.finish(crowd.project_no, begun.run_no)

    assert (await crowd.world.look(_states, ["pros"]))["pros"].freshness.building
    await crowd.run("build")
    assert not (await crowd.world.look(_states, ["pros"]))["pros"].freshness.building
    assert await crowd.members("pros") == {"bob"}
    assert await crowd.wrong() == []


async def test_an_evaluation_looks_at_the_world_after_it_was_asked_for(crowd: Crowd) -> None:
    await crowd.segment("pros", PRO)
    await crowd.run("build")
    first = await crowd.world.do(segments.evaluate, "pros")
    assert await crowd.world.do(segments.evaluate, "pros") == first
    begun = await crowd.runs.begin(crowd.project_no, "evaluate", await crowd.number("pros"))
    assert begun is not None

    asked_at = await crowd.owner.fetchval("SELECT clock_timestamp()")
    second = await crowd.world.do(segments.evaluate, "pros")
    assert second != first
    await crowd.run("evaluate", "pros")
    await crowd.run("evaluate", "pros")

    state = (await crowd.world.look(_states, ["pros"]))["pros"]
    assert state.freshness.evaluated_at is not None
    assert state.freshness.evaluated_at >= asked_at
    assert await crowd.run("evaluate", "pros") is None


async def test_lists_inside_rules_are_followed_and_their_loss_is_named(crowd: Crowd) -> None:
    await crowd.segment("list", None)
    await crowd.segment("both", {"kind": "and", "clauses": [cohort("list"), PRO]})
    await crowd.run("build")
    await crowd.known(ann={"tier": "pro"}, bob={})
    await crowd.world.do(segments.add_members, "list", ["ann", "bob"])
    await crowd.settle()
    assert await crowd.members("both") == {"ann"}

    await crowd.world.do(segments.delete, "list", ANY_STATE, force=True)
    await crowd.known(ann={"tier": "free"})
    await crowd.settle()

    state = (await crowd.world.look(_states, ["both"]))["both"]
    assert (state.broken, state.size) == ("list", 1)
    await crowd.segment("list", None)
    await crowd.run("build")
    assert await crowd.members("both") == set()
    assert await crowd.wrong() == []


@pytest.mark.parametrize(
    ("rules", "reason"),
    [
        (cohort("a"), "COHORT_CYCLE"),
        ({"kind": "not", "clause": cohort("b")}, "COHORT_CYCLE"),
        ({"kind": "and", "clauses": []}, "EMPTY_CLAUSES"),
        (cohort("nobody"), "COHORT_NOT_FOUND"),
    ],
)
async def test_rules_that_go_round_in_circles_are_refused(crowd: Crowd, rules: dict[str, Any], reason: str) -> None:
    await crowd.segment("a", PRO)
    await crowd.segment("b", cohort("a"))

    with pytest.raises(InvalidArgument) as refused:
        await crowd.world.do(segments.update, "a", {"predicate": rules}, ANY_STATE)

    assert [(fault.path.split(".")[0], fault.reason) for fault in refused.value.faults] == [("rules", reason)]


async def test_a_subject_that_is_deleted_leaves_no_trace_in_any_segment(crowd: Crowd) -> None:
    from orchestrator.application.subjects import delete

    await crowd.known(ann={"tier": "pro"}, bob={"tier": "pro"})
    await crowd.segment("list", None)
    await crowd.world.do(segments.add_members, "list", ["ann", "bob"])
    await crowd.settle()
    async with crowd.world.transactions.write(crowd.project_no) as conn:
        await delete(conn, crowd.world.scope, b"secret", "ann", ANY_STATE)

    assert await crowd.members("everyone") == {"bob"}
    assert (await crowd.world.look(_states, ["list"]))["list"].size == 1
    assert await crowd.wrong() == []


@pytest.mark.parametrize("by", ["a preference", "a suppression"])
async def test_who_comes_to_be_by_what_he_does_not_want_is_somebody(crowd: Crowd, by: str) -> None:
    async with crowd.world.transactions.write(crowd.project_no) as conn:
        if by == "a preference":
            change = PreferenceChange(channel="*", category="marketing", opted_out=True)
            await preferences.update(conn, crowd.project_no, "ann", [change])
        else:
            await preferences.suppress(conn, crowd.world.scope, b"secret", "ann", channel="log", reason="bounced")

    await crowd.settle()

    assert await crowd.members("everyone") == {"ann"}
    finished = await crowd.run("sweep")
    assert finished is not None
    assert finished.drift == 0
    assert await crowd.wrong() == []


async def test_sizes_that_were_folded_and_runs_that_were_forgotten_change_nothing(
    crowd: Crowd, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        await crowd.known(**{f"s{number}": {}})
        await crowd.settle()
    await crowd.run("sweep")
    await crowd.owner.execute("UPDATE segment_runs SET finished_at = finished_at - interval '8 days'")
    monkeypatch.setattr(upkeep, "SIZES_APART", 1)

    await upkeep.Upkeep(crowd.transactions).run()

    rows = await crowd.owner.fetch("SELECT segment_no, count(*) FROM segment_sizes GROUP BY 1")
    assert {count for _, count in rows} == {1}
    assert await crowd.owner.fetchval("SELECT count(*) FROM segment_runs") == 0
    assert await crowd.wrong() == []


async def _states(conn: Any, scope: Any, segment_ids: list[str]) -> dict[str, segments.State]:
    return await segments.states(conn, scope.project_no, RuleBook(), segment_ids)
