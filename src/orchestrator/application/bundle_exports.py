"""A project as a bundle. Callers own the transaction, which sees one state of the project."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from asyncpg import Connection, Record

from orchestrator.application import segments
from orchestrator.application.bundle_warnings import absences
from orchestrator.application.named_definitions import named_by
from orchestrator.application.project_definitions import Definitions, read_definitions
from orchestrator.application.segment_rules import RuleBook
from orchestrator.domain import likely_secrets
from orchestrator.domain.bundle import Bundle, Bundled, BundledJourney, PinnedText, same_text
from orchestrator.domain.communication import content_of
from orchestrator.domain.graph_form import as_written
from orchestrator.domain.journey import Journey, JourneyStatus
from orchestrator.domain.resource import Resource
from orchestrator.domain.scope import Scope
from orchestrator.domain.segment import STATIC, SYSTEM
from orchestrator.predicates.faults import Fault, under
from orchestrator.storage import api_keys, clock
from orchestrator.storage.journey_versions import Published

#: Of the channel: the settings of the server without which nothing goes out by it, and what they are.
_SETTINGS_OF_CHANNELS = {
    "email": {
        "ORCHESTRATOR_SMTP_URL": "where mail is handed over, with user and password",
        "ORCHESTRATOR_UNSUBSCRIBE_SECRETS": "what unsubscribe links are signed with",
    },
    "webhook": {"ORCHESTRATOR_WEBHOOK_SECRETS": "what requests are signed with"},
}
_KEYS_AT_ONCE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """Something that a bundle does not have. `kind` is members (of a list), apiKey, journey or setting."""

    kind: str
    id: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """`etag` names the state of the project's definitions. Paths of warnings start at the bundle."""

    bundle: Bundle
    left_out: tuple[LeftOut, ...]
    warnings: tuple[Fault, ...]
    etag: str


async def export_bundle(
    conn: Connection[Record], scope: Scope, *, with_settings: bool = True, journey_ids: Collection[str] = ()
) -> Exported:
    """The project's definitions but for archived journeys, sorted by id: equal definitions make equal bundles.

    `journey_ids`: only these journeys, and what they name; none: all. Raises NotFound, FailedPrecondition
    JOURNEY_ARCHIVED.
    """
    there = await read_definitions(conn, scope.project_no)
    if journey_ids:
        there = named_by(there, journey_ids)
    bundle = _bundle(there)
    if not with_settings:
        bundle = replace(bundle, settings=None)
    left_out = [
        *await _members(conn, scope, bundle),
        *[_archived(journey) for journey in _sorted(there.journeys) if journey.status is JourneyStatus.ARCHIVED],
        *await _keys(conn, scope),
        *_settings(bundle),
    ]
    warnings = [*await absences(conn, scope.project_no, bundle, there), *_secrets(bundle)]
    return Exported(bundle=bundle, left_out=tuple(left_out), warnings=tuple(warnings), etag=there.etag)


def _bundle(there: Definitions) -> Bundle:
    settings = there.project.settings
    return Bundle(
        settings=replace(settings, unread=(), of_newer_releases={}),
        segments=[_bundled(one) for one in _sorted(there.segments) if one.content.kind != SYSTEM],
        audiences=[_bundled(one) for one in _sorted(there.audiences)],
        communications=[_bundled(one) for one in _sorted(there.communications)],
        trigger_contracts=[_bundled(one) for one in _sorted(there.trigger_contracts)],
        journeys=[_journey(one, there) for one in _sorted(there.journeys) if one.status is not JourneyStatus.ARCHIVED],
    )


def _sorted(resources: Mapping[str, Any]) -> list[Any]:
    return [resources[one] for one in sorted(resources)]


def _bundled(resource: Resource[Any]) -> Bundled[Any]:
    return Bundled(id=resource.id, content=resource.content)


def _journey(journey: Journey, there: Definitions) -> BundledJourney:
    newest = there.versions.get(journey.journey_id)
    return BundledJourney(
        id=journey.journey_id,
        name=journey.name,
        description=journey.description,
        status=journey.status,
        definition=journey.definition if newest is None else newest.definition,
        goal_event=journey.goal.event_name or "",
        goal_window=journey.goal.window,
        draft=journey.definition if newest is not None and journey.has_draft else None,
        pinned_texts=tuple(_pinned_texts(newest, there)) if newest is not None else (),
    )


def _pinned_texts(version: Published, there: Definitions) -> Iterator[PinnedText]:
    live = bool(version.definition.get("followLiveCommunications"))
    for communication_id, pin in sorted(version.pinned.items()):
        pinned = there.texts[communication_id, pin.content_revision]
        newest = there.communications.get(communication_id)
        if newest is None or not same_text(pinned, content_of(newest.content), live=live):
            yield PinnedText(communication_id=communication_id, content=pinned)


async def _members(conn: Connection[Record], scope: Scope, bundle: Bundle) -> list[LeftOut]:
    """Who is in lists. Where a list is empty, whoever asks about it gets another answer."""
    lists = [one.id for one in bundle.segments if one.content.kind == STATIC]
    states = await segments.states(conn, scope.project_no, RuleBook(), lists) if lists else {}
    message = "is a list, and {} are in it: have them in it before anything asks about it"
    return [
        LeftOut(kind="members", id=one, message=message.format(states[one].size)) for one in lists if states[one].size
    ]


def _archived(journey: Journey) -> LeftOut:
    message = "is archived, and takes nobody in any more; its record stays where it is"
    return LeftOut(kind="journey", id=journey.journey_id, message=message)


async def _keys(conn: Connection[Record], scope: Scope) -> list[LeftOut]:
    """The keys that are valid: nobody has them but their bearers, so others have to be made."""
    now = await clock.now(conn)
    found, after = [], None
    while True:
        page, after = await api_keys.page(conn, scope.project_no, after, _KEYS_AT_ONCE)
        found += [key for key in page if key.revoked_at is None and (key.expires_at is None or key.expires_at > now)]
        if after is None:
            break
    return [
        LeftOut(
            kind="apiKey",
            id=key.api_key_id,
            message=f"a key of the role {key.role.name.lower()}, called {key.name}: make another where it is needed",
        )
        for key in sorted(found, key=lambda key: key.api_key_id)
    ]


def _settings(bundle: Bundle) -> Iterator[LeftOut]:
    used = {one.content.channel for one in bundle.communications}
    if any("webhook" in step for journey in bundle.journeys for step in journey.definition.get("steps") or []):
        used.add("webhook")
    for channel in sorted(used & _SETTINGS_OF_CHANNELS.keys()):
        for name, meaning in _SETTINGS_OF_CHANNELS[channel].items():
            yield LeftOut(kind="setting", id=name, message=f"{meaning}: set it on the other server")


def _secrets(bundle: Bundle) -> Iterator[Fault]:
    for index, one in enumerate(bundle.communications):
        yield from likely_secrets.of_settings(one.content.settings, under(under("communications", index), "settings"))
    for index, journey in enumerate(bundle.journeys):
        at = under("journeys", index)
        for document, path in ((journey.definition, at), (journey.draft or {}, under(at, "draft"))):
            yield from _placed(as_written(document, list(likely_secrets.of_steps(document, ""))), path)


def _placed(faults: Iterable[Fault], path: str) -> Iterator[Fault]:
    return (replace(fault, path=under(path, fault.path)) for fault in faults)
