"""`journeys simulate`: what a journey would do, drawn step by step."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from enum import Enum
from json import dumps
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.panel import Panel

from orchestrator.api.json_decode import decode
from orchestrator.api.json_encode import encode
from orchestrator.api.json_text import parse_json
from orchestrator.cli.connection import call
from orchestrator.cli.failure import USAGE, CommandFailure
from orchestrator.cli.files import read_text
from orchestrator.cli.output import Output, OutputOption, console, plain_table, print_json, text_of
from orchestrator.cli.resources import Id
from orchestrator.client import messages
from orchestrator.domain.durations import format_duration
from orchestrator.predicates.faults import Wrong

Json = dict[str, Any]

#: When; an event's name, if it is one; a JSON object.
_SUPPOSED = re.compile(r"(?P<when>\S+)(?:\s+(?P<name>[^\s{].*?))?(?:\s+(?P<document>\{.*\}))?\s*", re.DOTALL)

#: What the instants of a simulation are told to.
_SECOND = timedelta(seconds=1)

#: Characters of a document in a table.
_SHOWN = 300

_STOPS = {
    "not_entered": "does not enter",
    "held_out": "is let in and held out: no steps",
    "waits": "stands there: nothing would happen any more but that time passes",
    "looks": "cut off: it looked too often",
    "seconds": "cut off: it took too long",
}


class Override(Enum):
    OPT_OUT = "opt_out"
    SUPPRESSION = "suppression"
    FREQUENCY_CAP = "frequency_cap"
    HOLDOUT = "holdout"


def simulate(
    journey_id: Id,
    subject_id: Annotated[str, typer.Argument(metavar="[SUBJECT_ID]", help="For whom.")] = "",
    attributes: Annotated[
        str, typer.Option(metavar="JSON", help="For somebody with these attributes, who need not be stored.")
    ] = "",
    time_zone: Annotated[str, typer.Option(help="Of such a one, as Europe/Berlin.")] = "",
    entry: Annotated[str, typer.Option(metavar="JSON", help="The properties of the event that starts it.")] = "",
    event: Annotated[
        list[str] | None,
        typer.Option(metavar="'WHEN NAME JSON'", help="What happens: '3d purchase {\"amount\": 5}'; or at a time."),
    ] = None,
    change: Annotated[
        list[str] | None,
        typer.Option(metavar="'WHEN JSON'", help='What attributes become: \'3d {"plan": "pro"}\'; or at a time.'),
    ] = None,
    answer: Annotated[
        list[str] | None,
        typer.Option(metavar="STEP=JSON", help="What the webhook of a step answers; or STEP=@FILE. None is called."),
    ] = None,
    start: Annotated[str, typer.Option(metavar="TIME", help="When it starts (RFC 3339), if not now.")] = "",
    override: Annotated[
        list[Override] | None, typer.Option(help="Do not ask this gate for once. Owners only; may be repeated.")
    ] = None,
    enter_anyway: Annotated[bool, typer.Option("--enter-anyway", help="Also if a gate at entry refuses.")] = False,
    all_paths: Annotated[bool, typer.Option("--all-paths", help="Show also where the journey can lead.")] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Say what the journey would do with somebody, step by step, and why. Nobody is sent anything.

    Takes the draft if there is one, else the newest version. Waits pass on a virtual clock.
    """
    document: Json = {
        "journeyId": journey_id,
        "subjectId": subject_id or None,
        "subjectAttributes": _json(attributes, "--attributes") if attributes else None,
        "timeZone": time_zone or None,
        "entry": _json(entry, "--entry") if entry else None,
        "events": [_supposed(text, "--event", "properties") for text in event or ()],
        "changes": [_supposed(text, "--change", "attributes") for text in change or ()],
        "answers": dict(map(_answer, answer)) if answer else None,
        "startsAt": start or None,
        "overrides": [one.value for one in override or ()],
        "enterAnyway": enter_anyway,
        "allPaths": all_paths,
    }
    request, faults = decode(messages.SimulateJourneyRequest, document)
    if faults:
        raise CommandFailure("\n".join(f"{fault.path}: {fault.message}" for fault in faults), USAGE)
    told = encode(call(lambda client: client.journeys.SimulateJourney(request)))
    if output is Output.JSON:
        print_json(told)
        return
    which = f"version {told['version']}" if told["version"] else "the draft"
    if "simulation" in told:
        _draw(told["journeyId"], which, told["simulation"])
    if "paths" in told:
        _draw_paths(told["journeyId"], which, told["paths"])


def _draw(journey_id: str, which: str, simulation: Json) -> None:
    who = simulation.get("subjectId") or "somebody with these attributes"
    start = _instant(simulation["startedAt"])
    _say(f"{journey_id}, {which}, for {who}, from {simulation['startedAt']}")
    _say(f"{_way(simulation['entry'])}: {', '.join(map(_gate, simulation['entry']['gates']))}")
    if "overrides" in simulation:
        _say(f"not asked: {', '.join(simulation['overrides'])}")
    table = plain_table("after", "step", "kind", "result", "stood", "why", title="")
    for step in simulation["steps"]:
        entered = _instant(step["enteredAt"])
        left = _instant(step["leftAt"]) if "leftAt" in step else None
        stood = format_duration(_whole(left - entered)) if left is not None and left - entered >= _SECOND else ""
        cells = (
            format_duration(_whole(entered - start)),
            step["stepId"],
            step["stepKind"],
            " ".join(filter(None, (step.get("result", "stands there"), step.get("reason")))),
            stood,
            "; ".join(_reasons(step)),
        )
        table.add_row(*map(text_of, cells))
    if simulation["steps"]:
        console().print(table)
    _say(f"\n{_end(simulation, start)}")
    for step in simulation["steps"]:
        if "body" in step.get("message", {}):
            message = step["message"]
            title = f"{step['stepId']}: {message['communicationId']}, {message['channel']}"
            lines = "\n".join(filter(None, (message.get("subject"), message["body"].rstrip())))
            console().print(Panel(text_of(lines), title=text_of(title), title_align="left", width=100))


def _way(entry: Json) -> str:
    match entry["kind"]:
        case "event":
            how = f"by the event {entry['eventName']}"
        case "segment":
            how = f"by having {entry['transition']} the segment {entry['segmentId']}"
        case _:
            how = "by hand"
    return f"enters {how}" if entry.get("enters") else f"does not enter {how} ({entry['refusal']})"


def _gate(gate: Json) -> str:
    return f"{gate['gate']} {'ok' if gate.get('open') else gate['refusal']}"


def _reasons(step: Json) -> Iterator[str]:
    """What there is to say beside what came of the step."""
    for slept in step.get("sleeps", ()):
        if slept.get("parked"):
            yield f"held by {slept['parked']} until {slept['until']}"
        elif "leftAt" not in step:
            yield f"looks at {slept['until']}"
    if "share" in step:
        yield f"{step['share']:.1%} go there"
    for condition in step.get("conditions", ()):
        yield _condition(condition)
    if "message" in step:
        message = step["message"]
        yield " ".join(filter(None, (message["channel"], message.get("subject"), message.get("failure"))))
    if "attributes" in step.get("change", {}):
        yield f"changes {_short(step['change']['attributes'])}"
    if "event" in step:
        event = step["event"]
        yield f"{event['eventName']} happens with {_short(event.get('properties', {}))}"
    if "choice" in step:
        yield _choice(step["choice"])
    if "call" in step:
        yield _call(step["call"], step.get("result") == "failed")


def _choice(choice: Json) -> str:
    if choice.get("held"):
        return "as it was chosen before"
    version = choice.get("policyVersion")
    return f"{choice['reason']}, by version {version} of its policy" if version else f"{choice['reason']}, no policy"


def _call(made: Json, failed: bool) -> str:
    told = " ".join(filter(None, (made["method"].upper(), made.get("url"))))
    if "body" in made:
        told += f" with {_short(made['body'])}"
    if failed:
        return f"{told}: cannot be filled in"
    return f"{told}: not called, taken as answered{' as given' if made.get('answered') else ' with nothing'}"


def _short(document: Json) -> str:
    """As JSON, as much as a table has room for: `-o json` has all of it."""
    text = dumps(document, ensure_ascii=False)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _condition(condition: Json) -> str:
    truth = _of(condition, "holds", "does not hold", "cannot be told")
    name = condition.get("ruleId") or condition.get("armId")
    if "eventName" in condition:
        what = f"event {condition['eventName']}, the last {condition.get('lastEventAt', 'never')}"
    elif "fieldPath" in condition:
        what = f"a change of {condition['fieldPath']}"
    else:
        what = ", ".join(_leaves(condition.get("explanation", {})))
    return " ".join(filter(None, (name, truth, f"({what})" if what else "")))


def _leaves(node: Json) -> Iterator[str]:
    """The leaves of an explanation, each with its truth."""
    below = [*node.get("clauses", ()), *(node[name] for name in ("clause", "rules") if name in node)]
    if below:
        for one in below:
            yield from _leaves(one)
        return
    if "kind" in node:
        about = " ".join(str(node[name]) for name in ("eventName", "fieldPath", "operator", "cohortId") if name in node)
        evidence = node.get("evidence", {})
        counted = f": {evidence['counted']:g} of {evidence['needed']:g}" if "needed" in evidence else ""
        mark = _of(node, "✓", "✗", "?")
        yield f"{mark} {node['kind']} {about}{counted}".rstrip()


def _of(node: Json, true: str, false: str, open_: str) -> str:
    """One of these, by its truth."""
    return open_ if "truth" not in node else true if node["truth"] else false


def _end(simulation: Json, start: datetime) -> str:
    after = format_duration(_whole(_instant(simulation["stoppedAt"]) - start))
    stop = simulation["stop"]
    if stop == "ended":
        told = f"{simulation['outcome']}: {simulation['reason']}, after {after}"
        if "leftFor" in simulation:
            told += f"; {_condition(simulation['leftFor'])}"
    elif stop == "held_out":
        told = f"{_STOPS[stop]} ({simulation['heldOutBy']})"
    elif stop == "not_entered":
        told = _STOPS[stop]
    else:
        told = f"{_STOPS.get(stop, stop)}, after {after}"
    left_out = simulation.get("cuts")
    return f"{told} (left out: {', '.join(left_out)})" if left_out else told


def _draw_paths(journey_id: str, which: str, paths: Json) -> None:
    _say(f"{journey_id}, {which}: where it can lead")
    table = plain_table("step", "kind", "by", "leads to", title="")
    for node in paths["nodes"]:
        for number, (target, ways) in enumerate(_by_target(node["ways"]).items()):
            named = (node["stepId"], node["stepKind"]) if number == 0 else ("", "")
            table.add_row(*map(text_of, (*named, ", ".join(ways), target)))
    console().print(table)
    table = plain_table("outcome", "reason", "paths", "shortest", title="\noutcomes")
    for outcome in paths["outcomes"]:
        path = " → ".join(map(_passed, outcome.get("path", ()))) or "from anywhere"
        count = outcome["paths"] or ""
        table.add_row(*map(text_of, (outcome["outcome"], outcome["reason"], count, path)))
    console().print(table)


def _by_target(ways: Iterable[Json]) -> dict[str, list[str]]:
    """What each step or end is led to by."""
    found: dict[str, list[str]] = {}
    for way in ways:
        target = way.get("next") or f"{way['outcome']}: {way['outcomeReason']}"
        share = f" {way['share']:.1%}" if "share" in way else ""
        found.setdefault(target, []).append(f"{way.get('reason') or way['result']}{share}")
    return found


def _passed(step: Json) -> str:
    return f"{step['stepId']} ({step['reason']})" if step.get("reason") else str(step["stepId"])


def _supposed(text: str, option: str, member: str) -> Json:
    """What one option says: when, perhaps the name of an event, perhaps a JSON object."""
    found = _SUPPOSED.fullmatch(text.strip())
    has_name = found is not None and found["name"] is not None
    if found is None or has_name is not (member == "properties"):
        form = "'3d purchase {\"amount\": 5}'" if member == "properties" else '\'3d {"plan": "pro"}\''
        raise CommandFailure(f"{option} {text}: write it as {form}.", USAGE)
    when = found["when"]
    supposed: Json = {"at" if "T" in when and "-" in when else "after": when}
    if has_name:
        supposed["name"] = found["name"]
    if found["document"] is not None:
        supposed[member] = _json(found["document"], option)
    return supposed


def _answer(text: str) -> tuple[str, Any]:
    """(step, answer) that one option says."""
    step_id, sign, given = text.partition("=")
    if not step_id or not sign:
        raise CommandFailure(f"--answer {text}: write it as 'check={{\"score\": 7}}' or 'check=@answer.json'.", USAGE)
    return step_id, _json(read_text(Path(given[1:])) if given.startswith("@") else given, "--answer")


def _json(text: str, option: str) -> Any:
    try:
        return parse_json(text.encode())
    except Wrong as wrong:
        raise CommandFailure(f"{option} is no JSON: {wrong.fault.message}.", USAGE) from None


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _whole(length: timedelta) -> timedelta:
    """To the second."""
    return length // _SECOND * _SECOND


def _say(line: str) -> None:
    console().print(text_of(line), soft_wrap=True)
