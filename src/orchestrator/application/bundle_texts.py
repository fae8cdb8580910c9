"""The communications of a bundle, with what its journeys send of them. Callers own the transaction."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from asyncpg import Connection, Record

from orchestrator.application.bundle_problems import BundleProblems
from orchestrator.application.communications import Communications
from orchestrator.application.project_definitions import Definitions
from orchestrator.application.threads import in_thread
from orchestrator.domain.bundle import Action, Bundle, BundledJourney, Change, PinnedText, same_text
from orchestrator.domain.communication import CONTENT, Communication, content_of
from orchestrator.domain.etag import Expected
from orchestrator.domain.journey import JourneyStatus, Pinned
from orchestrator.domain.journey_form import digest, parse
from orchestrator.domain.journey_graph import communications_in
from orchestrator.domain.refusals import Conflict
from orchestrator.domain.resource import Resource, differ
from orchestrator.domain.scope import Scope
from orchestrator.predicates.faults import Fault, under
from orchestrator.storage import communications

_ANY_STATE = Expected()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Older:
    """A text that a journey sends and that is not the newest of its communication. `place` is where it stands."""

    place: str
    content: Mapping[str, Any]


class TextImports:
    """Texts that journeys send are revisions: the older ones are written before the newest, unless they are there."""

    def __init__(
        self,
        conn: Connection[Record],
        scope: Scope,
        use_cases: Communications,
        problems: BundleProblems,
        bundle: Bundle,
        before: Definitions,
    ) -> None:
        self._conn = conn
        self._scope = scope
        self._use_cases = use_cases
        self._problems = problems
        self._before = before
        self.bundle = bundle
        self._newest = {one.id: content_of(one.content) for one in before.communications.values()}
        self._newest |= {one.id: content_of(one.content) for one in bundle.communications}

    def is_published(self, journey: BundledJourney) -> bool:
        """Whether the newest version of a journey is what the bundle has published, and sends what that sends."""
        version = self._before.versions.get(journey.id)
        if version is None or digest(version.definition) != digest(journey.definition):
            return False
        live = bool(version.definition.get("followLiveCommunications"))
        wanted = {**self._newest, **{text.communication_id: text.content for text in journey.pinned_texts}}
        return all(
            same_text(self._before.texts[one, pin.content_revision], wanted[one], live=live)
            for one, pin in version.pinned.items()
            if one in wanted
        )

    async def bring(self) -> list[Change]:
        """Make the communications of the bundle, and the texts that its journeys send."""
        older = await in_thread(self._older_texts)
        changes = []
        for index, one in enumerate(self.bundle.communications):
            before = self._before.communications.get(one.id)
            place = under("communications", index)
            if before is not None:
                one.expected.require(revision=before.revision, updated_at=before.updated_at, place=place)
            elif one.expected != _ANY_STATE:
                raise Conflict("ETAG_MISMATCH", "it is not there any more", place=place)
            changes.append(await self._bring(one.id, place, one.content, before, older.pop(one.id, [])))
        for communication_id, texts in sorted(older.items()):
            there = self._before.communications[communication_id]
            changes.append(await self._bring(communication_id, texts[0].place, there.content, there, texts))
        return changes

    async def pins(self, journey: BundledJourney) -> dict[str, Pinned]:
        """The revisions of what a journey sends of older texts, by communication, without those that were refused."""
        pins = {}
        for text in journey.pinned_texts:
            revision = await self._revision(text.communication_id, text.content)
            if revision is None:
                continue
            pins[text.communication_id] = Pinned(
                content_revision=revision, channel=text.content["channel"], category=text.content["category"]
            )
        return pins

    def _older_texts(self) -> dict[str, list[_Older]]:
        """Of journeys that have to be published, by communication."""
        older: dict[str, list[_Older]] = {}
        for at, journey in enumerate(self.bundle.journeys):
            for place, text in self._placed_texts(under("journeys", at), journey):
                if self._is_over(journey) or self.is_published(journey):
                    continue
                if text.communication_id in self._newest:
                    texts = older.setdefault(text.communication_id, [])
                    texts.append(_Older(place=under(place, "content"), content=text.content))
                    continue
                message = f"there is no communication {text.communication_id}"
                fault = Fault(path="communicationId", reason="COMMUNICATION_NOT_FOUND", message=message)
                self._problems.add(place, [fault])
        return older

    def _placed_texts(self, path: str, journey: BundledJourney) -> Iterator[tuple[str, PinnedText]]:
        """The texts of a journey that its definition sends; others are at fault."""
        if not journey.pinned_texts:
            return
        definition, _ = parse(journey.definition)
        sent = communications_in(definition) if definition is not None else None
        for index, text in enumerate(journey.pinned_texts):
            place = under(under(path, "pinnedTexts"), index)
            if sent is not None and text.communication_id not in sent:
                at = under(place, "communicationId")
                message = "the definition does not send it"
                self._problems.add_wrong([Fault(path=at, reason="INVALID_VALUE", message=message)])
            else:
                yield place, text

    def _is_over(self, journey: BundledJourney) -> bool:
        there = self._before.journeys.get(journey.id)
        return there is not None and there.status is JourneyStatus.ARCHIVED

    async def _bring(
        self,
        communication_id: str,
        place: str,
        wanted: Communication,
        before: Resource[Communication] | None,
        older: Sequence[_Older],
    ) -> Change:
        missing = await self._missing(communication_id, older)
        steps = [(text.place, Communication(name=wanted.name, **text.content)) for text in missing]
        steps.append((place, wanted))
        action = Action.CREATED
        different: tuple[str, ...] = ()
        if before is not None:
            action, different = Action.UPDATED, _differing(before.content, wanted)
            if not different and not missing:
                return Change(kind="communication", id=communication_id, action=Action.UNCHANGED)
        for number, (at, content) in enumerate(steps):
            if before is None and number == 0:
                work = self._use_cases.create(self._conn, self._scope, communication_id, content)
            else:
                changes = {name: getattr(content, name) for name in ("name", *CONTENT)}
                work = self._use_cases.update(self._conn, self._scope, communication_id, changes, _ANY_STATE)
            if await self._problems.collect("communication", communication_id, at, work) is None:
                break
        return Change(kind="communication", id=communication_id, action=action, fields=different)

    async def _missing(self, communication_id: str, older: Sequence[_Older]) -> list[_Older]:
        """Those that no revision says, each once."""
        missing: list[_Older] = []
        for text in older:
            is_new = all(not same_text(one.content, text.content, live=False) for one in missing)
            if is_new and await self._revision(communication_id, text.content) is None:
                missing.append(text)
        return missing

    async def _revision(self, communication_id: str, content: Mapping[str, Any]) -> int | None:
        return await communications.revision_saying(self._conn, self._scope.project_no, communication_id, content)


def _differing(before: Communication, after: Communication) -> tuple[str, ...]:
    return tuple(name for name in ("name", *CONTENT) if differ(getattr(before, name), getattr(after, name)))
