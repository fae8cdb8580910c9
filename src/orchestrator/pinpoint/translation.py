"""An export of Pinpoint as a bundle of ours, with everything that is not, or not exactly, in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.domain.channels import Rules, url_faults
from orchestrator.domain.ids import description_faults
from orchestrator.domain.journey_form import parse as parse_definition
from orchestrator.pinpoint.communications import Communications
from orchestrator.pinpoint.entry import Entry
from orchestrator.pinpoint.export import Kind, Resource, read_exports
from orchestrator.pinpoint.finding import Discoveries, Finding, FindingKind
from orchestrator.pinpoint.naming import Naming
from orchestrator.pinpoint.reading import place, says_nothing
from orchestrator.pinpoint.segments import Segments
from orchestrator.pinpoint.sending_hours import read_sending_hours
from orchestrator.pinpoint.steps import Steps
from orchestrator.pinpoint.ways import Activities
from orchestrator.predicates.cohorts import Cohorts, TooManyCohorts, TooManyLeaves
from orchestrator.predicates.faults import Fault
from orchestrator.predicates.parse import About
from orchestrator.predicates.parse import parse as parse_predicate

_JOURNEY = "journey"
_TEMPLATES = (Kind.EMAIL, Kind.SMS, Kind.PUSH)
_IN_DEFINITION = frozenset({"id", "name", "description", "status"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateways:
    """Where messages go for which there is no channel; None: not known. `rules` are those of URLs."""

    sms_url: str | None = None
    push_url: str | None = None
    rules: Rules = Rules()  # noqa: RUF009 (it is frozen)


@dataclass(frozen=True, slots=True, kw_only=True)
class Translation:
    """`bundle` is a bundle in its JSON form."""

    bundle: Mapping[str, Any]
    findings: tuple[Finding, ...]


def translate(exports: Sequence[Any], gateways: Gateways = Gateways(), path: str = "exports") -> Translation:
    """Translate an export: answers of Pinpoint's API, and requests to it, as JSON.

    All journeys come as drafts. Whatever the input, this returns, or raises InvalidArgument with everything that is
    wrong and where; `path` is where the exports stand in the caller's request.
    """
    found = Discoveries()
    urls = _gateway_urls(found, gateways)
    resources = read_exports(found, exports, path)
    # What follows relies on types.
    found.refuse_faulty()
    naming = Naming(found)
    segments, communications = Segments(found, naming), Communications(found, naming, urls, gateways.rules)
    for resource in resources:
        if resource.kind is Kind.SEGMENT:
            segments.read(resource)
        elif resource.kind in _TEMPLATES:
            communications.read(resource)
    segment_documents = segments.documents()
    journeys = [
        document
        for resource in resources
        if resource.kind is Kind.JOURNEY
        and (document := _journey(found, naming, segments, communications, resource)) is not None
    ]
    bundle = {
        "formatVersion": 1,
        "segments": segment_documents,
        "audiences": segments.audiences(),
        "communications": communications.documents(),
        "journeys": journeys,
    }
    found.refuse_faulty()
    _check(found, segment_documents, segments.paths())
    found.refuse_faulty()
    return Translation(bundle=bundle, findings=tuple(found.findings))


def _gateway_urls(found: Discoveries, gateways: Gateways) -> dict[Kind, str]:
    urls = {}
    for kind, url, path in ((Kind.SMS, gateways.sms_url, "smsUrl"), (Kind.PUSH, gateways.push_url, "pushUrl")):
        if url:
            urls[kind] = url
            _tell(found, url_faults(url, path, gateways.rules))
    return urls


def _journey(
    found: Discoveries, naming: Naming, segments: Segments, communications: Communications, resource: Resource
) -> dict[str, Any] | None:
    made_id = naming.take(_JOURNEY, resource)
    body, path = resource.body, resource.path
    activities = Activities(found, body, path)
    if made_id is None or found.is_faulty:
        return None
    entry = Entry(found, segments, body, path).members()
    hours = read_sending_hours(found, body, path)
    steps = Steps(
        found,
        made_id,
        activities,
        segments,
        communications,
        hours,
        reenters=entry["reentry"]["policy"] != "once",
    )
    document: dict[str, Any] = {"id": made_id, "name": naming.name_of(resource, made_id), "status": "draft"}
    if description := (body.get("StartCondition") or {}).get("Description"):
        document["description"] = description
        _tell(found, description_faults(description, place(path, "StartCondition", "Description")))
    document |= entry
    if hours.journey is not None:
        document["sendWindow"] = hours.journey
    document |= steps.members()
    if _follows_live(found, activities):
        document["followLiveCommunications"] = True
    _tell_state(found, resource)
    definition = {name: value for name, value in document.items() if name not in _IN_DEFINITION}
    _, faults = parse_definition(definition)
    _tell(found, (Fault(path=path, reason=f.reason, message=f"{f.path}: {f.message}") for f in faults))
    return document


def _follows_live(found: Discoveries, activities: Activities) -> bool:
    """Whether messages follow their templates: they do in Pinpoint unless they say which version they take."""
    senders = [one for one in activities.by_id.values() if one.kind in ("EMAIL", "SMS", "PUSH")]
    pinned = [one for one in senders if one.body.get("TemplateVersion")]
    for activity in senders if pinned else ():
        if activity not in pinned:
            message = "since another activity names a version, this journey sends texts as of when it is published"
            found.find(FindingKind.DIFFERS, place(activity.path, "TemplateVersion"), None, message)
    return bool(senders) and not pinned


def _tell_state(found: Discoveries, resource: Resource) -> None:
    state = resource.body.get("State")
    if not says_nothing(state) and state != "DRAFT":
        message = "it comes as a draft, so that nothing goes out before somebody has looked: publish it then"
        found.find(FindingKind.DIFFERS, place(resource.path, "State"), state, message)


def _check(found: Discoveries, segments: Iterable[Mapping[str, Any]], paths: Mapping[str, str]) -> None:
    """Limits of ours that rules of segments may be past."""
    rules = {}
    for segment in segments:
        if "rules" not in segment:
            continue
        predicate, faults = parse_predicate(segment["rules"], "", about=About.SUBJECT)
        path = paths[segment["id"]]
        _tell(found, (Fault(path=path, reason=f.reason, message=f"rules{f.path}: {f.message}") for f in faults))
        if predicate is not None:
            rules[segment["id"]] = predicate
    cohorts = Cohorts(rules)
    for segment_id in rules:  # each after those that it names
        try:
            cohorts.size_of(segment_id)
        except TooManyCohorts:
            found.fault(paths[segment_id], "TOO_DEEP", "asks about more than 8 segments within each other")
            return
        except TooManyLeaves:
            found.fault(paths[segment_id], "TOO_LARGE", "with those of its base segments, more than 1000 conditions")
            return


def _tell(found: Discoveries, faults: Iterable[Fault]) -> None:
    for fault in faults:
        found.fault(fault.path, fault.reason, fault.message)
