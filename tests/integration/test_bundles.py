"""Bundles over the API: what is exported can be imported, and is then the same."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.domain.scope import Role
from tests.integration.bundle_world import GRAPH, Bundler, Json, Project, as_bytes, rich
from tests.integration.served import Refused

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record

EVERYONE = {"kind": "everyone"}
EXIT = [{"id": "end", "exit": {"reason": "done"}}]


@pytest.fixture
async def bundler(api_pool: Pool[Record]) -> Bundler:
    return await Bundler.open(api_pool)


@pytest.fixture
async def project(bundler: Bundler) -> Project:
    return await bundler.project()


def of(**members: Any) -> Json:
    return {"formatVersion": 1, **members}


def in_cohort(cohort_id: str) -> Json:
    return {"kind": "in_cohort", "cohortId": cohort_id}


def segment(segment_id: str, rules: Json | None = None) -> Json:
    return {"id": segment_id, "name": segment_id} | ({"rules": rules} if rules is not None else {})


def journey(journey_id: str, **members: Any) -> Json:
    return {"id": journey_id, "name": journey_id, "steps": EXIT, **members}


def text(communication_id: str, body: str) -> Json:
    return {"id": communication_id, "name": "T", "channel": "log", "category": "marketing", "body": body}


def sends(communication_id: str) -> list[Json]:
    return [{"id": "say", "send": {"communicationId": communication_id}, "next": "end"}, *EXIT]


def actions(imported: Json) -> dict[tuple[str, str], str]:
    return {(change["kind"], change["id"]): change["action"] for change in imported["changes"]}


async def refusal(project: Project, bundle: Json, **more: Any) -> Refused:
    """The refusal of an import, after which the project is as it was."""
    before = await project("ExportBundle")
    with pytest.raises(Refused) as refused:
        await project.bring(bundle, **more)
    assert await project("ExportBundle") == before
    return refused.value


async def written(owner: Connection[Record], project: Project) -> list[Any]:
    """What any change of the project would change."""
    return await owner.fetch(
        "SELECT p.xmin::text, p.definitions_version, (SELECT count(*) FROM audit_log AS a WHERE a.project_no = $1),"
        " (SELECT count(*) FROM communication_revisions AS r WHERE r.project_no = $1),"
        " (SELECT count(*) FROM journey_versions AS v WHERE v.project_no = $1)"
        "  FROM projects AS p WHERE p.project_no = $1",
        project.scope.project_no,
    )


async def test_what_is_exported_and_imported_is_exported_the_same(bundler: Bundler) -> None:
    there, here = await bundler.project(), await bundler.project()
    await there.bring(rich())
    bundle = await there.exported()

    await here.bring(bundle)

    assert as_bytes(await here.exported()) == as_bytes(bundle)
    assert [one["id"] for one in bundle["segments"]] == ["a-pros", "b-buyers", "c-friends"]
    assert [one["status"] for one in bundle["journeys"]] == ["paused", "draft", "active"]
    assert bundle["settings"] == rich()["settings"]
    assert bundle["journeys"][0]["definition"] == GRAPH
    assert bundle["journeys"][2]["pinnedTexts"][0]["content"]["body"] == "Older text"
    assert bundle["journeys"][2]["draft"]["triggerContractId"] == "became-pro"


async def test_a_second_import_changes_nothing_and_writes_nothing(project: Project, owner: Connection[Record]) -> None:
    first = await project.bring(rich())
    before = await written(owner, project)

    second = await project.bring(rich())

    assert set(actions(first).values()) == {"created", "updated"}  # of the settings there are always some
    assert actions(first).keys() == actions(second).keys()
    assert set(actions(second).values()) == {"unchanged"}
    assert (second["unchangedCount"], second["createdCount"], second["updatedCount"]) == (13, 0, 0)
    assert second["etag"] == first["etag"]
    assert await written(owner, project) == before


@pytest.mark.parametrize("number", [2.0**53, 1e17, 2.0**63, 2.0**64, 1e23, -1e17])
async def test_large_whole_numbers_are_the_same_once_they_were_kept(project: Project, number: float) -> None:
    rules = {"kind": "attribute", "fieldPath": "spent", "operator": "gt", "value": number}
    body = [{"id": "rich", "exit": {"reason": "rich"}}]
    steps = [
        {"id": "ask", "branch": {"arms": [{"id": "yes", "when": rules, "next": "rich"}], "otherwise": "end"}},
        *body,
        *EXIT,
    ]
    bundle = of(
        segments=[segment("rich", rules)],
        audiences=[{"id": "rich", "name": "Rich", "predicate": rules}],
        journeys=[journey("asks", steps=steps, status="active")],
    )
    await project.bring(bundle)

    again = await project.bring(bundle)

    assert set(actions(again).values()) == {"unchanged"}


async def test_a_dry_run_says_what_an_import_does_and_does_not_do_it(project: Project) -> None:
    before = await project("ExportBundle")

    rehearsed = await project.bring(rich(), validateOnly=True)
    after = await project("ExportBundle")
    done = await project.bring(rich(), etag=rehearsed["etag"])

    assert after == before
    assert rehearsed["etag"] == before["etag"]
    assert {**rehearsed, "etag": ""} == {**done, "etag": ""}
    assert (done["createdCount"], done["updatedCount"], done["publishedCount"]) == (12, 1, 2)


async def test_an_empty_project_is_a_bundle_too(bundler: Bundler) -> None:
    there, here = await bundler.project(), await bundler.project()
    bundle = await there.exported()

    imported = await here.bring(bundle)

    assert {name: members for name, members in bundle.items() if name not in ("formatVersion", "settings")} == {
        "segments": [], "audiences": [], "communications": [], "triggerContracts": [], "journeys": []
    }  # fmt: skip
    assert actions(imported) == {("settings", here.scope.project_id): "unchanged"}


async def test_what_a_bundle_does_not_speak_of_stays(project: Project) -> None:
    await project.bring(rich())

    await project.bring(of(segments=[segment("late")]))

    bundle = await project.exported()
    assert [one["id"] for one in bundle["segments"]] == ["a-pros", "b-buyers", "c-friends", "late"]
    assert len(bundle["journeys"]) == 3
    assert bundle["settings"]["timeZone"] == "Europe/Berlin"


async def test_everything_that_is_wrong_is_named_with_its_place_and_nothing_is_written(project: Project) -> None:
    bundle = of(
        segments=[segment("good"), segment("bad", in_cohort("gone")), segment("after-bad", in_cohort("bad"))],
        audiences=[
            {"id": "a", "name": "A", "predicate": {"kind": "and", "clauses": [EVERYONE, in_cohort("nowhere")]}},
            {"id": "b", "name": "B", "predicate": in_cohort("bad")},
        ],
        communications=[{**text("t", "Hi {{"), "channel": "pigeon"}],
        triggerContracts=[{"id": "c", "name": "C", "segmentId": "nobody"}],
        journeys=[
            journey("sketch", steps=[{"id": "x", "send": {"communicationId": "none"}, "next": "nowhere"}]),
            journey(
                "j",
                status="active",
                audienceId="missing",
                triggerContractId="c",
                steps=[
                    {"id": "one", "send": {"communicationId": "t"}, "next": "two"},
                    {"id": "two", "send": {"communicationId": "unheard-of"}, "next": "three"},
                ],
            ),
        ],
    )

    refused = await refusal(project, bundle)

    assert (refused.code, refused.reason) == ("INVALID_ARGUMENT", "COHORT_NOT_FOUND")
    assert sorted(refused.faults) == [
        ("audiences[0].predicate.clauses[1].cohortId", "COHORT_NOT_FOUND"),
        ("communications[0].body", "INVALID_TEMPLATE"),
        ("communications[0].channel", "INVALID_VALUE"),
        ("journeys[1].audienceId", "AUDIENCE_NOT_FOUND"),
        ("journeys[1].steps[1].next", "NEXT_NOT_FOUND"),
        ("journeys[1].steps[1].send.communicationId", "COMMUNICATION_NOT_FOUND"),
        ("segments[1].rules.cohortId", "COHORT_NOT_FOUND"),
        ("triggerContracts[0].segmentId", "SEGMENT_NOT_FOUND"),
    ]


async def test_faults_of_form_and_faults_of_meaning_are_told_together(project: Project) -> None:
    graph = {"nodes": [{"id": "in", "type": "entry_trigger"}, {"id": "x", "type": "juggle"}], "edges": []}
    bundle = of(
        segments=[{"id": "no name"}, segment("s", in_cohort("gone"))],
        journeys=[
            journey("j", steps=[{"id": "w", "wait": {"duration": "soon"}}]),
            {**journey("g"), "definition": graph},
        ],
        colour="blue",
    )
    del bundle["journeys"][1]["steps"]

    refused = await refusal(project, bundle)

    places = [path for path, _ in refused.faults]
    assert {"colour", "segments[0].id", "segments[0].name", "segments[1].rules.cohortId"} <= set(places)
    assert {"journeys[0].steps[0].wait.duration", "journeys[1].definition.nodes[1].type"} <= set(places)


@pytest.mark.parametrize("version", [2, 2**31 - 1])
async def test_a_bundle_of_a_newer_form_is_refused_by_name(project: Project, version: int) -> None:
    refused = await refusal(project, {**rich(), "formatVersion": version})

    assert refused.faults == [("formatVersion", "BUNDLE_FORMAT_UNKNOWN")]
    assert str(version) in refused.message


async def test_ids_that_stand_twice_or_not_at_all_are_named(project: Project) -> None:
    refused = await refusal(
        project, of(segments=[segment("s"), segment("t"), segment("s")], journeys=[journey("j"), {"name": "no id"}])
    )

    assert refused.faults == [("segments[2].id", "DUPLICATE_ID"), ("journeys[1].id", "REQUIRED")]


async def test_segments_that_ask_about_themselves_are_refused(project: Project) -> None:
    bundle = of(segments=[segment("a", in_cohort("b")), segment("b", in_cohort("c")), segment("c", in_cohort("a"))])

    refused = await refusal(project, bundle)

    assert [reason for _, reason in refused.faults] == ["COHORT_CYCLE"]


async def test_segments_may_change_places(project: Project) -> None:
    await project.bring(of(segments=[segment("a", in_cohort("b")), segment("b", EVERYONE)]))

    turned = of(segments=[segment("b", in_cohort("a")), segment("a", EVERYONE)])
    imported = await project.bring(turned)

    assert actions(imported) == {("segment", "a"): "updated", ("segment", "b"): "updated"}
    assert imported["changes"][0]["fields"] == ["rules"]
    assert (await project.exported())["segments"][1]["rules"] == in_cohort("a")


async def test_system_segments_are_in_no_bundle_and_cannot_be_imported(project: Project) -> None:
    refused = await refusal(project, of(segments=[segment("everyone", in_cohort("friends")), segment("friends")]))

    assert (refused.code, refused.reason) == ("FAILED_PRECONDITION", "BUNDLE_REFUSED")
    assert refused.faults == [("segments[0]", "SYSTEM_SEGMENT")]


async def test_a_journey_goes_on_sending_what_it_was_published_with(
    project: Project, owner: Connection[Record]
) -> None:
    """Also where the newer text was there before."""
    await project.bring(of(communications=[text("t", "new")]))
    pinned = {"communicationId": "t", "content": {"channel": "log", "category": "marketing", "body": "old"}}

    sending = journey("j", status="active", steps=sends("t"), pinnedTexts=[pinned])
    imported = await project.bring(of(communications=[text("t", "new")], journeys=[sending]))

    assert actions(imported) == {("communication", "t"): "updated", ("journey", "j"): "created"}
    said = await owner.fetch(
        "SELECT r.content ->> 'body' AS body, (v.pinned #>> '{t,content_revision}')::int = content_revision AS pinned"
        "  FROM communication_revisions AS r JOIN journey_versions AS v USING (project_no) ORDER BY content_revision"
    )
    assert [tuple(row) for row in said] == [("new", False), ("old", True), ("new", False)]
    assert set(actions(await project.bring(await project.exported())).values()) == {"unchanged"}


async def test_a_newer_text_publishes_the_journeys_that_send_it_unless_they_follow_it(project: Project) -> None:
    pins = journey("pins", status="active", steps=sends("t"))
    follows = journey("follows", status="active", steps=sends("t"), followLiveCommunications=True)
    await project.bring(of(communications=[text("t", "one")], journeys=[pins, follows]))

    imported = await project.bring(of(communications=[text("t", "two")], journeys=[pins, follows]))

    by_id = {change["id"]: change for change in imported["changes"]}
    assert (by_id["pins"]["action"], by_id["pins"]["version"]) == ("updated", 2)
    assert by_id["pins"]["fields"] == ["communications"]
    assert by_id["follows"]["action"] == "unchanged"


async def test_a_pinned_text_must_be_one_that_is_sent(project: Project) -> None:
    content = {"channel": "log", "category": "marketing", "body": "old"}
    texts = [{"communicationId": one, "content": content} for one in ("t", "t", "other")]
    sending = journey("j", status="active", steps=sends("t"), pinnedTexts=texts)

    refused = await refusal(project, of(communications=[text("t", "new")], journeys=[sending]))

    assert refused.faults == [
        ("journeys[0].pinnedTexts[1].communicationId", "DUPLICATE_ID"),
        ("journeys[0].pinnedTexts[2].communicationId", "INVALID_VALUE"),
    ]


async def test_a_draft_that_the_bundle_does_not_speak_of_is_left(project: Project) -> None:
    await project.bring(of(journeys=[journey("j", status="active")]))
    await project("UpdateJourney", journey={"id": "j", "maxDurationDays": 3})

    imported = await project.bring(of(journeys=[journey("j", status="active", maxDurationDays=9)]))

    assert imported["changes"][0]["version"] == 2
    [exported] = (await project.exported())["journeys"]
    assert (exported["maxDurationDays"], exported["draft"]["maxDurationDays"]) == (9, 3)
    drafted = await project.bring(of(journeys=[journey("j", maxDurationDays=5)]))
    assert drafted["changes"][0]["fields"] == ["definition"]
    [exported] = (await project.exported())["journeys"]
    assert (exported["status"], exported["maxDurationDays"]) == ("active", 9)
    assert exported["draft"]["maxDurationDays"] == 5


async def test_journeys_are_paused_and_resumed_as_the_bundle_says(project: Project) -> None:
    await project.bring(of(journeys=[journey("j", status="active")]))

    paused = await project.bring(of(journeys=[journey("j", status="paused")]))
    resumed = await project.bring(of(journeys=[journey("j", status="active", name="again")]))

    assert paused["changes"][0]["fields"] == ["status"]
    assert resumed["changes"][0]["fields"] == ["name", "status"]
    assert (await project("GetJourney", journeyId="j"))["journey"]["status"] == "active"


async def test_only_what_is_published_has_a_draft_beside_it(project: Project) -> None:
    archived, drafted = journey("a", status="archived"), journey("d", draft={"steps": EXIT})

    refused = await refusal(project, of(journeys=[archived, drafted]))

    assert refused.faults == [("journeys[0].status", "INVALID_VALUE"), ("journeys[1].draft", "INVALID_VALUE")]


async def test_an_archived_journey_is_left_out_and_does_not_come_back(project: Project) -> None:
    await project.bring(of(journeys=[journey("j", status="active")]))
    await project("ArchiveJourney", journeyId="j")

    exported = await project("ExportBundle")
    refused = await refusal(project, of(journeys=[journey("j", status="active")]))

    assert exported["bundle"]["journeys"] == []
    assert ("journey", "j") in [(one["kind"], one["id"]) for one in exported["leftOut"]]
    assert refused.faults == [("journeys[0]", "JOURNEY_ARCHIVED")]


async def test_keys_and_secrets_of_the_server_are_named_and_are_in_no_bundle(project: Project) -> None:
    headers = {"Authorization": "Bearer abc", "X-Team": "growth"}
    calls = [
        {"id": "call", "webhook": {"url": "https://example.org?api_key=abc", "headers": headers}, "next": "end"},
        *EXIT,
    ]
    await project.bring(rich() | {"journeys": [*rich()["journeys"], journey("z", steps=calls)]})

    exported = await project("ExportBundle")

    left_out = {(one["kind"], one["id"]) for one in exported["leftOut"]}
    names = {name for kind, name in left_out if kind == "setting"}
    assert names == {
        *("ORCHESTRATOR_SMTP_URL", "ORCHESTRATOR_UNSUBSCRIBE_SECRETS", "ORCHESTRATOR_WEBHOOK_SECRETS"),
    }
    [key_id] = [one for kind, one in left_out if kind == "apiKey"]
    assert project.key.encode() not in as_bytes(exported["bundle"])
    assert key_id.encode() not in as_bytes(exported["bundle"])
    assert [(one["path"], one["reason"]) for one in exported["warnings"]] == [
        ("journeys[3].steps[0].webhook.headers.Authorization", "SECRET_IN_BUNDLE"),
        ("journeys[3].steps[0].webhook.url", "SECRET_IN_BUNDLE"),
    ]


async def test_what_could_not_be_imported_elsewhere_is_told_when_it_is_exported(bundler: Bundler) -> None:
    there, here = await bundler.project(), await bundler.project()
    await there.bring(rich())
    await there("DeleteAudience", audienceId="not-friends")
    await there("DeleteCommunication", communicationId="hello")
    await there("DeleteSegment", segmentId="a-pros", force=True)

    exported = await there("ExportBundle")
    refused = await refusal(here, exported["bundle"])
    again = await there.bring(exported["bundle"])

    told = {(one["path"], one["reason"]) for one in exported["warnings"]}
    assert told == {
        ("triggerContracts[0].segmentId", "SEGMENT_NOT_FOUND"),
        ("journeys[2].audienceId", "AUDIENCE_NOT_FOUND"),
        ("journeys[2].steps[0].send.communicationId", "COMMUNICATION_NOT_FOUND"),
        ("journeys[2].steps[1].branch.arms[0].when.cohortId", "COHORT_NOT_FOUND"),
        ("journeys[2].exitRules[0].when.cohortId", "COHORT_NOT_FOUND"),
    }
    assert told <= {*refused.faults, ("journeys[2].steps[0].send.communicationId", "COMMUNICATION_NOT_FOUND")}
    assert set(actions(again).values()) == {"unchanged"}  # where it is, it goes on


async def test_lists_come_without_their_members_and_say_so_on_both_sides(bundler: Bundler) -> None:
    there, here = await bundler.project(), await bundler.project()
    await there.bring(of(segments=[segment("full"), segment("empty"), segment("rules", EVERYONE)]))
    await there("AddSegmentMembers", segmentId="full", subjectIds=["ann", "bob"])

    exported = await there("ExportBundle")
    imported = await here.bring(exported["bundle"])
    again = await here.bring(exported["bundle"])

    assert [one["id"] for one in exported["leftOut"] if one["kind"] == "members"] == ["full"]
    warned = {change["id"]: [one["reason"] for one in change.get("warnings", [])] for change in imported["changes"]}
    assert warned[here.scope.project_id] == []
    assert (warned["full"], warned["empty"], warned["rules"]) == (["LIST_IS_EMPTY"], ["LIST_IS_EMPTY"], [])
    assert not any("warnings" in change for change in again["changes"])


async def test_settings_are_changed_by_owners_alone(project: Project) -> None:
    admin = await project.with_role(Role.ADMIN)
    plain = rich()
    settings = plain.pop("settings")

    refused = await refusal(admin, rich())
    await admin.bring({**plain, "segments": [], "audiences": [], "journeys": [], "triggerContracts": []})
    await project.bring(of(settings=settings))
    again = await admin.bring(of(settings=settings))

    assert (refused.code, refused.reason) == ("PERMISSION_DENIED", "ROLE_TOO_LOW")
    assert actions(again) == {("settings", project.scope.project_id): "unchanged"}


async def test_events_may_be_kept_for_a_shorter_time_by_the_bundle_that_asks_for_less(project: Project) -> None:
    def counting(days: int) -> Json:
        window = {"type": "last_n_days", "days": days}
        return {"kind": "event_fired", "eventName": "bought", "window": window, "atLeast": 2}

    await project.bring(of(settings={"eventRetention": "90d"}, segments=[segment("s", counting(60))]))

    refused = await refusal(project, of(settings={"eventRetention": "30d"}, segments=[segment("s", counting(40))]))
    await project.bring(of(settings={"eventRetention": "30d"}, segments=[segment("s", counting(20))]))
    await project.bring(of(settings={"eventRetention": "365d"}, segments=[segment("s", counting(300))]))

    assert refused.faults == [("settings.eventRetention", "EVENT_RETENTION_TOO_SHORT")]
    assert (await project.exported())["settings"]["eventRetention"] == "365d"


async def test_faults_of_settings_are_told_once(project: Project) -> None:
    settings = {"timeZone": "Mars/Olympus", "eventRetention": "30d", "quietHours": {"start": "25:00", "end": "07:00"}}

    refused = await refusal(project, of(settings=settings, segments=[segment("s", in_cohort("gone"))]))

    assert sorted(path for path, _ in refused.faults) == [
        "segments[0].rules.cohortId", "settings.quietHours.start", "settings.timeZone"
    ]  # fmt: skip


async def test_the_plan_limits_imports_as_it_limits_publishing(project: Project) -> None:
    bundle = of(settings={"maxJourneys": 1}, journeys=[journey(one, status="active") for one in ("a", "b")])

    refused = await refusal(project, bundle)

    assert (refused.code, refused.reason) == ("RESOURCE_EXHAUSTED", "PLAN_LIMIT_REACHED")


async def test_a_change_in_between_refuses_an_import_that_names_what_it_has_seen(project: Project) -> None:
    await project.bring(of(segments=[segment("s")], journeys=[journey("j")]))
    seen = await project.bring(of(segments=[segment("s")]), validateOnly=True)
    etag = (await project("GetSegment", segmentId="s"))["segment"]["etag"]
    await project("UpdateSegment", segment={"id": "s", "name": "Changed"})

    whole = await refusal(project, of(journeys=[journey("j")]), etag=seen["etag"])
    one = await refusal(project, of(segments=[{**segment("s"), "etag": etag}]))
    gone = await refusal(project, of(journeys=[{**journey("never"), "etag": "1-0"}]))
    journeys = await refusal(project, of(journeys=[{**journey("j"), "etag": "9-0"}]))

    for refused in (whole, one, gone, journeys):
        assert (refused.code, refused.reason) == ("ABORTED", "ETAG_MISMATCH")
    assert (one.metadata["place"], gone.metadata["place"]) == ("segments[0]", "journeys[0]")


async def test_of_imports_at_one_time_each_finds_what_the_one_before_has_made(project: Project) -> None:
    imported = await asyncio.gather(*(project.bring(rich()) for _ in range(4)))

    assert sorted(one["createdCount"] for one in imported) == [0, 0, 0, 12]
    assert sorted(one["publishedCount"] for one in imported) == [0, 0, 0, 2]


async def test_an_import_beside_edits_loses_nothing(project: Project) -> None:
    await project.bring(rich())
    other = rich()
    other["segments"][2]["name"] = "Good friends"

    async def edit(number: int) -> None:
        await project("UpdateAudience", audience={"id": "not-friends", "description": f"edit {number}"})

    await asyncio.gather(*(edit(number) for number in range(5)), project.bring(other), *(edit(5) for _ in range(3)))

    bundle = await project.exported()
    assert bundle["segments"][2]["name"] == "Good friends"
    assert (await project("GetAudience", audienceId="not-friends"))["audience"]["predicate"] == rich()["audiences"][0][
        "predicate"
    ]


async def test_the_audit_log_says_what_an_import_did(project: Project) -> None:
    await project.bring(rich())
    await project.bring(rich())

    entries = (await project("ListAuditEntries"))["auditEntries"]

    [imported] = [entry for entry in entries if entry["action"] == "bundle_imported"]
    assert imported["metadata"] == {"created": 12, "updated": 1, "published": 2}
    made = [entry["action"] for entry in entries]
    assert (made.count("journey_created"), made.count("journey_published"), made.count("journey_paused")) == (3, 2, 1)
