"""Segments over the API: static lists, their members, and who uses them."""

from __future__ import annotations

import asyncio
import json
from itertools import chain
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from orchestrator.api.handlers.audiences import AudienceHandlers
from orchestrator.api.handlers.segments import SegmentHandlers
from orchestrator.application.inbox_bell import InboxBell
from orchestrator.application.segment_rules import RuleBook
from orchestrator.application.transactions import Transactions
from orchestrator.application.upkeep import Upkeep
from orchestrator.domain.scope import Role, Scope
from orchestrator.predicates.facts import Needs
from orchestrator.storage import facts, inbox_entries, membership_history, static_members, subjects
from tests.integration.projects import make_project
from tests.integration.served import Refused, Served

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record


@pytest.fixture
async def scope(api_pool: Pool[Record]) -> Scope:
    return await make_project(api_pool)


@pytest.fixture
async def served(api_pool: Pool[Record]) -> Served:
    rule_book = RuleBook()
    bell = InboxBell(Transactions(api_pool))
    return await Served.open(api_pool, AudienceHandlers(rule_book), SegmentHandlers(bell, rule_book))


@pytest.fixture
async def admin(served: Served, scope: Scope) -> str:
    return await served.admit(scope, Role.ADMIN)


async def create(served: Served, key: str, segment_id: str, *members: str) -> dict[str, Any]:
    made = await served.call(key, "CreateSegment", segment={"id": segment_id, "name": segment_id})
    if members:
        await served.call(key, "AddSegmentMembers", segmentId=segment_id, subjectIds=list(members))
    segment: dict[str, Any] = made["segment"]
    return segment


async def members(served: Served, key: str, segment_id: str, size: int = 0) -> list[list[str]]:
    """The subject ids of all pages."""
    pages: list[list[str]] = []
    token = ""
    while True:
        page = await served.call(key, "ListSegmentMembers", segmentId=segment_id, pageSize=size, pageToken=token)
        pages.append([member["subjectId"] for member in page.get("members", [])])
        if not (token := page.get("nextPageToken", "")):
            return pages


async def inbox(owner: Connection[Record]) -> list[tuple[str, str]]:
    rows = await owner.fetch(
        "SELECT subject_id, kind FROM inbox JOIN subjects USING (project_no, bucket, subject_no) ORDER BY subject_id"
    )
    return [(row[0], row[1]) for row in rows]


async def test_a_segment_without_rules_is_a_list(served: Served, admin: str) -> None:
    made = await create(served, admin, "mine")

    assert made["kind"] == "static"
    assert "rules" not in made
    assert (await served.call(admin, "GetSegment", segmentId="mine"))["segment"] == made
    renamed = await served.call(admin, "UpdateSegment", segment={"id": "mine", "name": "B", "kind": "static"})
    assert renamed["segment"]["name"] == "B"


@pytest.mark.parametrize(
    ("segment", "faults"),
    [
        ({"name": "A", "kind": "dynamic"}, [("rules", "REQUIRED")]),
        ({"name": "A", "rules": {"kind": "and", "clauses": []}}, [("rules.clauses", "EMPTY_CLAUSES")]),
        ({"name": "A", "kind": "system"}, [("kind", "INVALID_VALUE")]),
        ({"name": "A", "kind": "static", "rules": {"kind": "everyone"}}, [("rules", "INVALID_VALUE")]),
        ({"name": "A", "kind": "magic"}, [("kind", "UNKNOWN_ENUM_VALUE")]),
        ({"description": "x"}, [("name", "REQUIRED")]),
    ],
)
async def test_other_segments_are_refused_by_name(
    served: Served, admin: str, segment: dict[str, Any], faults: list[tuple[str, str]]
) -> None:
    with pytest.raises(Refused) as refused:
        await served.call(admin, "CreateSegment", segment=segment)

    assert refused.value.faults == faults


@pytest.mark.parametrize(
    ("changes", "faults"),
    [
        ({"kind": "dynamic"}, [("kind", "INVALID_VALUE")]),
        ({"rules": {"kind": "everyone"}}, [("rules", "INVALID_VALUE")]),
    ],
)
async def test_a_list_stays_a_list(
    served: Served, admin: str, changes: dict[str, Any], faults: list[tuple[str, str]]
) -> None:
    await create(served, admin, "mine")

    with pytest.raises(Refused) as refused:
        await served.call(admin, "UpdateSegment", segment={"id": "mine", **changes})

    assert refused.value.faults == faults


async def test_system_segments_are_read_only(
    served: Served, admin: str, scope: Scope, owner: Connection[Record]
) -> None:
    await owner.execute(
        "INSERT INTO segments (project_no, segment_id, kind, name, predicate, created_at, updated_at) "
        "VALUES ($1, 'all', 'system', 'Everybody', $2, now(), now())",
        scope.project_no,
        json.dumps({"kind": "everyone"}),
    )

    assert (await served.call(admin, "GetSegment", segmentId="all"))["segment"]["kind"] == "system"
    with pytest.raises(Refused, match="PERMISSION_DENIED SYSTEM_SEGMENT"):
        await served.call(admin, "UpdateSegment", segment={"id": "all", "name": "B"})
    with pytest.raises(Refused, match="PERMISSION_DENIED SYSTEM_SEGMENT"):
        await served.call(admin, "DeleteSegment", segmentId="all", force=True)
    with pytest.raises(Refused, match="FAILED_PRECONDITION SEGMENT_NOT_STATIC"):
        await served.call(admin, "AddSegmentMembers", segmentId="all", subjectIds=["u1"])
    with pytest.raises(Refused, match="FAILED_PRECONDITION SEGMENT_NOT_STATIC"):
        await served.call(admin, "RemoveSegmentMembers", segmentId="all", subjectIds=["u1"])


async def test_members_come_and_go(served: Served, admin: str) -> None:
    await create(served, admin, "mine")

    added = await served.call(admin, "AddSegmentMembers", segmentId="mine", subjectIds=["u1", "u2", "u1", "u3"])
    again = await served.call(admin, "AddSegmentMembers", segmentId="mine", subjectIds=["u3", "u4"])
    removed = await served.call(admin, "RemoveSegmentMembers", segmentId="mine", subjectIds=["u1", "u9", "u1"])

    assert (added["addedCount"], added.get("unchangedCount", 0)) == (3, 1)
    assert (again["addedCount"], again.get("unchangedCount", 0)) == (1, 1)
    assert (removed["removedCount"], removed.get("unchangedCount", 0)) == (1, 2)
    assert sorted(chain(*await members(served, admin, "mine"))) == ["u2", "u3", "u4"]


async def test_members_are_listed_in_pages(served: Served, admin: str) -> None:
    ids = [f"u{number}" for number in range(7)]
    await create(served, admin, "mine", *ids)
    await create(served, admin, "other", "u1", "x")

    pages = await members(served, admin, "mine", size=3)

    assert [len(page) for page in pages] == [3, 3, 1]
    assert sorted(chain(*pages)) == ids
    with pytest.raises(Refused, match="SEGMENT_NOT_FOUND"):
        await members(served, admin, "gone")


async def test_a_token_of_another_segment_leads_nowhere(served: Served, admin: str) -> None:
    await create(served, admin, "mine", "u1", "u2")
    await create(served, admin, "other", "u1", "u2")
    page = await served.call(admin, "ListSegmentMembers", segmentId="mine", pageSize=1)

    with pytest.raises(Refused, match="PAGE_TOKEN_INVALID"):
        await served.call(admin, "ListSegmentMembers", segmentId="other", pageSize=1, pageToken=page["nextPageToken"])


async def test_consumers_hear_of_those_who_came_or_went_and_of_nobody_else(
    served: Served, admin: str, owner: Connection[Record]
) -> None:
    await create(served, admin, "mine", "u1", "u2")
    assert await inbox(owner) == [("u1", "membership"), ("u2", "membership")]

    await owner.execute("DELETE FROM inbox")
    await served.call(admin, "AddSegmentMembers", segmentId="mine", subjectIds=["u2", "u3"])
    await served.call(admin, "RemoveSegmentMembers", segmentId="mine", subjectIds=["u1", "u7"])

    assert await inbox(owner) == [("u1", "membership"), ("u3", "membership")]


async def test_consumers_are_woken_after_the_commit(served: Served, admin: str, owner: Connection[Record]) -> None:
    rung = asyncio.Event()
    await owner.add_listener(inbox_entries.CHANNEL, lambda *_: rung.set())
    await create(served, admin, "mine")

    await served.call(admin, "AddSegmentMembers", segmentId="mine", subjectIds=["u1"])

    await asyncio.wait_for(rung.wait(), 10)


async def test_predicates_see_members(served: Served, admin: str, scope: Scope) -> None:
    await create(served, admin, "mine", "u1")
    await create(served, admin, "other", "u2")

    async with served.transactions.read(scope.project_no) as conn:
        keys = await subjects.find_keys(conn, scope.project_no, ["u1"])
        needs = Needs(events={}, cohorts=frozenset({"mine", "other", "gone"}), paths=frozenset())
        known = (await facts.load(conn, scope.project_no, list(keys.values()), needs))[keys["u1"]]

    assert known.facts.cohorts == {"mine"}
    assert known.facts.known_cohorts == {"mine", "other"}


@pytest.mark.parametrize(
    ("ids", "faults"),
    [
        ([], [("subjectIds", "REQUIRED")]),
        (["u"] * 1001, [("subjectIds", "TOO_LARGE")]),
        (["u1", "", "a b", "x" * 129], [
            ("subjectIds[1]", "REQUIRED"), ("subjectIds[2]", "INVALID_ID"), ("subjectIds[3]", "TOO_LONG"),
        ]),
    ],
)  # fmt: skip
async def test_members_are_subject_ids(
    served: Served, admin: str, ids: list[str], faults: list[tuple[str, str]], owner: Connection[Record]
) -> None:
    await create(served, admin, "mine")

    for rpc in ("AddSegmentMembers", "RemoveSegmentMembers"):
        with pytest.raises(Refused) as refused:
            await served.call(admin, rpc, segmentId="mine", subjectIds=ids)
        assert refused.value.faults == faults
    assert await owner.fetchval("SELECT count(*) FROM subjects") == 0


async def test_a_thousand_members_come_in_one_call(served: Served, admin: str, owner: Connection[Record]) -> None:
    await create(served, admin, "mine")

    added = await served.call(
        admin, "AddSegmentMembers", segmentId="mine", subjectIds=[f"u{number}" for number in range(1000)]
    )

    assert added["addedCount"] == 1000
    assert await owner.fetchval("SELECT count(*) FROM inbox") == 1000


async def test_concurrent_changes_of_the_same_members_all_succeed(
    served: Served, admin: str, owner: Connection[Record]
) -> None:
    await create(served, admin, "mine")
    ids = [f"u{number}" for number in range(100)]

    done = await asyncio.gather(
        *(
            served.call(
                admin,
                "AddSegmentMembers" if turn % 2 else "RemoveSegmentMembers",
                segmentId="mine",
                subjectIds=ids[turn:] + ids[:turn],
            )
            for turn in range(16)
        )
    )

    added = sum(answer.get("addedCount", 0) for answer in done)
    removed = sum(answer.get("removedCount", 0) for answer in done)
    assert added - removed == await owner.fetchval("SELECT count(*) FROM static_members")
    assert added + removed == await owner.fetchval("SELECT count(*) FROM inbox")


async def test_a_deleted_segment_takes_its_members_along(
    served: Served, admin: str, owner: Connection[Record], worker_pool: Pool[Record]
) -> None:
    await create(served, admin, "mine", "u1", "u2")
    await create(served, admin, "other", "u1")

    await served.call(admin, "DeleteSegment", segmentId="mine")

    await create(served, admin, "mine")
    assert await members(served, admin, "mine") == [[]]
    await Upkeep(Transactions(worker_pool)).run()
    assert await owner.fetchval("SELECT count(*) FROM static_members") == 1
    assert await members(served, admin, "other") == [["u1"]]


async def test_a_segment_goes_at_once_whatever_becomes_of_its_members(
    served: Served, admin: str, owner: Connection[Record], database: str
) -> None:
    """All definitions of the project wait for it."""
    await create(served, admin, "mine", "u1", "u2")
    holder = await asyncpg.connect(database)
    try:
        async with holder.transaction():
            await holder.execute("SELECT FROM static_members FOR UPDATE")
            async with asyncio.timeout(30):
                await served.call(admin, "DeleteSegment", segmentId="mine")
    finally:
        await holder.close()

    assert await owner.fetchval("SELECT count(*) FROM segments WHERE segment_id = 'mine'") == 0
    assert await owner.fetchval("SELECT count(*) FROM static_members") == 2


async def test_members_of_a_segment_that_is_gone_go_some_at_a_time(
    served: Served, admin: str, worker_pool: Pool[Record]
) -> None:
    await create(served, admin, "mine", *(f"u{number}" for number in range(25)))
    await served.call(admin, "DeleteSegment", segmentId="mine")
    transactions = Transactions(worker_pool)

    async def go() -> int:
        async with transactions.write(None) as conn:
            (gone,) = (await membership_history.gone_segments(conn)).items()
            return await static_members.forget_gone(conn, *gone, 10)

    assert [await go() for _ in range(4)] == [10, 10, 5, 0]


async def test_no_member_is_left_behind_by_a_race_with_the_deletion(
    served: Served, admin: str, owner: Connection[Record], worker_pool: Pool[Record]
) -> None:
    for attempt in range(10):
        await create(served, admin, f"s{attempt}")
        await asyncio.gather(
            *(
                served.call(admin, "AddSegmentMembers", segmentId=f"s{attempt}", subjectIds=[f"u{number}", "u"])
                for number in range(4)
            ),
            served.call(admin, "DeleteSegment", segmentId=f"s{attempt}"),
            return_exceptions=True,
        )

        with pytest.raises(Refused, match="SEGMENT_NOT_FOUND"):
            await served.call(admin, "GetSegment", segmentId=f"s{attempt}")
    await Upkeep(Transactions(worker_pool)).run()
    assert await owner.fetchval("SELECT count(*) FROM static_members") == 0


async def test_a_segment_that_is_used_stays_unless_forced(
    served: Served, admin: str, scope: Scope, owner: Connection[Record]
) -> None:
    await create(served, admin, "mine", "u1")
    await create(served, admin, "other")
    deep = {"kind": "not", "clause": {"kind": "or", "clauses": [{"kind": "in_cohort", "cohortId": "mine"}]}}
    await served.call(admin, "CreateAudience", audience={"id": "a1", "name": "A", "predicate": deep})
    await _journeys(owner, scope.project_no)

    with pytest.raises(Refused) as refused:
        await served.call(admin, "DeleteSegment", segmentId="mine")

    assert (refused.value.code, refused.value.reason) == ("FAILED_PRECONDITION", "SEGMENT_IN_USE")
    assert refused.value.faults == [
        (user, "SEGMENT_IN_USE")
        for user in (
            "audience/a1",
            "journey/drafting",
            "journey_version/archived/2",
            "journey_version/live/3",
            "journey_version/live/4",
        )
    ]
    assert "audience a1" in refused.value.message
    assert await members(served, admin, "mine") == [["u1"]]
    await served.call(admin, "DeleteSegment", segmentId="other")
    await served.call(admin, "DeleteSegment", segmentId="mine", force=True)


async def _journeys(owner: Connection[Record], project_no: int) -> None:
    """Drafts and versions that name the segment `mine`, some of them over and done with."""

    def definition(cohort_id: str) -> str:
        arm = {"id": "a", "when": {"kind": "in_cohort", "cohortId": cohort_id}, "next": "end"}
        branch = {"id": "b", "branch": {"arms": [arm], "otherwise": "end"}}
        return json.dumps({"steps": [branch, {"id": "end", "exit": {"reason": "finished"}}]})

    journeys = [
        # id, status, draft names, latest version
        ("drafting", "draft", "mine", None),
        ("elsewhere", "draft", "other-one", None),
        ("live", "active", None, 4),
        ("archived", "archived", "mine", 2),
    ]
    for journey_id, status, draft, latest in journeys:
        await owner.execute(
            "INSERT INTO journeys (project_no, journey_id, name, status, on_archive, draft, latest_version, "
            "created_at, updated_at) VALUES ($1, $2, $2, $3, $4, $5, $6, now(), now())",
            project_no,
            journey_id,
            status,
            "finish" if status == "archived" else None,
            definition(draft) if draft else None,
            latest,
        )
    versions = [("live", 2), ("live", 3), ("live", 4), ("archived", 1), ("archived", 2), ("deleted", 1)]
    for journey_id, version in versions:
        await owner.execute(
            "INSERT INTO journey_versions (project_no, journey_id, version, definition, pinned, sha256, published_at, "
            "published_by) VALUES ($1, $2, $3, $4, '{}', '', now(), 'key:k1')",
            project_no,
            journey_id,
            version,
            definition("mine"),
        )
    # Under way on these versions; the one of live/2 has ended.
    for number, (journey_id, version, outcome) in enumerate(
        [("live", 2, "completed"), ("live", 3, None), ("archived", 2, None)]
    ):
        await owner.execute(
            "INSERT INTO executions (project_no, bucket, subject_no, execution_id, journey_id, version, workflow_id, "
            "seq, step_id, since, effect, outcome, started_at, ended_at) VALUES ($1, 1, $2, gen_random_uuid(), $3, $4, "
            "'w', 1, 'b', now(), '{}', $5::text, now(), CASE WHEN $5::text IS NULL THEN NULL ELSE now() END)",
            project_no,
            number,
            journey_id,
            version,
            outcome,
        )


async def test_no_audience_is_left_with_a_segment_that_was_deleted_meanwhile(served: Served, admin: str) -> None:
    predicate = {"kind": "in_cohort", "cohortId": "mine"}
    for attempt in range(10):
        await create(served, admin, "mine")

        outcomes: list[object] = list(
            await asyncio.gather(
                served.call(
                    admin, "CreateAudience", audience={"id": f"a{attempt}", "name": "A", "predicate": predicate}
                ),
                served.call(admin, "DeleteSegment", segmentId="mine"),
                return_exceptions=True,
            )
        )

        [refused] = [outcome for outcome in outcomes if isinstance(outcome, Refused)]
        created_first = refused is outcomes[1]
        assert refused.reason == ("SEGMENT_IN_USE" if created_first else "COHORT_NOT_FOUND")
        if created_first:
            await served.call(admin, "DeleteAudience", audienceId=f"a{attempt}")
            await served.call(admin, "DeleteSegment", segmentId="mine")
