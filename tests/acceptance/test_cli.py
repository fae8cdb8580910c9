"""The command line against the real server."""

from __future__ import annotations

import json
import re
import uuid
from pathlib import Path

import asyncpg
import pytest

from orchestrator.cli.yaml_text import parse_documents
from orchestrator.devstack.ports import free_ports
from orchestrator.devstack.stack import Stack
from tests.acceptance.command_line import CommandLine
from tests.acceptance.journey_files import CHECK, GREETING, REMINDERS, RENEWAL, TRYING, WELCOME, WIN_BACK, done_with
from tests.eventually import eventually


async def test_apply_creates_everything_once_and_then_leaves_it_alone(run: CommandLine) -> None:
    checked = await run("apply", "-f", str(WELCOME), "--validate-only")
    first = await run("apply", "-f", str(WELCOME), "-o", "json")
    before = await run("journeys", "get", "welcome", "-o", "json")
    second = await run("apply", "-f", str(WELCOME), "-o", "json")
    after = await run("journeys", "get", "welcome", "-o", "json")
    table = await run("apply", "-f", str(WELCOME))

    assert (checked.code, checked.out) == (0, "")
    assert done_with(first.json) == {
        "audience shoppers": "created",
        "communication welcome": "created",
        "communication thanks": "created",
        "communication nudge": "created",
        "triggerContract signed-up": "created",
        "journey welcome": "created, published",
    }
    assert set(done_with(second.json).values()) == {"unchanged"}
    assert before.json == after.json
    assert (after.json["status"], after.json["latestVersion"], after.json["hasDraft"]) == ("active", 1, False)
    assert table.out.count("unchanged") == 6
    assert "\x1b" not in table.out


async def test_a_journey_with_all_that_there_is_comes_back_as_it_was_written(run: CommandLine) -> None:
    first = await run("apply", "-f", "-", "-o", "json", stdin=REMINDERS + RENEWAL)
    kept = await run("journeys", "get", "renewal", "-o", "json")
    again = await run("apply", "-f", "-", "-o", "json", stdin=json.dumps({"kind": "journey", **kept.json}))
    checked = await run("journeys", "validate", "renewal", "-o", "json")
    version = await run("journeys", "version", "renewal", "1", "-o", "json")
    _, written = parse_documents(RENEWAL)

    assert done_with(first.json)["journey renewal"] == "created, published"
    members = written.keys() - {"kind"}
    assert {name: kept.json[name] for name in members} == {name: written[name] for name in members}
    fixed = members & version.json.keys()
    assert {"steps", "exitRules", "exitOnGoal"} <= fixed
    assert {name: version.json[name] for name in fixed} == {name: written[name] for name in fixed}
    assert done_with(again.json) == {"journey renewal": "unchanged"}
    assert checked.json == {"faults": [], "warnings": []}


async def test_apply_changes_what_differs_and_publishes_unless_it_is_told_not_to(run: CommandLine) -> None:
    await run("apply", "-f", "-", stdin=GREETING)
    renamed = GREETING.replace("name: Hello", "name: Hallo")
    changed = renamed.replace("reason: greeted", "reason: met")

    only_name = await run("apply", "-f", "-", "-o", "json", stdin=renamed)
    kept = await run("apply", "-f", "-", "-o", "json", "--no-publish", stdin=changed)
    draft = await run("journeys", "get", "greeting", "-o", "json")
    published = await run("apply", "-f", "-", "-o", "json", stdin=changed)
    versions = await run("journeys", "versions", "greeting", "-o", "json")
    newest = await run("journeys", "version", "greeting", "2", "-o", "json")

    assert only_name.json == [
        {"kind": "communication", "id": "hello", "action": "updated", "fields": "name"},
        {"kind": "journey", "id": "greeting", "action": "unchanged"},
    ]
    assert kept.json[1] == {"kind": "journey", "id": "greeting", "action": "updated", "fields": "steps"}
    assert draft.json["hasDraft"]
    assert published.json[1] == {"kind": "journey", "id": "greeting", "action": "published", "version": 2}
    assert [version["version"] for version in versions.json] == [2, 1]
    assert newest.json["steps"][1]["exit"] == {"reason": "met"}


async def test_apply_publishes_a_journey_of_which_only_a_text_has_changed(run: CommandLine) -> None:
    await run("apply", "-f", "-", stdin=GREETING)
    reworded = GREETING.replace("There you are.", "Good to see you.")

    changed = await run("apply", "-f", "-", "-o", "json", stdin=reworded)
    again = await run("apply", "-f", "-", "-o", "json", stdin=reworded)
    archived = await run("journeys", "archive", "greeting", "--yes")
    after_the_end = await run("apply", "-f", "-", "-o", "json", stdin=GREETING)

    assert changed.json == [
        {"kind": "communication", "id": "hello", "action": "updated", "fields": "body"},
        {"kind": "journey", "id": "greeting", "action": "published", "version": 2},
    ]
    assert set(done_with(again.json).values()) == {"unchanged"}
    assert archived.code == 0
    assert done_with(after_the_end.json)["journey greeting"] == "unchanged"


async def test_apply_changes_nothing_if_anything_is_wrong(run: CommandLine, tmp_path: Path) -> None:
    sound = "kind: segment\nid: vip\nname: VIP\n"
    in_vip = "kind: audience\nid: vips\nname: VIPs\npredicate: {kind: in_cohort, cohortId: vip}\n"
    in_nothing = in_vip.replace("vips", "lost").replace("cohortId: vip", "cohortId: gone")
    unreadable = "kind: communication\nid: c\nname: C\nchannel: log\ncategory: marketing\nbody: '{{ oops'\n"
    for name, text in {"a": sound, "b": in_nothing, "c": unreadable}.items():
        (tmp_path / f"{name}.yaml").write_text(text)

    refused = await run("apply", "-f", str(tmp_path))
    segments = await run("segments", "list", "-o", "json")
    accepted = await run("apply", "-f", "-", "-o", "json", stdin=f"{in_vip}---\n{sound}")

    assert refused.code == 1
    assert refused.out == ""
    assert "b.yaml (audience lost): predicate.cohortId: there is no segment gone (COHORT_NOT_FOUND)" in refused.err
    assert "c.yaml (communication c): body: " in refused.err
    assert [segment["id"] for segment in segments.json if segment["kind"] == "static"] == []
    assert done_with(accepted.json) == {"segment vip": "created", "audience vips": "created"}


async def test_apply_makes_a_segment_and_what_starts_on_it_at_once(run: CommandLine) -> None:
    segment = "kind: segment\nid: vip\nname: VIP\n"
    contract = "kind: triggerContract\nid: lost-vip\nname: Lost a VIP\nsegmentId: vip\ntransition: left\n"

    first = await run("apply", "-f", "-", "-o", "json", stdin=f"{contract}---\n{segment}")
    second = await run("apply", "-f", "-", "-o", "json", stdin=f"{contract}---\n{segment}")
    listed = await run("trigger-contracts", "list")

    assert done_with(first.json) == {"segment vip": "created", "triggerContract lost-vip": "created"}
    assert done_with(second.json) == {"segment vip": "unchanged", "triggerContract lost-vip": "unchanged"}
    assert "left" in listed.out


async def test_subjects_travel_and_are_looked_at(run: CommandLine) -> None:
    await run("apply", "-f", "-", stdin=GREETING)
    people = '{"id": "anna", "attributes": {"plan": "pro"}}\n\n{"id": "bert", "timeZone": "Europe/Berlin"}\n'

    upserted = await run("subjects", "upsert", "-f", "-", "-o", "json", stdin=people)
    one = await run("subjects", "upsert", "anna", "--attributes", '{"city": "Graz"}', "-o", "json")
    opted_out = await run("subjects", "opt-out", "bert", "--category", "marketing", "-o", "json")
    suppressed = await run("subjects", "suppress", "bert", "--reason", "bounced", "-o", "json")
    bert = await run("subjects", "get", "bert", "-o", "json")
    enrolled = await run("journeys", "enroll", "greeting", "anna", "-f", "-", "-o", "json", stdin="bert\nanna\ncarl\n")

    assert upserted.json == {"createdCount": 2, "updatedCount": 0}
    assert one.json["attributes"] == {"plan": "pro", "city": "Graz"}
    assert opted_out.json["optOuts"][0]["category"] == "marketing"
    assert suppressed.json["reason"] == "bounced"
    assert bert.json["timeZone"] == "Europe/Berlin"
    assert (len(bert.json["optOuts"]), len(bert.json["suppressions"])) == (1, 1)
    assert enrolled.json == {
        "journeyId": "greeting", "journeyName": "Greeting",
        "enrolled": 2, "skipped": 2, "errors": 0, "total": 4, "refused": {"suppressed": 1}, "failedSubjectIds": [],
    }  # fmt: skip

    async def all_have_ended() -> bool:
        stats = await run("journeys", "stats", "greeting", "-o", "json")
        return bool(stats.json["completed"] == {"completed": 2})

    await eventually(all_have_ended, within=60)
    listed = await run("executions", "list", "greeting", "-o", "json")
    annas = await run("executions", "list", "--subject", "anna", "-o", "json")
    got = await run("executions", "get", annas.json[0]["id"], "-o", "json")
    shown = await run("executions", "get", annas.json[0]["id"])
    audit = await run("journeys", "audit", "greeting", "-o", "json")
    why = await run("executions", "explain", annas.json[0]["id"])
    berts = await run("journeys", "explain", "greeting", "bert", "-o", "json")
    entry = await run("journeys", "explain", "greeting", "bert")
    timeline = await run("subjects", "timeline", "anna", "-o", "json")
    stuck = await run("executions", "stuck", "greeting", "-o", "json")

    assert "Ended completed on the step done" in why.out
    assert [way["refusal"] for way in berts.json["ways"]] == ["suppressed"]
    assert "enroll: does not enter: suppressed" in entry.out
    assert [item["kind"] for item in timeline.json] == ["end", "visit", "visit", "send", "enrollment"]
    assert stuck.json == []
    assert {execution["endUserId"] for execution in listed.json} == {"anna", "carl"}
    assert [visit["stepId"] for visit in got.json["visits"]] == ["hello", "done"]
    assert got.json["sends"][0]["state"] == "sent"
    assert "greeted" in shown.out
    assert [entry["action"] for entry in audit.json] == ["journey_enrolled", "journey_published", "journey_created"]


def names_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


async def test_a_person_is_exported_to_stdout_or_into_a_file_of_ones_own(run: CommandLine, tmp_path: Path) -> None:
    await run("subjects", "upsert", "exa", "--attributes", '{"name": "Äxa", "tags": ["a", "b"]}')
    await run("subjects", "suppress", "exa", "--channel", "log")
    events = "".join(
        json.dumps({"eventId": f"exa-{n}", "name": "looked", "subjectId": "exa", "properties": {"n": n}}) + "\n"
        for n in range(2500)
    )
    sent = await run("events", "send", "-", stdin=events)
    path = tmp_path / "exa.json"

    printed = await run("subjects", "export", "exa")
    written = await run("subjects", "export", "exa", "--output", str(path))
    nobody = await run("subjects", "export", "nobody-like-that", "--output", str(tmp_path / "nobody.json"))
    nowhere = await run("subjects", "export", "exa", "--output", str(tmp_path / "no" / "exa.json"))
    misread = await run("subjects", "export", "exa", "--output", "json")
    cut = await run("subjects", "export", "exa", pipe="head -c 10")

    assert sent.code == 0, sent.err
    shown = printed.json
    assert (shown["subjectId"], shown["records"]["subject"][0]["attributes"]["name"]) == ("exa", "Äxa")
    assert sorted(event["properties"]["n"] for event in shown["records"]["event"]) == list(range(2500))
    assert shown["records"]["suppression"][0]["channel"] == "log"
    assert (written.code, written.out) == (0, "")
    kept = json.loads(path.read_text(encoding="utf-8"))
    assert kept["records"]["event"] == shown["records"]["event"]
    assert [entry["action"] for entry in kept["records"]["audit_entry"]] == [
        "subject_suppressed", "subject_exported", "subject_exported",
    ]  # fmt: skip
    assert path.stat().st_mode & 0o077 == 0
    assert (nobody.code, "SUBJECT_NOT_FOUND" in nobody.err) == (3, True)
    assert (nowhere.code, "cannot be written" in nowhere.err) == (1, True)
    assert (misread.code, "./json" in misread.err) == (2, True)
    assert (cut.code, cut.out, cut.err) == (1, '{"subjectI', "")
    assert names_in(tmp_path) == ["exa.json"], "nothing half written is left"


async def test_publishing_shows_who_would_go_over_and_asks_before_it_carries_them(run: CommandLine) -> None:
    document = (
        "kind: journey\nid: long\nname: Long\nsteps:\n"
        "  - {id: %s, wait: {duration: %s}, next: done}\n  - {id: done, exit: {}}\n"
    )
    await run("apply", "-f", "-", stdin=document % ("pause", "30d"))
    await run("journeys", "enroll", "long", "gina", "hugo")
    await run("apply", "-f", "-", "--no-publish", stdin=document % ("rest", "1s"))
    mapped = ("--carry", "mapped", "--map", "pause=rest")

    typo = await run("journeys", "publish", "long", "--carry", "mapped", "--map", "pause", "--yes")
    shown = await run("journeys", "publish", "long", "--carry", "compatible", "--validate-only", "-o", "json")
    declined = await run("journeys", "publish", "long", *mapped, stdin="n\n")
    planned = await run("journeys", "publish", "long", *mapped, "--validate-only", "-o", "json")
    other = await run("journeys", "publish", "long", *mapped, "--token", shown.json["token"])
    done = await run("journeys", "publish", "long", *mapped, "--token", planned.json["token"], "-o", "json")

    async def both_have_ended() -> bool:
        stats = await run("journeys", "stats", "long", "-o", "json")
        return bool(
            stats.json["versions"] == [{"entryVersion": 1, "version": 2, "active": 0, "completed": {"completed": 2}}]
        )

    await eventually(both_have_ended, within=60)
    carried = await run("journeys", "carries", "long", "-o", "json")
    assert (typo.code, declined.code, other.code) == (2, 1, 1)
    assert "not what was previewed" in other.err
    assert [(place["stepId"], place["stays"]) for place in shown.json["places"]] == [("pause", "step_gone")]
    assert "2 would go over to v2, 0 stay" in declined.err
    assert (done.json["version"], done.json["carry"]["matchedCount"]) == (2, 2)
    assert [(carry["version"], carry["carriedCount"], carry["pendingCount"]) for carry in carried.json] == [(2, 2, 0)]


async def test_executions_are_counted_by_a_dry_run_before_they_are_canceled(run: CommandLine, tmp_path: Path) -> None:
    journey = tmp_path / "waiting.yaml"
    journey.write_text(
        "kind: journey\nid: waiting\nname: Waiting\nsteps:\n"
        "  - {id: pause, wait: {duration: 30d}, next: done}\n  - {id: done, exit: {}}\n"
    )
    await run("apply", "-f", str(journey))
    await run("journeys", "enroll", "waiting", "dora", "emil")

    nobody = await run("executions", "cancel", "--journey", "waiting", "--yes")
    counted = await run("executions", "cancel", "--journey", "waiting", "--step", "pause", "--dry-run", "-o", "json")
    asked = await run(
        "executions", "cancel", "--journey", "waiting", "--all", "--reason", "wrong-price", "--yes", "-o", "json"
    )

    async def both_have_ended() -> bool:
        stats = await run("journeys", "stats", "waiting", "-o", "json")
        return bool(stats.json["completed"] == {"canceled": 2})

    await eventually(both_have_ended, within=60)
    done = await run("executions", "cancellation", asked.json["id"], "-o", "json")

    assert (nobody.code, "REQUIRED" in nobody.err or "says nobody" in nobody.err) == (1, True)
    assert (counted.json["count"], counted.json["steps"]) == (2, [{"stepId": "pause", "count": 2}])
    assert (done.json["canceledCount"], done.json["reason"]) == (2, "wrong-price")


async def test_two_subjects_are_merged_and_both_ids_name_the_one(run: CommandLine) -> None:
    await run("subjects", "upsert", "visitor", "--attributes", '{"plan": "pro", "page": 7}')
    await run("subjects", "upsert", "customer", "--attributes", '{"plan": "free"}')

    merged = await run("subjects", "merge", "visitor", "--into", "customer", "-o", "json")
    got = await run("subjects", "get", "visitor", "-o", "json")
    again = await run("subjects", "merge", "visitor", "--into", "customer")

    assert (merged.json["id"], merged.json["aliasIds"]) == ("customer", ["visitor"])
    assert got.json["attributes"] == merged.json["attributes"] == {"plan": "free", "page": 7}
    assert again.code != 0
    assert "one subject" in again.err


async def test_events_are_sent_line_by_line_and_bad_lines_are_told(run: CommandLine, tmp_path: Path) -> None:
    events = [{"eventId": f"e-{n}", "name": "seen", "subjectId": "anna"} for n in range(1500)]
    lines = [json.dumps(event) for event in events]
    (tmp_path / "events.jsonl").write_text("\n".join(lines))

    first = await run("events", "send", str(tmp_path / "events.jsonl"), "-o", "json")
    again = await run("events", "send", "-o", "json", stdin="\n".join(lines[:10]))
    bad = await run("events", "send", "-", stdin=f'{lines[0]}\n{{"eventId": "x", "subjectId": "a b"}}\nnonsense\n')

    assert first.json == {"accepted": 1500, "duplicate": 0, "rejected": 0}
    assert again.json == {"accepted": 0, "duplicate": 10, "rejected": 0}
    assert bad.code == 1
    assert bad.out.split() == ["accepted", "0", "duplicate", "1", "rejected", "2"]
    assert "-, line 2: name: must be given (REQUIRED)" in bad.err
    assert "-, line 2: subjectId: " in bad.err
    assert "-, line 3: is not JSON" in bad.err


async def test_what_is_not_utf_8_is_told_and_the_lines_around_it_are_taken(run: CommandLine, tmp_path: Path) -> None:
    def line(number: int) -> bytes:
        return json.dumps({"eventId": f"e-{number}", "name": "seen", "subjectId": "anna"}).encode()

    (tmp_path / "events.jsonl").write_bytes(b"\n".join([line(1), line(2).replace(b"anna", b"ann\xe4"), line(3)]))
    (tmp_path / "ids.txt").write_bytes(b"anna\nann\xe4\n")
    await run("apply", "-f", "-", stdin=GREETING)

    from_file = await run("events", "send", str(tmp_path / "events.jsonl"))
    from_stdin = await run("events", "send", "-o", "json", stdin=b"\xff\n" + line(4))
    others = [
        await run("journeys", "enroll", "greeting", "-f", str(tmp_path / "ids.txt")),
        await run("journeys", "enroll", "greeting", "-f", "-", stdin=b"ann\xe4"),
        await run("subjects", "upsert", "-f", "-", stdin=b'{"id": "ann\xe4"}'),
        await run("apply", "-f", "-", stdin=b"kind: ann\xe4"),
    ]

    assert (from_file.code, from_stdin.code) == (1, 1)
    assert from_file.out.split() == ["accepted", "2", "duplicate", "0", "rejected", "1"]
    assert from_file.err == f"{tmp_path / 'events.jsonl'}, line 2: is not UTF-8 (MALFORMED_REQUEST)\n"
    assert json.loads(from_stdin.out) == {"accepted": 1, "duplicate": 0, "rejected": 1}
    assert [ran.code for ran in others] == [2, 2, 2, 2]
    assert all("is not UTF-8" in ran.err and len(ran.err.splitlines()) == 1 for ran in others)


async def test_large_subjects_are_sent_in_as_many_calls_as_they_need(run: CommandLine) -> None:
    people = (json.dumps({"id": f"s-{n}", "attributes": {"text": "x" * 30_000}}) for n in range(200))

    upserted = await run("subjects", "upsert", "-f", "-", "-o", "json", stdin="\n".join(people))

    assert upserted.json == {"createdCount": 200, "updatedCount": 0}


async def test_journeys_are_paused_resumed_archived_and_deleted(run: CommandLine) -> None:
    await run("apply", "-f", "-", stdin=GREETING)

    async def status() -> str:
        journeys = (await run("journeys", "list", "-o", "json")).json
        return str(journeys[0]["status"]) if journeys else "gone"

    assert (await run("journeys", "list", "--status", "active", "-o", "json")).json[0]["id"] == "greeting"
    assert (await run("journeys", "list", "--status", "paused", "-o", "json")).json == []
    seen = [await status()]
    for command in (("pause",), ("resume",), ("archive", "--yes")):
        assert (await run("journeys", command[0], "greeting", *command[1:])).code == 0
        seen.append(await status())
    enrolled = await run("journeys", "enroll", "greeting", "anna")
    undecided = await run("journeys", "delete", "greeting", stdin="n\n")
    seen.append(await status())
    assert (await run("journeys", "delete", "greeting", stdin="y\n")).code == 0
    seen.append(await status())

    assert seen == ["active", "paused", "active", "archived", "archived", "gone"]
    assert enrolled.code == 1
    assert undecided.code == 1


async def test_static_segments_are_filled_and_emptied(run: CommandLine) -> None:
    moved_to = "kind: segment\nid: moved\nname: Moved\n---\n"
    in_vip = "kind: audience\nid: vips\nname: VIPs\npredicate: {kind: in_cohort, cohortId: vip}\n"
    await run("apply", "-f", "-", stdin=f"{moved_to}kind: segment\nid: vip\nname: VIP\n---\n{in_vip}")

    added = await run("segments", "add", "vip", "-f", "-", stdin="\n".join(f"s-{n}" for n in range(1200)))
    removed = await run("segments", "remove", "vip", "s-0", "s-1", "nobody")
    members = await run("segments", "members", "vip", "--limit", "5000", "-o", "json")
    ids = await run("segments", "members", "vip", "--ids")
    moved = await run("segments", "add", "moved", "-f", "-", stdin=ids.out)
    in_use = await run("segments", "delete", "vip")
    forced = await run("segments", "delete", "vip", "--force")

    assert sorted(ids.out.splitlines()) == sorted(member["subjectId"] for member in members.json)
    assert moved.err == "1198 added.\n"
    assert (added.err, removed.err) == ("1200 added.\n", "2 removed.\n")
    assert {member["subjectId"] for member in members.json} == {f"s-{n}" for n in range(2, 1200)}
    assert in_use.code == 1
    assert "SEGMENT_IN_USE" in in_use.err
    assert forced.code == 0


async def test_who_reads_only_the_beginning_causes_no_trouble(run: CommandLine) -> None:
    people = "\n".join(json.dumps({"id": f"s-{n}", "attributes": {"text": "x" * 400}}) for n in range(500))
    await run("subjects", "upsert", "-f", "-", stdin=people)

    piped = await run("subjects", "list", "--limit", "500", "-o", "json", pipe="head -c 10")

    assert piped.out == "[\n  {\n    "
    assert piped.err == ""


async def test_keys_are_made_rotated_and_revoked(run: CommandLine) -> None:
    made = (await run("keys", "create", "--name", "ci", "--role", "viewer", "--expires-in", "90d", "-o", "json")).json
    as_viewer = run.but(ORCHESTRATOR_API_KEY=made["secret"])
    too_low = await as_viewer("journeys", "list")
    rotated = (await run("keys", "rotate", made["id"], "--overlap", "1h", "-o", "json")).json
    await run("keys", "revoke", rotated["id"])
    listed = (await run("keys", "list", "-o", "json")).json

    assert too_low.code == 4
    assert "ROLE_TOO_LOW" in too_low.err
    assert rotated["secret"] != made["secret"]
    assert {key["id"]: "revokedAt" in key for key in listed if key["name"] == "ci"} == {
        made["id"]: False,
        rotated["id"]: True,
    }
    assert made["secret"] not in json.dumps(listed)


@pytest.mark.timeout(120)  # ten commands, each a process
async def test_projects_are_made_by_the_operator_and_changed_by_their_owners(
    run: CommandLine, shared_stack: Stack, tmp_path: Path
) -> None:
    project_id = f"p-{uuid.uuid4().hex[:12]}"
    file = tmp_path / "settings.yaml"
    file.write_text("maxJourneys: 3\nfrequencyCaps: [{channel: email, limit: 3, window: 7d}]\n")
    operator = run.but(ORCHESTRATOR_OPERATOR_KEY=shared_stack.keys.operator)

    checked = await operator("projects", "create", project_id, "--validate-only", "-o", "json")
    made = await operator("projects", "create", project_id, "--name", "Acme", "-f", str(file), "-o", "json")
    again = await operator("projects", "create", project_id)
    listed = await operator("projects", "list", "-o", "json")
    of_owner = run.but(ORCHESTRATOR_API_KEY=made.json["secret"])
    hours = '{"quietHours": {"start": "21:00", "end": "08:00"}}'
    tried = await of_owner("projects", "update", project_id, "--settings", hours, "--validate-only")
    changed = await of_owner("projects", "update", project_id, "--settings", hours, "-o", "json")
    taken_back = await of_owner(
        *("projects", "update", project_id, "--name", "Acme Ltd"), *("--settings", "{maxJourneys: null}", "-o", "json")
    )
    shown = await of_owner("projects", "get", project_id, "-o", "json")
    log = await of_owner("audit", "list", "--kind", "project", "-o", "json")

    assert (checked.code, checked.out) == (0, "")
    assert made.json["name"] == "Acme"
    assert made.json["settings"]["maxJourneys"] == 3
    assert (again.code, "ALREADY_EXISTS" in again.err) == (1, True)
    assert project_id in {project["id"] for project in listed.json}
    assert (tried.code, tried.out) == (0, "")
    quiet = {"start": "21:00", "end": "08:00", "channels": []}
    assert changed.json["settings"] == {**made.json["settings"], "quietHours": quiet}
    assert taken_back.json["settings"] == {
        name: value for name, value in changed.json["settings"].items() if name != "maxJourneys"
    }
    assert (shown.json, shown.json["name"]) == (taken_back.json, "Acme Ltd")
    assert [entry["metadata"]["fields"] for entry in log.json] == ["maxJourneys,name", "quietHours"]


@pytest.mark.timeout(120)  # ten commands, each a process
async def test_who_may_not_make_projects_and_what_is_no_setting_are_told(
    run: CommandLine, shared_stack: Stack, tmp_path: Path
) -> None:
    operator = run.but(ORCHESTRATOR_OPERATOR_KEY=shared_stack.keys.operator)
    owner = run.but(ORCHESTRATOR_OPERATOR_KEY="")
    (tmp_path / "settings.yaml").write_text("{}")

    codes = {
        "an owner lists": await owner("projects", "list"),
        "an owner creates": await owner("projects", "create", "p-other"),
        "nothing to change": await owner("projects", "update", "p-other"),
        "both": await owner(
            *("projects", "update", "p-other", "--settings", "{}"), *("-f", str(tmp_path / "settings.yaml"))
        ),
        "no YAML": await operator("projects", "create", "p-other", "--settings", "{"),
        "no such setting": await operator("projects", "create", "p-other", "--settings", "{louderHours: {}}"),
        "no object": await operator("projects", "create", "p-other", "--settings", "[1]"),
        "out of range": await operator("projects", "create", "p-other", "--settings", "{goalWindow: 366d}"),
        "somebody else's": await owner("projects", "get", "default"),
    }

    assert {name: ran.code for name, ran in codes.items()} == {
        "an owner lists": 4,
        "an owner creates": 4,
        "nothing to change": 2,
        "both": 2,
        "no YAML": 2,
        "no such setting": 2,
        "no object": 2,
        "out of range": 1,
        "somebody else's": 3,
    }
    assert all(ran.err and not ran.out for ran in codes.values())
    assert "--settings: louderHours: no such field" in codes["no such setting"].err
    assert "settings.goalWindow" in codes["out of range"].err


async def test_what_was_done_is_listed_of_the_project_and_of_one_thing(run: CommandLine) -> None:
    await run("apply", "-f", "-", stdin=GREETING)
    await run("subjects", "suppress", "anna", "--channel", "email")

    everything = await run("audit", "list", "-o", "json")
    newest = await run("audit", "list", "--limit", "1", "-o", "json")
    of_greeting = await run("audit", "list", "--kind", "journey", "--id", "greeting", "-o", "json")
    drawn = await run("audit", "list")
    no_kind = await run("audit", "list", "--id", "greeting")

    assert newest.json == everything.json[:1]
    assert everything.json[0]["action"] == "subject_suppressed"
    assert "anna" not in everything.out
    assert [entry["action"] for entry in of_greeting.json] == ["journey_published", "journey_created"]
    assert {entry["actor"].partition(":")[0] for entry in everything.json} == {"key"}
    assert len(drawn.out.splitlines()) == len(everything.json) + 1
    assert (no_kind.code, no_kind.out) == (2, "")


async def test_every_failure_has_its_exit_code_and_a_sentence(run: CommandLine, tmp_path: Path) -> None:
    nobody = run.but(ORCHESTRATOR_ADDRESS=f"127.0.0.1:{free_ports(1)[0]}")
    keyless = CommandLine(environment={"ORCHESTRATOR_DATA_DIR": str(tmp_path)})

    codes = {
        "wrong usage": await run("journeys", "get"),
        "no such command": await run("planets", "list"),
        "no such file": await run("apply", "-f", str(tmp_path / "gone.yaml")),
        "not found": await run("journeys", "get", "nowhere"),
        "wrong key": await run.but(ORCHESTRATOR_API_KEY="not-a-key")("journeys", "list"),
        "no key": await keyless("journeys", "list"),
        "nobody there": await nobody("journeys", "list"),
        "refused": await run("journeys", "list", "--limit", "3", "-o", "xml"),
        "invalid": await run("subjects", "upsert", "an id with spaces"),
    }

    assert {name: ran.code for name, ran in codes.items()} == {
        "wrong usage": 2,
        "no such command": 2,
        "no such file": 2,
        "not found": 3,
        "wrong key": 4,
        "no key": 4,
        "nobody there": 5,
        "refused": 2,
        "invalid": 1,
    }
    assert all(ran.err and not ran.out for ran in codes.values())
    assert "start `orchestrator up`" in codes["nobody there"].err


async def test_the_doctor_finds_nothing_wrong_with_a_sound_stack_and_says_so(
    database: str, temporal_address: str
) -> None:
    sound = CommandLine(environment={"DATABASE_URL": database, "TEMPORAL_ADDRESS": temporal_address})
    away = sound.but(TEMPORAL_ADDRESS=f"127.0.0.1:{free_ports(1)[0]}")
    nowhere = sound.but(DATABASE_URL=f"postgresql://nobody@127.0.0.1:{free_ports(1)[0]}/gone")

    well = await sound("doctor", "-o", "json")
    ill = await away("doctor", "-o", "json")
    unreachable = await nowhere("doctor")

    assert well.code == 0, well.out
    assert all(check["wrong"] == 0 for check in well.json)
    assert ill.code == 1
    assert [check["check"] for check in json.loads(ill.out) if check["wrong"]] == ["temporal_away"]
    assert "temporal_away: " in ill.err
    assert unreachable.code == 5


async def test_repairs_are_shown_and_done_only_when_it_is_said(
    database: str, temporal_address: str, temporal_namespace: str
) -> None:
    sound = CommandLine(
        environment={
            "DATABASE_URL": database,
            "TEMPORAL_ADDRESS": temporal_address,
            "TEMPORAL_NAMESPACE": temporal_namespace,
        }
    )
    conn = await asyncpg.connect(database)
    # As a restored database has it: it runs, and Temporal knows nothing of it.
    await conn.execute(
        """
        INSERT INTO projects (project_id, name, created_at, updated_at) VALUES ('default', 'Default', now(), now())
        ON CONFLICT DO NOTHING;
        INSERT INTO subjects (project_no, bucket, subject_id, created_at, updated_at)
        VALUES (1, 7, 'ann', now(), now());
        INSERT INTO executions (project_no, bucket, subject_no, execution_id, journey_id, version, workflow_id, seq,
                                step_id, since, effect, started_at)
        SELECT 1, 7, subject_no, gen_random_uuid(), 'welcome', 1, 'disp:welcome__v1__ann__e', 1, 'pause', now(), '{}',
               now() - interval '1 hour'
          FROM subjects
        """
    )

    shown = await sound("doctor", "--repair", "-o", "json")
    untouched = await conn.fetchval("SELECT count(*) FROM outbox")
    done = await sound("doctor", "--repair", "--apply", "-o", "json")
    told = await conn.fetch("SELECT kind, workflow_id FROM outbox")
    after = await sound("doctor", "--repair")
    alone = await sound("doctor", "--apply")
    away = await sound.but(TEMPORAL_ADDRESS=f"127.0.0.1:{free_ports(1)[0]}")("doctor", "--repair")
    await conn.close()

    assert (shown.code, [(one["repair"], one["done"]) for one in json.loads(shown.out)]) == (1, [("start", False)])
    assert "nothing was done: add --apply" in shown.err
    assert untouched == 0
    assert (done.code, [(one["repair"], one["done"]) for one in done.json]) == (0, [("start", True)])
    assert [tuple(row) for row in told] == [("start", "disp:welcome__v1__ann__e")]
    assert (after.code, alone.code, away.code) == (0, 2, 5)


async def test_a_communication_is_looked_at_before_anybody_gets_it(run: CommandLine) -> None:
    await run("apply", "-f", str(WELCOME))
    await run("subjects", "upsert", "looked-at", "--attributes", '{"name": "Ann"}')

    hidden = await run("communications", "preview", "thanks", "--subject", "looked-at", "-o", "json")
    shown = await run("communications", "preview", "thanks", "--subject", "looked-at", "--show-values")
    missing = await run("communications", "preview", "thanks", "--revision", "99")

    assert hidden.json["subject"] == "Thank you, •••"
    assert "Thank you, Ann" in shown.out
    assert missing.code == 3


async def test_a_crowd_is_enrolled_by_a_job_that_can_be_looked_at_and_steered(run: CommandLine) -> None:
    await run("apply", "-f", "-", stdin=f"{GREETING}\n---\nkind: segment\nid: crowd\nname: Crowd\n")
    await run("segments", "add", "crowd", "-f", "-", stdin="\n".join(f"c{n}" for n in range(30)))

    began = await run("journeys", "enroll-all", "greeting", "--segment", "crowd", "--rate", "1", "--no-wait")
    job_id = began.out.strip()
    listed = await run("jobs", "list", "greeting", "-o", "json")
    paused = await run("jobs", "pause", job_id)
    stands = await run("jobs", "watch", job_id)
    resumed = await run("jobs", "resume", job_id)
    canceled = await run("jobs", "cancel", job_id)
    again = await run("jobs", "resume", job_id)
    kept = await run("jobs", "get", job_id, "-o", "json")
    of_nobody = await run("journeys", "enroll-all", "greeting", "--no-wait")
    whole = await run("journeys", "enroll-all", "greeting", "--segment", "crowd")

    assert [(job["id"], job["state"], job["ratePerSecond"]) for job in listed.json] == [(job_id, "running", 1)]
    assert (paused.code, resumed.code, canceled.code) == (0, 0, 0)
    assert stands.code == 1
    assert "paused: " in stands.err
    assert again.code == 1
    assert "ENROLLMENT_JOB_ENDED" in again.err
    assert (kept.json["state"], kept.json["segmentId"]) == ("canceled", "crowd")
    assert of_nobody.code == 1
    assert "name an audience or a segment" in of_nobody.err
    assert whole.code == 0
    enrolled = 30 - kept.json["enrolledCount"]
    assert f"done: {enrolled} of about 30 enrolled, {kept.json['enrolledCount']} skipped, 0 errors" in whole.err


async def test_what_a_webhook_is_said_to_answer_is_read_and_drawn(run: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "check.yaml").write_text(CHECK)
    (tmp_path / "answer.json").write_text('{"score": 30, "provider": "Post"}')
    await run("apply", "-f", str(tmp_path / "check.yaml"))
    simulate = ("journeys", "simulate", "check-the-address", "--attributes", '{"country": "DE", "name": "Anna"}')

    doubtful = await run(*simulate, "--answer", f"check=@{tmp_path / 'answer.json'}")
    good = await run(*simulate, "--answer", 'check={"score": 90}', "-o", "json")
    unread = await run(*simulate, "--answer", f"check=@{tmp_path / 'nothing.json'}")

    drawn = " ".join(doubtful.out.split())
    assert "POST https://addresses.example.com/v1/DE" in drawn
    assert "not called, taken as answered as given" in drawn
    assert '"checkedFor": "DE/Post"' in drawn
    assert 'address_doubtful happens with {"score": 30}' in drawn
    assert [step["stepId"] for step in good.json["simulation"]["steps"]] == ["check", "keep", "good-enough", "done"]
    assert (unread.code, "cannot be read" in unread.err) == (2, True)


async def test_arms_are_simulated_and_drawn_and_what_was_learned_is_asked_for(run: CommandLine) -> None:
    await run("apply", "-f", "-", stdin=WIN_BACK)

    drawn = await run("journeys", "simulate", "win-back", "--attributes", "{}", "--all-paths")
    learns = await run("journeys", "learn", "win-back")
    nowhere = await run("journeys", "learn", "nowhere")

    told = " ".join(drawn.out.split())
    # Which arm depends on the project; publishing has asked for policies, which may be there by now.
    by = r"(?:no policy|by version 1 of its policy)"
    assert re.search(rf"offer adaptive_branch executed \w+ (?:45|10)\.0% go there; \w+, {by}", told)
    assert "best nba_decision video send-video article send-article" in told
    assert (learns.code, learns.err.strip()) == (0, "The policies of offer, best are being made anew.")
    assert (nowhere.code, "JOURNEY_NOT_FOUND" in nowhere.err) == (3, True)


async def test_a_journey_is_simulated_and_drawn_and_nobody_is_enrolled(run: CommandLine) -> None:
    await run("apply", "-f", str(WELCOME))
    anna = ("--attributes", '{"plan": "pro", "name": "Anna", "country": "DE"}')
    bought = ("--event", '1s purchase {"amount": 5}', "--change", '1s {"plan": "free"}')

    told = await run("journeys", "simulate", "welcome", *anna, *bought, "--enter-anyway", "-o", "json")
    drawn = await run("journeys", "simulate", "welcome", *anna, *bought, "--enter-anyway", "--all-paths")
    wrong = await run("journeys", "simulate", "welcome", "--attributes", "{}", "--event", "soon")
    unanswered = await run("journeys", "simulate", "welcome", *anna, "--answer", "check")
    greeted = await run("journeys", "simulate", "welcome", *anna, "--answer", 'greet={"score": 7}')
    nobody = await run("journeys", "simulate", "welcome")

    steps = [(step["stepId"], step.get("reason")) for step in told.json["simulation"]["steps"]]
    assert steps[:3] == [("greet", None), ("look-around", None), ("bought-something", "bought")]
    assert "✓ event_fired purchase: 1 of 1" in drawn.out
    assert "Thank you, Anna" in drawn.out
    assert "where it can lead" in drawn.out
    assert "\x1b" not in drawn.out
    assert (wrong.code, wrong.out) == (2, "")
    assert "--event soon: write it as" in wrong.err
    assert (unanswered.code, "--answer check: write it as" in unanswered.err) == (2, True)
    assert (greeted.code, "answers.greet" in greeted.err) == (1, True)
    assert (nobody.code, "subjectId" in nobody.err) == (1, True)
    assert (await run("executions", "list", "welcome", "-o", "json")).json == []

    event = {"eventId": "e-1", "name": "signed_up", "subjectId": "anna", "properties": {"source": "friend"}}
    await run("subjects", "upsert", "anna", "--attributes", '{"plan": "pro", "name": "Anna", "country": "DE"}')
    await run("events", "send", "--backfill", stdin=json.dumps(event))
    replayed = await run("journeys", "backtest", "welcome", "--days", "7", "-o", "json")
    table = await run("journeys", "backtest", "welcome", "--days", "7")

    assert (replayed.json["entries"]["count"], replayed.json["days"][6]["sends"]) == (1, {"log": 1})
    assert len(replayed.json["days"]) == 7
    assert "1 entries, 0 of them held out; 1 sends" in table.out
    assert "reactions: what subjects did, they did without these messages" in table.out


async def test_refused_entries_are_listed_counted_and_replayed(run: CommandLine) -> None:
    await run("apply", "-f", "-", stdin=GREETING)

    listed = await run("refusals", "list", "greeting", "-o", "json")
    tried = await run("refusals", "replay", "greeting", "--reason", "audience", "--dry-run")
    replayed = await run("refusals", "replay", "greeting", "--reason", "audience", "--yes", "-o", "json")
    shown = await run("refusals", "get", replayed.json["id"], "-o", "json")
    wrong = await run("refusals", "replay", "greeting", "--reason", "whim", "--yes")

    assert listed.json == []
    assert tried.err.startswith("0 entries.")
    assert shown.json == replayed.json
    assert "endedAt" in shown.json
    assert (wrong.code, "reason: is no reason" in wrong.err) == (1, True)


async def test_a_test_of_a_communication_says_what_became_of_it_at_each_address(run: CommandLine) -> None:
    await run("apply", "-f", "-", stdin=GREETING)

    # Without workers nothing becomes of it.
    sent = await run("communications", "send-test", "hello", "--to", "one", "--to", "two", "--wait", "0")

    assert sent.code == 1
    assert sent.out.count("waiting") == 2
    assert "is still on its way" in sent.err


async def test_what_a_journey_changed_is_counted_and_drawn(run: CommandLine) -> None:
    await run("apply", "-f", "-", stdin=GREETING + "goal: {eventName: purchase}\nholdout: {percent: 50}\n")
    people = [f"person-{number}" for number in range(20)]
    await run("journeys", "enroll", "greeting", "-f", "-", stdin="\n".join(people))
    events = [{"eventId": f"{who}-paid", "name": "purchase", "subjectId": who} for who in people]
    await run("events", "send", stdin="\n".join(map(json.dumps, events)))

    async def all_have_converted() -> bool:
        counted = await run("journeys", "impact", "greeting", "-o", "json")
        return bool(sum(counted.json["converted"].values()) == len(people))

    await eventually(all_have_converted)
    told = await run("journeys", "impact", "greeting", "-o", "json")
    drawn = await run("journeys", "impact", "greeting")
    arms = await run("journeys", "arms", "greeting")
    planned = await run(
        "journeys", "plan-impact", "--base-rate", "0.05", "--lift", "0.2", "--holdout-percent", "10",
        "--weekly-volume", "5000",
    )  # fmt: skip
    wrong = await run(
        "journeys",
        "plan-impact",
        "--base-rate",
        "2",
        "--lift",
        "0.1",
        "--holdout-percent",
        "10",
        "--weekly-volume",
        "1",
    )

    assert told.json["triggered"] == told.json["converted"]
    assert (told.json["lift"], told.json["underpowered"], len(told.json["dailyTrend"])) == (0.0, True, 30)
    assert told.json["matured"]["estimate"]["noLiftReason"] == "nobody_exposed"
    assert "matured: nobody yet" in drawn.out
    assert "no lift of those that have matured: nobody was exposed" in drawn.out
    assert arms.out == "greeting has no adaptive branch.\n"
    assert "as often as you like" in planned.out
    assert (wrong.code, "baseRate: must lie between 0 and 1" in wrong.err) == (1, True)


async def test_how_arms_do_is_drawn_and_each_choice_is_listed(run: CommandLine) -> None:
    await run("apply", "-f", "-", stdin=TRYING)
    people = [f"trier-{number}" for number in range(20)]
    await run("journeys", "enroll", "trying", "-f", "-", stdin="\n".join(people))

    async def all_have_chosen() -> bool:
        counted = await run("journeys", "arms", "trying", "-o", "json")
        return bool(sum(arm["subjectsReached"] for arm in counted.json[0]["arms"]) == len(people))

    await eventually(all_have_chosen)
    drawn = await run("journeys", "arms", "trying")
    listed = await run("journeys", "choices", "trying", "pick", "-o", "json")
    of_one = await run("journeys", "choices", "trying", "pick", "--subject", "trier-3")
    nowhere = await run("journeys", "choices", "trying", "done")

    assert "pick (adaptive_branch)" in drawn.out
    assert "too few to tell: 0 of 200" in drawn.out
    assert "the windows of 20 are open" in drawn.out
    assert {choice["subjectId"] for choice in listed.json} == set(people)
    assert all(choice["propensitiesPpm"] == {"a": 500_000, "b": 500_000} for choice in listed.json)
    assert (len(of_one.out.splitlines()), "trier-3" in of_one.out) == (2, True)
    assert (nowhere.code, "has no adaptive branch done" in nowhere.err) == (3, True)


async def test_somebody_is_forgotten_shown_and_let_in_again(run: CommandLine) -> None:
    await run("subjects", "upsert", "carla", "--attributes", '{"plan": "pro"}')

    begun = await run("subjects", "forget", "carla", "-o", "json")
    done = await run("erasures", "show", begun.json["id"], "--wait", "-o", "json")
    again = await run("subjects", "forget", "carla", "--wait", "-o", "json")
    back = await run("subjects", "upsert", "carla")
    listed = await run("erasures", "list")
    lifted = await run("erasures", "lift", "carla", "-o", "json")
    known = await run("subjects", "upsert", "carla", "-o", "json")
    unknown = await run("erasures", "show", "era-none")
    nowhere = await run("erasures", "replay", "no-such-directory")

    assert (begun.code, begun.json["phase"], begun.json["origin"]) == (0, "ledger", "request")
    assert (done.json["phase"], again.json["id"]) == ("done", begun.json["id"])
    assert back.code == 1
    assert "SUBJECT_FORGOTTEN" in back.err
    assert begun.json["id"] in listed.out
    assert lifted.json["liftedAt"]
    assert (known.code, known.json.get("attributes")) == (0, {})
    assert unknown.code == 3
    assert nowhere.code == 2
