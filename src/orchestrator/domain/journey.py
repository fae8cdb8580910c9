"""A journey's graph: what an author writes, and what publish makes immutable.

The JSON form of a definition (camelCase, the same in HTTP, YAML and the database) is read by `journey_form.py`;
`journey_graph.py` says what is wrong with one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from enum import Enum
from typing import Any

from orchestrator.domain.auto_pause import AutoPause
from orchestrator.domain.holdout import Holdout
from orchestrator.domain.hours import Hours
from orchestrator.domain.schedule import Firing, Schedule
from orchestrator.domain.trigger_contract import EntryCondition
from orchestrator.predicates.tree import Predicate


class JourneyStatus(Enum):
    DRAFT = "draft"
    ACTIVE = "active"
    PAUSED = "paused"
    ARCHIVED = "archived"


class OnBlocked(Enum):
    """What a send step does when a gate blocks it."""

    SKIP = "skip"
    WAIT = "wait"
    EXIT = "exit"


@dataclass(frozen=True, slots=True, kw_only=True)
class Send:
    """`on_blocked` None: what is usual for the gate (domain/gates.py).

    It waits until the gate opens, `wait_at_most` since it came to the step; None: as long as that takes. `window` has
    the hours in which it may be made; None: those of the journey.
    """

    id: str
    communication_id: str
    on_blocked: OnBlocked | None
    next: str
    wait_at_most: timedelta | None = None
    window: Hours | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    id: str
    duration: timedelta
    next: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeOfDay:
    """The next time the subject's clock shows `clock`, on one of these days of the week (0: Monday; none: any day)."""

    clock: time
    weekdays: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class AttributeDate:
    """So long after (negative: before) the instant or the day that an attribute holds.

    Of a day, and of an instant with a `clock`, it is that time of that day in the subject's time zone.
    """

    path: tuple[str, ...]
    offset: timedelta
    clock: time | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitUntil:
    id: str
    until: TimeOfDay | AttributeDate
    next: str


class After(Enum):
    """From when on an event counts that is waited for."""

    ENTRY = "entry"
    STEP = "step"


@dataclass(frozen=True, slots=True, kw_only=True)
class Happened:
    """An event of that name, later than the trigger of this entry, or than the arrival at the step.

    `where` is over its properties. With an `entry_key_path`, only events count whose property there is the entry's key.
    """

    event_name: str
    where: Predicate | None = None
    entry_key_path: tuple[str, ...] = ()
    after: After = After.ENTRY


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """An attribute is no longer what it was when the execution came to the step."""

    path: tuple[str, ...]


Condition = Predicate | Happened | Changed


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitFor:
    """On to `next` as soon as the condition holds; to `otherwise` when it has not within `timeout` (None: for ever)."""

    id: str
    condition: Condition
    timeout: timedelta | None
    next: str
    otherwise: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    id: str
    when: Predicate
    next: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """The first arm whose predicate holds; else `otherwise`."""

    id: str
    arms: tuple[Arm, ...]
    otherwise: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitArm:
    id: str
    weight: int
    next: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """One arm for each subject, always the same, in proportion to the weights (domain/split.py).

    Splits of one `salt` divide subjects alike; without one, each divides them in its own way.
    """

    id: str
    arms: tuple[SplitArm, ...]
    salt: str | None = None


class Stickiness(Enum):
    """For how long a choice of an arm holds: whenever the subject comes, or for one execution."""

    SUBJECT = "subject"
    VISIT = "visit"


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptiveArm:
    """`share_ppm`: its share for ever, in millionths; None: it is learned. `paused`: nobody goes by it."""

    id: str
    next: str
    share_ppm: int | None = None
    paused: bool = False

    @property
    def learns(self) -> bool:
        return self.share_ppm is None and not self.paused


#: What becomes of those who have not had time to convert (learning/posterior.py).
DELAY_MODELS = ("fractional_per_arm", "matured")


@dataclass(frozen=True, slots=True, kw_only=True)
class BranchLearning:
    """How an adaptive branch learns: docs/adaptive.md. `half_life_days` None: nothing fades."""

    min_share: float = 0.02
    half_life_days: float | None = None
    delay_model: str = DELAY_MODELS[0]
    grace_days: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptiveBranch:
    """One arm for each subject, by shares that follow the journey's goal. `salt` None: one of its own."""

    id: str
    arms: tuple[AdaptiveArm, ...]
    stickiness: Stickiness = Stickiness.SUBJECT
    salt: str | None = None
    learning: BranchLearning = BranchLearning()


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextLearning:
    """How a decision learns that looks at attributes: docs/adaptive.md."""

    exploration_scale: float = 10.0
    min_share: float = 0.01
    half_life_days: float | None = None
    grace_days: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class NbaDecision:
    """The next best action: as an adaptive branch, by shares that each subject has for itself, since the step looks at
    the attributes at these paths.
    """

    id: str
    arms: tuple[AdaptiveArm, ...]
    context: tuple[tuple[str, ...], ...]
    stickiness: Stickiness = Stickiness.SUBJECT
    salt: str | None = None
    learning: ContextLearning = ContextLearning()


#: Steps whose arms are chosen by what was learned.
AdaptiveStep = AdaptiveBranch | NbaDecision


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateSubject:
    """Merges these attributes, filled in (domain/fillings.py), into the subject's: null removes."""

    id: str
    attributes: Mapping[str, Any]
    next: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EmitEvent:
    """An event of the subject happens now, with these properties, filled in."""

    id: str
    event_name: str
    properties: Mapping[str, Any]
    next: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """Calls somebody else's server, whose answer `$steps.` reads from then on.

    `url` is a template behind its host. One try takes at most `timeout`; tries are made for `retry_for`. `body` None:
    there is none. On to `otherwise` when it was not taken; "" stands for `next`.
    """

    id: str
    url: str
    method: str
    headers: Mapping[str, str]
    body: Mapping[str, Any] | None
    timeout: timedelta
    retry_for: timedelta
    next: str
    otherwise: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    id: str
    reason: str


Step = (
    Send
    | Wait
    | WaitUntil
    | WaitFor
    | Branch
    | Split
    | AdaptiveBranch
    | NbaDecision
    | UpdateSubject
    | EmitEvent
    | Webhook
    | Exit
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExitRule:
    """An execution ends, wherever it stands, as soon as this holds."""

    id: str
    condition: Predicate | Happened


class ReentryKind(Enum):
    ONCE = "once"
    INTERVAL = "interval"
    ENTRY_KEY = "entry_key"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reentry:
    """May a subject come in again? `interval` is set for INTERVAL only and counts between triggers' instants."""

    kind: ReentryKind
    interval: timedelta | None = None


class WhilePaused(Enum):
    """What becomes of whoever would enter while the journey is paused."""

    REFUSE = "refuse"
    HOLD = "hold"


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """What a version fixes. Executions start at `start`: "" where the author has not said yet, in drafts alone."""

    audience_id: str | None
    trigger_contract_id: str | None
    # None: the default of the way in, `entry_key` for events and `once` for enroll by id
    reentry: Reentry | None
    max_duration: timedelta | None
    steps: Mapping[str, Step]
    # Sends take the newest revision of a communication in the channel and category that were pinned.
    follow_live_communications: bool = False
    exit_rules: tuple[ExitRule, ...] = ()
    # An execution ends as soon as the goal that its enrollment is measured by is reached.
    exit_on_goal: bool = False
    # In which sends are made that have no window of their own; None: at any time.
    send_window: Hours | None = None
    holdout: Holdout | None = None
    # When the journey's sends are paused by themselves; None: never.
    auto_pause: AutoPause | None = None
    # Nobody comes in before, nor from `ends_at` on.
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    # None: the first of `steps` (mappings keep their order).
    start: str | None = None
    while_paused: WhilePaused = WhilePaused.REFUSE
    # How long after the trigger what is asked of the subject may come to hold; None: it has to at once.
    entry_grace: timedelta | None = None
    # In place of a trigger contract.
    entry_condition: EntryCondition | None = None
    schedule: Schedule | None = None

    @property
    def firing(self) -> Firing | None:
        """Its schedule within its dates."""
        if self.schedule is None:
            return None
        return Firing(schedule=self.schedule, starts_at=self.starts_at, ends_at=self.ends_at)

    @property
    def first_step_id(self) -> str:
        return next(iter(self.steps), "") if self.start is None else self.start


@dataclass(frozen=True, slots=True, kw_only=True)
class Pinned:
    """The revision of a communication that a version sends, with what gates and queues need to know of it."""

    content_revision: int
    channel: str
    category: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JourneyVersion:
    """A published definition, with the communications it sends (by id) as publish pinned them."""

    journey_id: str
    version: int
    definition: Definition
    pinned: Mapping[str, Pinned]


class OnArchive(Enum):
    """What becomes of running executions when their journey is archived."""

    FINISH = "finish"
    END = "end"


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """The event that counts as conversion within `window` after the trigger. `event_name` None: there is no goal.

    Every change makes a new revision, counted from 1; an enrollment keeps the one it came in under.
    """

    revision: int
    event_name: str | None
    window: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Journey:
    """What is edited, and where its life stands.

    `definition` is the draft if there is one, else that of `latest_version`: the JSON document as its author wrote it.
    New executions take `latest_version`, None before the first publish. `on_archive` is set while archived and only
    then. `revision` and `updated_at` rise with every write.
    """

    journey_id: str
    name: str
    description: str
    status: JourneyStatus
    on_archive: OnArchive | None
    has_draft: bool
    definition: Mapping[str, Any]
    latest_version: int | None
    goal: Goal
    revision: int
    created_at: datetime
    updated_at: datetime
