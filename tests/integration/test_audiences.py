"""Audiences over the API: saved as sent, refused with every fault, checked for one subject."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.api.handlers.audiences import AudienceHandlers
from orchestrator.application import audiences, segments
from orchestrator.application import subjects as subject_use_cases
from orchestrator.application.audience_book import AudienceBook
from orchestrator.application.derived_events import Backfill
from orchestrator.application.ingest import Ingest
from orchestrator.application.segment_rules import RuleBook
from orchestrator.application.transactions import Transactions
from orchestrator.domain.audience import END_USER, Audience
from orchestrator.domain.etag import Expected
from orchestrator.domain.event import Event
from orchestrator.domain.refusals import InvalidArgument
from orchestrator.domain.scope import Role, Scope
from orchestrator.domain.segment import DYNAMIC, STATIC, Segment
from orchestrator.domain.subject import SubjectPatch
from tests.integration.projects import make_project
from tests.integration.served import Refused, Served

if TYPE_CHECKING:
    from asyncpg import Pool, Record
    from asyncpg.connection import LoggedQuery

ACTIVE = {"kind": "event_fired", "eventName": "feature.used", "window": {"type": "last_n_days", "days": 7}}


@pytest.fixture
async def scope(api_pool: Pool[Record]) -> Scope:
    return await make_project(api_pool)


@pytest.fixture
async def served(api_pool: Pool[Record]) -> Served:
    return await Served.open(api_pool, AudienceHandlers(RuleBook()))


@pytest.fixture
async def editor(served: Served, scope: Scope) -> str:
    return await served.admit(scope, Role.EDITOR)


async def add_segment(served: Served, scope: Scope, segment_id: str, *members: str) -> None:
    async with served.transactions.write(scope.project_no) as conn:
        segment = Segment(kind=STATIC, name=segment_id, description="", predicate=None)
        await segments.create(conn, scope, segment_id, segment)
        if members:
            await segments.add_members(conn, scope, segment_id, members)


async def test_an_audience_comes_back_as_it_was_sent(served: Served, editor: str, scope: Scope) -> None:
    await add_segment(served, scope, "power-users")
    predicate = {
        "kind": "and",
        "clauses": [
            {"kind": "in_cohort", "cohortId": "power-users"},
            {"kind": "event_fired", "eventName": "checkout_started", "atLeast": 2},
            {"kind": "event_not_fired", "eventName": "purchase", "window": {"type": "last", "duration": "36h"}},
            {"kind": "not", "clause": {"kind": "attribute", "fieldPath": "tier", "operator": "eq", "value": "pro"}},
            {"kind": "attribute", "fieldPath": "plan.seats", "operator": "in", "value": "1, 2"},
            {"kind": "attribute", "fieldPath": "plan.seats", "operator": "in", "value": [1, "2", True, 2.5]},
            {"kind": "or", "clauses": [{"kind": "everyone"}, ACTIVE]},
        ],
    }
    sent = {"id": "mine", "name": "Pro tier", "description": "Used for upgrades", "predicate": predicate}

    made = (await served.call(editor, "CreateAudience", audience=sent))["audience"]
    read = (await served.call(editor, "GetAudience", audienceId="mine"))["audience"]

    assert read == made
    assert {name: read[name] for name in sent} == sent
    assert read["subjectType"] == "end_user"
    assert read["projectKey"] == "default"
    assert read["createdAt"] == read["updatedAt"]
    assert read["etag"]


FAULTY = {
    "kind": "and",
    "clauses": [
        {"kind": "event_fired"},
        {"kind": "or", "clauses": []},
        {"kind": "not", "clause": {"kind": "attribute", "operator": "equals", "value": 1}},
        {"kind": "in_cohort", "cohortId": "nobody"},
        {"kind": "not", "clause": {"kind": "in_cohort", "cohortId": "churned"}},
        {"kind": "attribute", "fieldPath": "a", "operator": "near", "value": 1},
        {"kind": "somebody"},
    ],
}
FAULTS_IN_IT = [
    ("predicate.clauses[0].eventName", "EVENT_NAME_REQUIRED"),
    ("predicate.clauses[1].clauses", "EMPTY_CLAUSES"),
    ("predicate.clauses[2].clause.fieldPath", "FIELD_PATH_REQUIRED"),
    ("predicate.clauses[3].cohortId", "COHORT_NOT_FOUND"),
    ("predicate.clauses[4].clause.cohortId", "COHORT_NOT_FOUND"),
    ("predicate.clauses[5].operator", "UNKNOWN_OPERATOR"),
    ("predicate.clauses[6].kind", "UNKNOWN_KIND"),
]


async def test_all_faults_of_a_request_come_together_with_their_paths(served: Served, editor: str) -> None:
    audience = {"id": "a b", "description": "x" * 2001, "subjectType": "robot", "color": "red", "predicate": FAULTY}

    with pytest.raises(Refused) as refused:
        await served.call(editor, "CreateAudience", audience=audience)

    assert sorted(refused.value.faults) == sorted(
        [
            ("id", "INVALID_ID"),
            ("name", "REQUIRED"),
            ("description", "TOO_LONG"),
            ("subjectType", "INVALID_VALUE"),
            ("color", "UNKNOWN_FIELD"),
            *FAULTS_IN_IT,
        ]
    )
    assert (await served.call(editor, "ListAudiences")).get("audiences", []) == []


async def test_all_faults_of_an_update_come_together(served: Served, editor: str) -> None:
    made = (await served.call(editor, "CreateAudience", audience={"id": "a", "name": "A", "predicate": ACTIVE}))[
        "audience"
    ]

    with pytest.raises(Refused) as refused:
        await served.call(editor, "UpdateAudience", audience={"id": "a", "name": None, "predicate": FAULTY})

    assert sorted(refused.value.faults) == sorted([("name", "REQUIRED"), *FAULTS_IN_IT])
    assert (await served.call(editor, "GetAudience", audienceId="a"))["audience"] == made


async def test_use_cases_find_all_faults_by_themselves(served: Served, scope: Scope) -> None:
    audience = Audience(name="", description="x" * 2001, subject_type="robot", predicate=FAULTY)

    async with served.transactions.write(scope.project_no) as conn:
        with pytest.raises(InvalidArgument) as refused:
            await audiences.create(conn, scope, "a b", audience)

    assert sorted((fault.path, fault.reason) for fault in refused.value.faults) == sorted(
        [
            ("id", "INVALID_ID"),
            ("name", "REQUIRED"),
            ("description", "TOO_LONG"),
            ("subjectType", "INVALID_VALUE"),
            *FAULTS_IN_IT,
        ]
    )


async def test_a_cohort_of_another_project_is_none(
    served: Served, editor: str, scope: Scope, api_pool: Pool[Record]
) -> None:
    await add_segment(served, await make_project(api_pool, "other"), "theirs")
    predicate = {"kind": "in_cohort", "cohortId": "theirs"}

    with pytest.raises(Refused) as refused:
        await served.call(editor, "CreateAudience", audience={"name": "A", "predicate": predicate})

    assert refused.value.code == "INVALID_ARGUMENT"
    assert refused.value.faults == [("predicate.cohortId", "COHORT_NOT_FOUND")]


@pytest.mark.parametrize(
    ("audience", "faults"),
    [
        ({}, [("name", "REQUIRED"), ("predicate", "REQUIRED")]),
        ({"name": "A", "predicate": None}, [("predicate", "REQUIRED")]),
        ({"name": "A", "predicate": {"kind": "everyone"}, "subjectType": "team"}, [("subjectType", "INVALID_VALUE")]),
        ({"name": "A", "predicate": {"kind": "all"}}, [("predicate.kind", "UNKNOWN_KIND")]),
    ],
)
async def test_what_is_missing_or_unknown_is_refused(
    served: Served, editor: str, audience: dict[str, Any], faults: list[tuple[str, str]]
) -> None:
    with pytest.raises(Refused) as refused:
        await served.call(editor, "CreateAudience", audience=audience)

    assert sorted(refused.value.faults) == faults
    assert (await served.call(editor, "ListAudiences")).get("audiences", []) == []


async def test_an_absent_key_is_never_changed(served: Served, editor: str) -> None:
    sent = {"id": "mine", "name": "A", "description": "kept", "predicate": ACTIVE}
    made = (await served.call(editor, "CreateAudience", audience=sent))["audience"]

    renamed = await served.call(editor, "UpdateAudience", audience={"id": "mine", "name": "B"})
    emptied = await served.call(editor, "UpdateAudience", audience={"id": "mine", "description": None})
    widened = await served.call(editor, "UpdateAudience", audience={"id": "mine", "predicate": {"kind": "everyone"}})

    own = {name: made[name] for name in ("id", "projectKey", "subjectType", "createdAt")}
    last = {**own, "name": "B", "description": "", "predicate": {"kind": "everyone"}}
    assert {name: renamed["audience"][name] for name in last} == {**own, **sent, "name": "B"}
    assert {name: emptied["audience"].get(name, "") for name in last} == {**own, **sent, "name": "B", "description": ""}
    assert {name: widened["audience"].get(name, "") for name in last} == last


async def test_an_update_of_something_else_does_not_look_at_the_predicate_again(
    served: Served, editor: str, scope: Scope
) -> None:
    await add_segment(served, scope, "list")
    predicate = {"kind": "in_cohort", "cohortId": "list"}
    await served.call(editor, "CreateAudience", audience={"id": "mine", "name": "A", "predicate": predicate})
    async with served.transactions.write(scope.project_no) as conn:
        await segments.delete(conn, scope, "list", Expected(), force=True)

    renamed = await served.call(editor, "UpdateAudience", audience={"id": "mine", "name": "B"})

    assert renamed["audience"]["predicate"] == predicate
    negated = {"id": "mine", "predicate": {"kind": "not", "clause": predicate}}
    with pytest.raises(Refused) as refused:
        await served.call(editor, "UpdateAudience", audience=negated)
    assert refused.value.faults == [("predicate.clause.cohortId", "COHORT_NOT_FOUND")]


async def test_an_update_names_what_there_is(served: Served, editor: str) -> None:
    await served.call(editor, "CreateAudience", audience={"id": "mine", "name": "A", "predicate": ACTIVE})

    with pytest.raises(Refused) as refused:
        await served.call(editor, "UpdateAudience", audience={"id": "mine"}, updateMask="color")
    assert refused.value.faults == [("updateMask", "UNKNOWN_FIELD")]
    with pytest.raises(Refused) as refused:
        await served.call(editor, "UpdateAudience", audience={"id": "mine"}, updateMask="name")
    assert refused.value.faults == [("name", "REQUIRED")]


async def test_a_state_that_has_passed_is_refused(served: Served, editor: str) -> None:
    made = (await served.call(editor, "CreateAudience", audience={"id": "a", "name": "A", "predicate": ACTIVE}))[
        "audience"
    ]
    await served.call(
        editor, "UpdateAudience", audience={"id": "a", "name": "B", "etag": made["etag"]}, updateMask="name"
    )

    for stale in ({"etag": made["etag"]}, {"updatedAt": made["updatedAt"]}):
        with pytest.raises(Refused) as refused:
            await served.call(editor, "UpdateAudience", audience={"id": "a", "name": "C", **stale})
        assert (refused.value.code, refused.value.reason) == ("ABORTED", "ETAG_MISMATCH")
    assert (await served.call(editor, "GetAudience", audienceId="a"))["audience"]["name"] == "B"


async def test_a_repeated_request_has_one_effect_and_a_rehearsal_none(served: Served, editor: str) -> None:
    audience = {"name": "A", "predicate": ACTIVE}

    await served.call(editor, "CreateAudience", audience=audience, validateOnly=True)
    first = await served.call(editor, "CreateAudience", audience=audience, requestId="r1")
    again = await served.call(editor, "CreateAudience", audience=audience, requestId="r1")

    assert first == again
    assert (await served.call(editor, "ListAudiences"))["audiences"] == [first["audience"]]


async def test_pages_lead_to_each_other(served: Served, editor: str) -> None:
    for number in range(5):
        await served.call(editor, "CreateAudience", audience={"id": f"a{number}", "name": "A", "predicate": ACTIVE})

    names, token = [], ""
    while True:
        page = await served.call(editor, "ListAudiences", pageSize=2, pageToken=token)
        names.append([audience["id"] for audience in page["audiences"]])
        if not (token := page.get("nextPageToken", "")):
            break

    assert names == [["a4", "a3"], ["a2", "a1"], ["a0"]]


async def test_only_an_admin_deletes(served: Served, editor: str, scope: Scope) -> None:
    await served.call(editor, "CreateAudience", audience={"id": "mine", "name": "A", "predicate": ACTIVE})

    with pytest.raises(Refused, match="ROLE_TOO_LOW"):
        await served.call(editor, "DeleteAudience", audienceId="mine")
    await served.call(await served.admit(scope, Role.ADMIN), "DeleteAudience", audienceId="mine")

    with pytest.raises(Refused, match="AUDIENCE_NOT_FOUND"):
        await served.call(editor, "GetAudience", audienceId="mine")


async def test_a_check_asks_about_kinds_of_events_and_what_is_known_of_everybody(
    served: Served, editor: str, scope: Scope, worker_pool: Pool[Record]
) -> None:
    dear = {"kind": "attribute", "fieldPath": "amount", "operator": "gt", "value": 100}
    twice = {
        "kind": "event_fired",
        "eventName": "purchase",
        "where": dear,
        "atLeast": 2,
        "window": {"type": "last_n_days", "days": 30},
    }
    lately = {"kind": "attribute", "fieldPath": "$subject.last_event_at", "operator": "within", "value": {"days": 1}}
    somehow = {"kind": "any_event", "window": {"type": "last", "duration": "1h"}}
    predicate = {"kind": "and", "clauses": [twice, lately, somehow]}
    ingest = Ingest(served.transactions)

    async def buy(subject_id: str, *amounts: int) -> None:
        events = [
            Event(
                event_id=f"{subject_id}-{amount}",
                name="purchase",
                subject_id=subject_id,
                occurred_at=None,
                properties=b'{"amount": %d}' % amount,
            )
            for amount in amounts
        ]
        await ingest.take(scope.project_no, events, backfill=False)

    async def matching() -> list[str]:
        found = []
        for subject_id in ("early", "late", "cheap"):
            verdict = await served.call(editor, "CheckAudience", audienceId="dear", subjectId=subject_id)
            found += [subject_id] * verdict.get("matches", False)
        return found

    await buy("early", 200, 300)
    await buy("late", 200)
    await buy("cheap", 200, 5, 6)
    await served.call(editor, "CreateAudience", audience={"id": "dear", "name": "A", "predicate": predicate})
    at_once = await matching()
    await buy("late", 400)
    meanwhile = await matching()
    await Backfill(Transactions(worker_pool)).run()

    assert (await served.call(editor, "GetAudience", audienceId="dear"))["audience"]["predicate"] == predicate
    assert (at_once, meanwhile, await matching()) == (["early"], ["early", "late"], ["early", "late"])


async def test_a_check_says_why(served: Served, editor: str, scope: Scope) -> None:
    await add_segment(served, scope, "trial", "u1")
    now = datetime.now(UTC)
    async with served.transactions.write(scope.project_no) as conn:
        patch = SubjectPatch(subject_id="u1", attributes={"tier": "pro", "seats": 5})
        await subject_use_cases.upsert(conn, scope.project_no, [patch])
    event = Event(event_id="e1", name="feature.used", subject_id="u1", occurred_at=now, properties=b"{}")
    await Ingest(served.transactions).take(scope.project_no, [event], backfill=False)
    predicate = {
        "kind": "and",
        "clauses": [
            {"kind": "in_cohort", "cohortId": "trial"},
            ACTIVE,
            {"kind": "attribute", "fieldPath": "tier", "operator": "equals", "value": "free"},
            {"kind": "not", "clause": {"kind": "event_fired", "eventName": "subscription.upgraded"}},
        ],
    }
    await served.call(editor, "CreateAudience", audience={"id": "mine", "name": "A", "predicate": predicate})

    verdict = await served.call(editor, "CheckAudience", audienceId="mine", subjectId="u1")

    assert verdict.get("matches", False) is False
    tree = verdict["explanation"]
    assert (tree["kind"], tree["truth"]) == ("and", False)
    assert [clause["truth"] for clause in tree["clauses"]] == [True, True, False, True]
    assert tree["clauses"][1]["evidence"]["counted"] == 1
    assert tree["clauses"][2]["evidence"] == {"type": "string", "masked": True}
    assert "pro" not in str(verdict)
    assert datetime.fromisoformat(verdict["checkedAt"]) >= now


async def test_a_check_of_somebody_who_belongs(served: Served, editor: str, scope: Scope) -> None:
    await add_segment(served, scope, "trial", "u1")
    predicate = {"kind": "in_cohort", "cohortId": "trial"}
    await served.call(editor, "CreateAudience", audience={"id": "mine", "name": "A", "predicate": predicate})

    assert (await served.call(editor, "CheckAudience", audienceId="mine", subjectId="u1"))["matches"] is True


async def test_a_check_knows_what_rules_were_made_changed_and_deleted_since_the_last_one(
    served: Served, editor: str, scope: Scope
) -> None:
    async def check() -> bool:
        answer = await served.call(editor, "CheckAudience", audienceId="mine", subjectId="ann")
        return bool(answer["matches"])

    def ruled(tier: str) -> Segment:
        rules = {"kind": "attribute", "fieldPath": "tier", "operator": "equals", "value": tier}
        return Segment(kind=DYNAMIC, name="Ruled", description="", predicate=rules)

    async with served.transactions.write(scope.project_no) as conn:
        await segments.create(conn, scope, "ruled", ruled("pro"))
        await subject_use_cases.upsert(
            conn, scope.project_no, [SubjectPatch(subject_id="ann", attributes={"tier": "pro"})]
        )
    predicate = {"kind": "in_cohort", "cohortId": "ruled"}
    await served.call(editor, "CreateAudience", audience={"id": "mine", "name": "A", "predicate": predicate})
    assert await check()

    with pytest.raises(InvalidArgument):
        async with served.transactions.write(scope.project_no) as conn:
            await segments.update(conn, scope, "ruled", {"predicate": ruled("free").predicate}, Expected())
            await segments.create(conn, scope, "ruled-too", replace(ruled("pro"), name=""))
    assert await check(), "what was rolled back never was"
    async with served.transactions.write(scope.project_no) as conn:
        await segments.update(conn, scope, "ruled", {"predicate": ruled("free").predicate}, Expected())
    assert not await check()
    async with served.transactions.write(scope.project_no) as conn:
        await segments.delete(conn, scope, "ruled", Expected(), force=True)
        await segments.create(conn, scope, "ruled", ruled("pro"))
    assert await check()


async def test_a_check_knows_how_its_audience_was_changed_and_deleted_since_the_last_one(
    served: Served, editor: str, scope: Scope
) -> None:
    async def check() -> bool:
        answer = await served.call(editor, "CheckAudience", audienceId="mine", subjectId="ann")
        return bool(answer["matches"])

    def tier(value: str) -> dict[str, str]:
        return {"kind": "attribute", "fieldPath": "tier", "operator": "equals", "value": value}

    async with served.transactions.write(scope.project_no) as conn:
        patch = SubjectPatch(subject_id="ann", attributes={"tier": "pro"})
        await subject_use_cases.upsert(conn, scope.project_no, [patch])
    with pytest.raises(Refused, match="AUDIENCE_NOT_FOUND"):
        await check()
    await served.call(editor, "CreateAudience", audience={"id": "mine", "name": "A", "predicate": tier("pro")})
    assert await check()

    change = {"audience": {"id": "mine", "predicate": tier("free")}, "updateMask": "predicate"}
    await served.call(editor, "UpdateAudience", **change, validateOnly=True)
    assert await check(), "nothing was changed"
    await served.call(editor, "UpdateAudience", **change)
    assert not await check()
    # As another process does it.
    async with served.transactions.write(scope.project_no) as conn:
        await audiences.update(conn, scope, "mine", {"predicate": tier("pro")}, Expected())
    assert await check()
    await served.call(await served.admit(scope, Role.ADMIN), "DeleteAudience", audienceId="mine")
    with pytest.raises(Refused, match="AUDIENCE_NOT_FOUND"):
        await check()
    await served.call(editor, "CreateAudience", audience={"id": "mine", "name": "A", "predicate": tier("free")})
    assert not await check()


async def test_a_check_asks_the_audience_and_the_segments_of_its_own_project(
    served: Served, editor: str, scope: Scope, api_pool: Pool[Record]
) -> None:
    elsewhere = await make_project(api_pool, "elsewhere")
    callers = {editor: (scope, "pro"), await served.admit(elsewhere, Role.EDITOR): (elsewhere, "free")}
    for key, (place, tier) in callers.items():
        rules = {"kind": "attribute", "fieldPath": "tier", "operator": "equals", "value": tier}
        async with served.transactions.write(place.project_no) as conn:
            await segments.create(
                conn, place, "ruled", Segment(kind=DYNAMIC, name="Ruled", description="", predicate=rules)
            )
            patch = SubjectPatch(subject_id="ann", attributes={"tier": "pro"})
            await subject_use_cases.upsert(conn, place.project_no, [patch])
        predicate = {"kind": "in_cohort", "cohortId": "ruled"}
        await served.call(key, "CreateAudience", audience={"id": "mine", "name": "A", "predicate": predicate})

    for _ in range(2):
        answers = [await served.call(key, "CheckAudience", audienceId="mine", subjectId="ann") for key in callers]
        assert [answer["matches"] for answer in answers] == [True, False]


async def test_who_asks_again_reads_the_definitions_number_and_the_subject_and_nothing_else(
    served: Served, scope: Scope
) -> None:
    await add_segment(served, scope, "trial", "u1")
    rules = {"kind": "in_cohort", "cohortId": "trial"}
    book = AudienceBook(RuleBook())
    async with served.transactions.write(scope.project_no) as conn:
        await segments.create(conn, scope, "ruled", Segment(kind=DYNAMIC, name="R", description="", predicate=rules))
        asks = {"kind": "in_cohort", "cohortId": "ruled"}
        await audiences.create(
            conn, scope, "mine", Audience(name="A", description="", subject_type=END_USER, predicate=asks)
        )
    statements: list[str] = []

    def note(query: LoggedQuery) -> None:
        statements.append(query.query)

    async with served.transactions.read(scope.project_no) as conn:
        first = await audiences.check(conn, scope, book, "mine", "u1")
        conn.add_query_logger(note)
        again = await audiences.check(conn, scope, book, "mine", "u1")
        conn.remove_query_logger(note)

    assert (first.matches, again.matches, len(statements)) == (True, True, 2)
    assert first.at < again.at


async def test_a_check_needs_audience_subject_and_segments(served: Served, editor: str, scope: Scope) -> None:
    await add_segment(served, scope, "trial", "u1")
    predicate = {"kind": "or", "clauses": [{"kind": "everyone"}, {"kind": "in_cohort", "cohortId": "trial"}]}
    await served.call(editor, "CreateAudience", audience={"id": "mine", "name": "A", "predicate": predicate})

    with pytest.raises(Refused, match="AUDIENCE_NOT_FOUND"):
        await served.call(editor, "CheckAudience", audienceId="other", subjectId="u1")
    with pytest.raises(Refused, match="SUBJECT_NOT_FOUND"):
        await served.call(editor, "CheckAudience", audienceId="mine", subjectId="u2")
    async with served.transactions.write(scope.project_no) as conn:
        await segments.delete(conn, scope, "trial", Expected(), force=True)
    with pytest.raises(Refused) as refused:
        await served.call(editor, "CheckAudience", audienceId="mine", subjectId="u1")
    assert (refused.value.code, refused.value.reason) == ("FAILED_PRECONDITION", "COHORT_NOT_FOUND")
    assert refused.value.faults == [("predicate.clauses[1].cohortId", "COHORT_NOT_FOUND")]
