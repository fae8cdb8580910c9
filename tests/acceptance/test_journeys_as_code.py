"""Journeys in files: what is wrong with them, how they differ from what is there, and files of what is there."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli.yaml_text import parse_documents
from orchestrator.client import OrchestratorClient, messages
from orchestrator.devstack.stack import Stack
from tests.acceptance.command_line import CommandLine, Ran
from tests.acceptance.journey_files import CHECK, GREETING, REMINDERS, RENEWAL, WELCOME, WIN_BACK

FAULTY = """
kind: journey
id: faulty
name: Faulty
audienceId: nobody
triggerContractId: nothing
steps:
  - {id: first, send: {communicationId: gone}, next: second}
  - {id: second, wait: {duration: 2d}, next: first}
  - id: third
    branch:
      arms:
        - {id: in, when: {kind: in_cohort, cohortId: no id}, next: nowhere}
      otherwise: first
"""
#: Segments of which one names the other, and everything else that names segments.
REGULARS = """
kind: segment
id: a-new-regulars
name: New regulars
rules:
  kind: and
  clauses: [{kind: in_cohort, cohortId: regulars}, {kind: not, clause: {kind: in_cohort, cohortId: vip}}]
---
kind: segment
id: regulars
name: Regulars
rules: {kind: event_fired, eventName: purchase, atLeast: 3}
---
kind: segment
id: vip
name: VIP
---
kind: audience
id: not-vips
name: No VIPs
predicate: {kind: not, clause: {kind: in_cohort, cohortId: vip}}
---
kind: triggerContract
id: came
name: Came
segmentId: a-new-regulars
---
kind: communication
id: hello
name: "on"
channel: log
category: marketing
subject: "1e5"
body: |
  Hello,
  there you are.
---
kind: journey
id: regulars
name: Regulars
audienceId: not-vips
triggerContractId: came
steps:
  - {id: hello, send: {communicationId: hello}, next: still}
  - id: still
    branch:
      arms:
        - {id: active, when: {kind: in_cohort, cohortId: everyone}, next: done}
      otherwise: done
  - {id: done, exit: {reason: greeted}}
"""


def actions(ran: Ran) -> dict[str, str]:
    return {f"{one['kind']} {one['id']}": one["action"] for one in json.loads(ran.out)}


def of(ran: Ran, resource_id: str) -> dict[str, Any]:
    (one,) = (one for one in json.loads(ran.out) if one["id"] == resource_id and one["kind"] == "journey")
    found: dict[str, Any] = one
    return found


@pytest.fixture
async def elsewhere(shared_stack: Stack) -> CommandLine:
    """The command line for another project."""
    async with OrchestratorClient(shared_stack.addresses.grpc, shared_stack.keys.operator) as operator:
        project = messages.Project(id=f"p-{uuid.uuid4().hex[:12]}", name="Another")
        key = (await operator.projects.CreateProject(messages.CreateProjectRequest(project=project))).secret
    return CommandLine(environment={"ORCHESTRATOR_ADDRESS": shared_stack.addresses.grpc, "ORCHESTRATOR_API_KEY": key})


async def test_files_are_valid_if_they_bring_along_what_their_journeys_name(run: CommandLine) -> None:
    ran = await run("journeys", "validate", "-f", str(WELCOME), "-o", "json")
    listed = await run("journeys", "list", "-o", "json")

    assert ran.json == {"faults": [], "warnings": []}
    assert listed.json == []


async def test_every_fault_of_every_journey_is_told_and_nothing_is_changed(run: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(FAULTY)
    (tmp_path / "b.yaml").write_text(GREETING.replace("next: done}", "next: gone}"))
    (tmp_path / "c.yaml").write_text("kind: journey\nid: shapeless\nname: S\ncolour: red\nsteps: [{id: a}]\n")
    (tmp_path / "d.yaml").write_text(
        "kind: communication\nid: x\nname: X\nchannel: log\ncategory: marketing\nbody: '{{ oops'\n"
    )

    ran = await run("journeys", "validate", "-f", str(tmp_path), "-o", "json")
    told = await run("journeys", "validate", "-f", str(tmp_path))
    listed = await run("journeys", "list", "-o", "json")

    faults = {(Path(one["place"]).name, one["id"], one["path"], one["reason"]) for one in json.loads(ran.out)["faults"]}
    assert faults == {
        ("a.yaml", "faulty", "audienceId", "AUDIENCE_NOT_FOUND"),
        ("a.yaml", "faulty", "triggerContractId", "TRIGGER_CONTRACT_NOT_FOUND"),
        ("a.yaml", "faulty", "steps[0].send.communicationId", "COMMUNICATION_NOT_FOUND"),
        ("a.yaml", "faulty", "steps[1].next", "CYCLE"),
        ("a.yaml", "faulty", "steps[2].branch.arms[0].when.cohortId", "COHORT_NOT_FOUND"),
        ("a.yaml", "faulty", "steps[2].branch.arms[0].next", "NEXT_NOT_FOUND"),
        ("b.yaml, document 2", "greeting", "steps[0].next", "NEXT_NOT_FOUND"),
        ("c.yaml", "shapeless", "colour", "UNKNOWN_FIELD"),
        ("c.yaml", "shapeless", "steps[0]", "REQUIRED"),
        ("d.yaml", "x", "body", "INVALID_TEMPLATE"),
    }
    assert ran.code == told.code == 1
    assert told.out.count("fault: ") == len(faults)
    assert "b.yaml, document 2 (journey greeting): steps[0].next: there is no step gone (NEXT_NOT_FOUND)" in told.out
    assert listed.json == []


async def test_files_are_told_what_the_server_would_tell_of_the_journey(run: CommandLine) -> None:
    of_files = await run("journeys", "validate", "-f", "-", "-o", "json", stdin=FAULTY)
    kept = await run("apply", "--no-publish", "-f", "-", stdin=FAULTY)
    of_server = await run("journeys", "validate", "faulty", "-o", "json")

    def bare(ran: Ran) -> dict[str, list[tuple[str, str, str]]]:
        told = json.loads(ran.out)
        return {kind: [(one["path"], one["reason"], one["message"]) for one in told[kind]] for kind in told}

    assert kept.code == 0, kept.err
    assert len(bare(of_server)["faults"]) == 6
    assert bare(of_files) == bare(of_server)


async def test_warnings_fail_only_where_that_is_wanted(run: CommandLine) -> None:
    odd = GREETING + "  - {id: lost, exit: {reason: never}}\n"

    lax = await run("journeys", "validate", "-f", "-", stdin=odd)
    strict = await run("journeys", "validate", "-f", "-", "--strict", stdin=odd)

    assert (lax.code, strict.code) == (0, 1)
    assert lax.out == strict.out
    assert lax.out.startswith("warning: -, document 2 (journey greeting): steps[2]: ")
    assert "UNREACHABLE_STEP" in lax.out


async def test_events_that_are_not_kept_long_enough_are_a_warning(shared_stack: Stack, run: CommandLine) -> None:
    patient = (
        "kind: journey\nid: patient\nname: P\nsteps:\n"
        "  - {id: long, wait: {duration: 10d}, next: reply}\n"
        "  - {id: reply, waitFor: {event: {eventName: replied}, timeout: 1d, otherwise: done}, next: done}\n"
        "  - {id: done, exit: {}}\n"
    )
    before = await run("journeys", "validate", "-f", "-", "-o", "json", stdin=patient)
    async with OrchestratorClient(shared_stack.addresses.grpc, run.environment["ORCHESTRATOR_API_KEY"]) as owner:
        audience = messages.Audience(name="A", predicate=messages.Predicate(everyone=messages.Everyone()))
        request = messages.CreateAudienceRequest(audience=audience, validate_only=True)
        project = messages.Project(id=(await owner.audiences.CreateAudience(request)).audience.project_id)
        project.settings.event_retention.FromSeconds(7 * 86400)
        await owner.projects.UpdateProject(messages.UpdateProjectRequest(project=project))
    after = await run("journeys", "validate", "-f", "-", "-o", "json", stdin=patient)

    assert before.json["warnings"] == []
    assert [one["reason"] for one in after.json["warnings"]] == ["EVENT_RETENTION_TOO_SHORT"]


async def test_segments_that_name_each_other_are_applied_in_order_and_never_in_a_circle(run: CommandLine) -> None:
    circle = REGULARS.replace(
        "kind: event_fired, eventName: purchase, atLeast: 3", "kind: in_cohort, cohortId: a-new-regulars"
    )

    wrong = await run("journeys", "validate", "-f", "-", stdin=circle)
    right = await run("journeys", "validate", "-f", "-", stdin=REGULARS)
    applied = await run("journeys", "apply", "-f", "-", "-o", "json", stdin=REGULARS)

    assert wrong.code == 1
    assert "COHORT_CYCLE" in wrong.out
    assert (right.code, right.out) == (0, "")
    assert set(actions(applied).values()) == {"created", "created, published"}


async def test_what_would_be_created_differs_and_then_does_not(run: CommandLine) -> None:
    before = await run("journeys", "diff", "-f", str(WELCOME), "-o", "json")
    shown = await run("journeys", "diff", "-f", str(WELCOME))
    listed = await run("journeys", "list", "-o", "json")
    await run("apply", "-f", str(WELCOME))
    after = await run("journeys", "diff", "-f", str(WELCOME))
    quiet = await run("journeys", "diff", "-f", str(WELCOME), "-o", "json")

    assert (before.code, shown.code, after.code, quiet.code) == (6, 6, 0, 0)
    assert set(actions(before).values()) == {"create"}
    assert of(before, "welcome")["publish"] == {"newestVersion": None, "differences": [], "communications": {}}
    assert "+ " in shown.out
    assert "name: Welcome" in shown.out
    assert "\x1b" not in shown.out
    assert listed.json == []
    assert (after.out, after.err) == ("", "Nothing differs.\n")
    assert set(actions(quiet).values()) == {"none"}


async def test_a_difference_is_told_field_by_field_and_changes_nothing(run: CommandLine) -> None:
    await run("apply", "-f", "-", stdin=REGULARS)
    changed = (
        REGULARS.replace("reason: greeted", "reason: met")
        .replace("there you are.", "good to see you.")
        .replace("name: Regulars\naudienceId", "name: Our regulars\naudienceId")
    )
    before = await run("journeys", "get", "regulars", "-o", "json")

    ran = await run("journeys", "diff", "-f", "-", "-o", "json", stdin=changed)
    shown = await run("journeys", "diff", "-f", "-", stdin=changed)
    after = await run("journeys", "get", "regulars", "-o", "json")

    steps = {"path": "steps[done].exit.reason", "old": "greeted", "new": "met"}
    assert ran.code == shown.code == 6
    assert of(ran, "regulars")["differences"] == [{"path": "name", "old": "Regulars", "new": "Our regulars"}, steps]
    assert of(ran, "regulars")["publish"] == {
        "newestVersion": 1, "differences": [steps], "communications": {"hello": {"old": 1, "new": 2}},
    }  # fmt: skip
    assert shown.out.splitlines() == [
        "~ -, document 6 (communication hello)",
        "    body:",
        "      @@ -1,2 +1,2 @@",
        "       Hello,",
        "      -there you are.",
        "      +good to see you.",
        "~ -, document 7 (journey regulars)",
        "    name: Regulars -> Our regulars",
        "    steps[done].exit.reason: greeted -> met",
        "  > is published after version 1",
        "      communication hello: revision 1 -> 2",
    ]
    assert shown.err == "2 of 7 differ.\n"
    assert before.json == after.json


async def test_a_draft_on_the_server_is_drift(run: CommandLine) -> None:
    await run("apply", "-f", "-", stdin=GREETING)
    drifted = GREETING.replace("reason: greeted", "reason: met")
    await run("apply", "--no-publish", "-f", "-", stdin=drifted)

    against_the_published = await run("journeys", "diff", "-f", "-", "-o", "json", stdin=GREETING)
    shown = await run("journeys", "diff", "-f", "-", stdin=GREETING)
    against_the_draft = await run("journeys", "diff", "-f", "-", "-o", "json", stdin=drifted)
    unpublished = await run("journeys", "diff", "--no-publish", "-f", "-", stdin=drifted)

    back = {"path": "steps[done].exit.reason", "old": "met", "new": "greeted"}
    assert of(against_the_published, "greeting")["differences"] == [back]
    assert of(against_the_published, "greeting")["draftOfVersion"] == 1
    assert "publish" not in of(against_the_published, "greeting")
    assert "on the server is a draft that is not version 1" in shown.out
    assert of(against_the_draft, "greeting")["action"] == "none"
    assert of(against_the_draft, "greeting")["publish"]["differences"] == [{**back, "old": "greeted", "new": "met"}]
    assert (against_the_published.code, shown.code, against_the_draft.code, unpublished.code) == (6, 6, 6, 0)


async def test_a_text_that_was_changed_on_the_server_is_drift_and_applied_even_beside_a_draft(run: CommandLine) -> None:
    await run("apply", "-f", "-", stdin=GREETING)
    text, journey = GREETING.split("---")
    await run("apply", "-f", "-", stdin=text.replace("There you are.", "Good to see you."))

    drift = await run("journeys", "diff", "-f", "-", stdin=GREETING)
    of_the_journey = await run("journeys", "diff", "-f", "-", "-o", "json", stdin=journey)
    # The server keeps a draft that says what the newest version does.
    for reason in ("met", "greeted"):
        await run("apply", "--no-publish", "-f", "-", stdin=journey.replace("greeted", reason))
    published = await run("apply", "-f", "-", "-o", "json", stdin=journey)
    again = await run("journeys", "diff", "-f", "-", stdin=journey)

    assert drift.code == 6
    assert "body: Good to see you. -> There you are." in drift.out
    assert of_the_journey.code == 6
    assert of(of_the_journey, "greeting")["publish"]["communications"] == {"hello": {"old": 1, "new": 2}}
    assert published.json == [{"kind": "journey", "id": "greeting", "action": "published", "version": 2}]
    assert again.code == 0


async def test_what_is_only_on_the_server_is_mentioned_if_that_is_wanted(run: CommandLine) -> None:
    limited = GREETING.replace("name: Greeting", "name: Greeting\nmaxDurationDays: 3")
    await run("apply", "-f", "-", stdin=limited)
    await run("apply", "-f", "-", stdin="kind: journey\nid: other\nname: Other\n")

    silent = await run("journeys", "diff", "-f", "-", stdin=GREETING)
    talkative = await run("journeys", "diff", "--all", "-f", "-", stdin=GREETING)
    document = await run("journeys", "diff", "--all", "-f", "-", "-o", "json", stdin=GREETING)

    assert (silent.code, talkative.code, document.code) == (0, 0, 0)
    assert silent.out == ""
    assert "(journey greeting) does not speak of: maxDurationDays" in talkative.out
    assert "journey other is only on the server" in talkative.out
    assert of(document, "other") == {"kind": "journey", "id": "other", "action": "unmanaged"}
    assert of(document, "greeting")["untouched"] == ["maxDurationDays"]


@pytest.mark.parametrize(
    ("text", "journey_id"),
    [
        (REMINDERS + RENEWAL, "renewal"),
        ((WELCOME / "journey.yaml").read_text(encoding="utf-8"), "welcome"),
        (REGULARS, "regulars"),
        (CHECK, "check-the-address"),
        (WIN_BACK, "win-back"),
    ],
    ids=["with-all-that-there-is", "welcome", "with-segments", "with-effects", "with-steps-that-learn"],
)
async def test_what_is_exported_does_not_differ_and_makes_the_same_elsewhere(
    run: CommandLine, elsewhere: CommandLine, tmp_path: Path, text: str, journey_id: str
) -> None:
    applied = await run("apply", "-f", "-", "-o", "json", stdin=text)

    exported = await run("journeys", "export", journey_id)
    in_files = await run("journeys", "export", "--all", "-o", str(tmp_path / "of-them"))
    same = await run("journeys", "diff", "-f", "-", "-o", "json", stdin=exported.out)
    same_in_files = await run("journeys", "diff", "--all", "-f", str(tmp_path / "of-them"))
    again = await run("apply", "-f", "-", "-o", "json", stdin=exported.out)
    valid = await elsewhere("journeys", "validate", "--strict", "-f", str(tmp_path / "of-them"))
    there = await elsewhere("apply", "-f", str(tmp_path / "of-them"), "-o", "json")
    exported_there = await elsewhere("journeys", "export", journey_id)
    compared = await run("journeys", "diff", "-f", "-", stdin=exported_there.out)

    assert (exported.code, exported.err) == (0, "")
    assert actions(same).keys() == actions(applied).keys()
    assert (same.code, same_in_files.code, compared.code) == (0, 0, 0)
    assert same_in_files.out == ""
    assert set(actions(again).values()) == {"unchanged"}
    assert (valid.code, valid.out) == (0, "")
    assert actions(there) == actions(applied)
    assert exported_there.out == exported.out
    assert in_files.out == ""
    assert in_files.err.startswith(f"{len(actions(applied))} files are in ")


async def test_the_newest_version_is_exported_or_the_draft_or_an_older_version(run: CommandLine) -> None:
    for reason in ("first", "second"):
        await run("apply", "-f", "-", stdin=GREETING.replace("reason: greeted", f"reason: {reason}"))
    await run("apply", "--no-publish", "-f", "-", stdin=GREETING.replace("reason: greeted", "reason: third"))

    async def exported(*options: str) -> str:
        ran = await run("journeys", "export", "greeting", *options)
        (journey,) = (one for one in parse_documents(ran.out) if one["kind"] == "journey")
        return str(journey["steps"][1]["exit"]["reason"])

    assert await exported() == "second"
    assert await exported("--draft") == "third"
    assert await exported("--version", "1") == "first"


async def test_an_export_says_what_is_missing(run: CommandLine) -> None:
    await run("apply", "--no-publish", "-f", "-", stdin=FAULTY)

    ran = await run("journeys", "export", "faulty")

    assert ran.code == 0
    assert [one["id"] for one in parse_documents(ran.out)] == ["faulty"]
    assert sorted(ran.err.splitlines()) == [
        "journey faulty names the audience nobody, which there is not.",
        "journey faulty names the communication gone, which there is not.",
        "journey faulty names the segment no id, which there is not.",
        "journey faulty names the triggerContract nothing, which there is not.",
    ]


async def test_who_does_not_say_which_journeys_or_files_is_told_so(run: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    codes = {
        "nothing to validate": await run("journeys", "validate"),
        "both to validate": await run("journeys", "validate", "a", "-f", "-"),
        "nothing to export": await run("journeys", "export"),
        "both to export": await run("journeys", "export", "a", "--all"),
        "a version of two": await run("journeys", "export", "a", "b", "--version", "1"),
        "a format for a directory": await run("journeys", "export", "--all", "-o", "json"),
        "no such journey": await run("journeys", "export", "nowhere"),
        "nothing to compare": await run("journeys", "diff"),
    }
    await run("apply", "-f", "-", stdin=GREETING)
    unwritable = await run("journeys", "export", "--all", "-o", str(tmp_path / "file"))

    assert {name: ran.code for name, ran in codes.items()} == dict.fromkeys(codes, 2) | {"no such journey": 3}
    assert all(ran.err and not ran.out for ran in codes.values())
    assert unwritable.code == 1
    assert "cannot be written" in unwritable.err


DRAWN = """
kind: journey
id: drawn
name: Drawn
definition:
  nodes:
    - {id: in, type: entry_trigger, position: {x: 0, y: 0}, data: {}}
    - {id: hello, type: channel_action, position: {x: 0, y: 9}, data: {communicationId: hello, label: Hi}}
    - {id: done, type: exit, data: {reason: greeted}}
  edges:
    - {source: hello, target: done, label: then}
    - {source: in, target: hello}
"""


async def test_files_may_have_either_form_and_are_held_against_the_server_in_it(
    run: CommandLine, tmp_path: Path
) -> None:
    greeting = GREETING.split("---")[0] + "---" + DRAWN
    plain = tmp_path / "plain.yaml"

    valid = await run("journeys", "validate", "-f", "-", "-o", "json", stdin=greeting)
    applied = await run("apply", "-f", "-", "-o", "json", stdin=greeting)
    again = await run("journeys", "diff", "-f", "-", stdin=greeting)
    plain.write_text((await run("journeys", "export", "drawn", "--form", "steps")).out)
    exported = await run("journeys", "export", "drawn")
    in_steps = await run("journeys", "diff", "-f", str(plain))
    by_hand = next(one for one in parse_documents(plain.read_text()) if one["kind"] == "journey")
    for step in by_hand["steps"]:
        step.pop("canvas", None)
    without_canvas = await run("journeys", "diff", "-f", "-", stdin=json.dumps(by_hand))
    by_hand["steps"][1]["exit"]["reason"] = "gone"
    changed = await run("journeys", "diff", "-f", "-", "-o", "json", stdin=json.dumps(by_hand))
    await run("apply", "-f", "-", stdin=json.dumps(by_hand))
    shown = await run("journeys", "get", "drawn", "--form", "graph", "-o", "json")
    back = await run("journeys", "publish", "drawn", "--from-version", "1", "-o", "json")

    assert valid.json == {"faults": [], "warnings": []}
    assert actions(applied)["journey drawn"] == "created, published"
    assert (again.code, in_steps.code, without_canvas.code) == (0, 0, 0)
    assert "definition:" in exported.out
    assert "steps:" not in exported.out
    assert [one["path"] for one in of(changed, "drawn")["differences"]] == ["steps[done].exit.reason"]
    nodes = json.loads(shown.out)["definition"]["nodes"]
    assert [node.get("position") for node in nodes] == [{"x": 0, "y": 0}, {"x": 0, "y": 9}, None]
    assert (nodes[1]["data"]["label"], nodes[2]["data"]["reason"]) == ("Hi", "gone")
    assert json.loads(back.out)["version"] == 3


async def test_faults_of_a_graph_in_a_file_lead_into_the_graph(run: CommandLine) -> None:
    spoiled = DRAWN.replace("target: done, label", "target: gone, label")

    ran = await run("journeys", "validate", "-f", "-", "-o", "json", stdin=spoiled)

    found = json.loads(ran.out)
    assert {(one["path"], one["reason"]) for one in found["faults"]} == {
        ("definition.nodes[1].data.communicationId", "COMMUNICATION_NOT_FOUND"),
        ("definition.edges[1].target", "NEXT_NOT_FOUND"),
    }
    assert [(one["path"], one["reason"]) for one in found["warnings"]] == [("definition.nodes[2]", "UNREACHABLE_STEP")]
