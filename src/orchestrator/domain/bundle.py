"""Bundles: what a project consists of, without the people in it, in a form that another project can take over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum
from typing import Any, Generic, TypeVar

from orchestrator.domain.audience import Audience
from orchestrator.domain.communication import CONTENT, Communication
from orchestrator.domain.etag import Expected
from orchestrator.domain.journey import JourneyStatus
from orchestrator.domain.project import ProjectSettings
from orchestrator.domain.resource import differ
from orchestrator.domain.segment import Segment
from orchestrator.domain.trigger_contract import Contract
from orchestrator.predicates.faults import Fault, under

#: The form of bundles that is written and read.
FORMAT_VERSION = 1

#: The statuses that a journey of a bundle may have.
STATUSES = (JourneyStatus.DRAFT, JourneyStatus.ACTIVE, JourneyStatus.PAUSED)

Content = TypeVar("Content")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundled(Generic[Content]):
    """A resource in a bundle. `expected` is the state that whoever imports it has seen."""

    id: str
    content: Content
    expected: Expected = field(default_factory=Expected)


@dataclass(frozen=True, slots=True, kw_only=True)
class PinnedText:
    """What a published journey sends of a communication that says something else by now. `content` has CONTENT."""

    communication_id: str
    content: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class BundledJourney:
    """A journey in a bundle. `definition`, as it is kept, is what is published; of a draft it is the draft.

    `goal_event` None: says nothing of the goal, "": there is none; `goal_window` None: says nothing of its window.
    `draft` None: says nothing of changes that are not published.
    """

    id: str
    name: str
    description: str
    status: JourneyStatus
    definition: Mapping[str, Any]
    goal_event: str | None = None
    goal_window: timedelta | None = None
    draft: Mapping[str, Any] | None = None
    pinned_texts: tuple[PinnedText, ...] = ()
    expected: Expected = field(default_factory=Expected)

    @property
    def is_published(self) -> bool:
        return self.status is not JourneyStatus.DRAFT


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """`settings` None: says nothing of them."""

    format_version: int = FORMAT_VERSION
    settings: ProjectSettings | None = None
    segments: Sequence[Bundled[Segment]] = ()
    audiences: Sequence[Bundled[Audience]] = ()
    communications: Sequence[Bundled[Communication]] = ()
    trigger_contracts: Sequence[Bundled[Contract]] = ()
    journeys: Sequence[BundledJourney] = ()


def format_fault(bundle: Bundle) -> Fault | None:
    """Why nothing of the bundle can be read; None: it can."""
    if bundle.format_version == FORMAT_VERSION:
        return None
    message = f"this server reads bundles of the form {FORMAT_VERSION}, and this is one of the form "
    return Fault(path="formatVersion", reason="BUNDLE_FORMAT_UNKNOWN", message=f"{message}{bundle.format_version}")


def faults_in(bundle: Bundle) -> list[Fault]:
    """What is wrong with a bundle beyond each of its resources."""
    faults: list[Fault] = []
    for path, ids in (
        ("segments", [one.id for one in bundle.segments]),
        ("audiences", [one.id for one in bundle.audiences]),
        ("communications", [one.id for one in bundle.communications]),
        ("triggerContracts", [one.id for one in bundle.trigger_contracts]),
        ("journeys", [one.id for one in bundle.journeys]),
    ):
        faults += _id_faults(path, ids)
    for index, journey in enumerate(bundle.journeys):
        faults += _journey_faults(journey, under("journeys", index))
    return faults


def same_text(before: Mapping[str, Any], after: Mapping[str, Any], *, live: bool) -> bool:
    """Whether publishing one and the other comes to the same. Of texts that are followed `live` a version fixes channel
    and category alone."""
    names = ("channel", "category") if live else CONTENT
    return not any(differ(before[name], after[name]) for name in names)


def _id_faults(path: str, ids: Sequence[str]) -> list[Fault]:
    faults: list[Fault] = []
    first: dict[str, int] = {}
    for index, one in enumerate(ids):
        at = under(under(path, index), "id")
        if not one:
            faults.append(Fault(path=at, reason="REQUIRED", message="must be given"))
        elif first.setdefault(one, index) != index:
            message = f"is that of {under(path, first[one])} too"
            faults.append(Fault(path=at, reason="DUPLICATE_ID", message=message))
    return faults


def _journey_faults(journey: BundledJourney, path: str) -> list[Fault]:
    faults: list[Fault] = []
    if journey.status not in STATUSES:
        message = f"must be one of {', '.join(status.value for status in STATUSES)}"
        faults.append(Fault(path=under(path, "status"), reason="INVALID_VALUE", message=message))
    elif not journey.is_published:
        for name, is_given in (("draft", journey.draft is not None), ("pinnedTexts", bool(journey.pinned_texts))):
            if is_given:
                message = "only a journey that is published has any; set its status"
                faults.append(Fault(path=under(path, name), reason="INVALID_VALUE", message=message))
    seen: set[str] = set()
    for index, text in enumerate(journey.pinned_texts):
        at = under(under(under(path, "pinnedTexts"), index), "communicationId")
        if text.communication_id in seen:
            faults.append(Fault(path=at, reason="DUPLICATE_ID", message="has a text here already"))
        seen.add(text.communication_id)
    return faults


class Action(Enum):
    """What an import does with one thing of a bundle."""

    UNCHANGED = "unchanged"
    CREATED = "created"
    UPDATED = "updated"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What an import does with one thing of a bundle. `kind` is settings, segment, audience, communication,
    triggerContract or journey. `fields`: of what is updated, the members that differ. `version`: what was published.
    """

    kind: str
    id: str
    action: Action
    fields: tuple[str, ...] = ()
    version: int | None = None
    warnings: tuple[Fault, ...] = ()
