"""One random journey in one random world: what the core does there, held against the oracle after every move."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from orchestrator.domain import journey_form
from orchestrator.domain.journey import Definition, JourneyVersion, Pinned
from tests.core import journeys
from tests.core.driver import Application, Held, Workflow
from tests.core.moves import (
    BEFOREHAND,
    CROWDS,
    DAY,
    HOUR,
    LANDINGS,
    MINUTE,
    MOVES,
    TICK,
    caps,
    policy,
    quiet_hours,
    written,
)
from tests.core.oracle import Oracle
from tests.core.oracle_arms import Chosen
from tests.core.world import ROUTES, Entered, World

#: Some days before clocks are changed, and where; the turn of a year; a leap day's eve.
STARTS: list[tuple[datetime, str | None]] = [
    (datetime(2026, 3, 6, 11, 40, 7, tzinfo=UTC), "America/New_York"),
    (datetime(2026, 3, 27, 22, 15, tzinfo=UTC), "Europe/Berlin"),
    (datetime(2026, 10, 23, 9, 0, 0, 1, tzinfo=UTC), "Europe/Berlin"),
    (datetime(2026, 10, 30, 0, 30, tzinfo=UTC), "America/New_York"),
    (datetime(2026, 4, 2, 14, 59, 59, 999_999, tzinfo=UTC), "Australia/Lord_Howe"),
    (datetime(2026, 10, 1, 12, 0, tzinfo=UTC), "Australia/Lord_Howe"),
    (datetime(2026, 12, 30, 18, 0, tzinfo=UTC), None),
    (datetime(2028, 2, 27, 6, 0, tzinfo=UTC), None),
]
PINNED = {
    name: Pinned(content_revision=1, channel=channel, category=category) for name, (channel, category) in ROUTES.items()
}


#: With how often each comes.
_MOVES = MOVES, [move.weight for move in MOVES]
_WITH_CROWDS = [*MOVES, *CROWDS], [move.weight for move in [*MOVES, *CROWDS]]
_LANDINGS = LANDINGS, [move.weight for move in LANDINGS]


class Difference(AssertionError):
    """Core and oracle do not agree."""


class Walk:
    """A world, a journey, and one execution after the other of the same subject in it."""

    def __init__(self, seed: int, tally: Counter[str]) -> None:
        self.seed = seed
        self.tally = tally
        self.random = Random(seed)
        start, zone = self.random.choice(STARTS)
        self.now = start + self.random.choice([timedelta(0), 5 * HOUR, 31 * MINUTE])
        self.zones = [zone] * 2 * len(journeys.ZONES) + journeys.ZONES if zone is not None else journeys.ZONES
        times = [written(self.now + hours * HOUR) for hours in (-30, 7, 33, 60)]
        self.document = journeys.Author(self.random, times).journey()
        definition, faults = journey_form.parse(self.document)
        assert definition is not None, faults
        self.definition: Definition = definition
        self.world = World(
            created_at=self.now - self.random.choice([MINUTE, 5 * HOUR, 20 * DAY]),
            project_zone=self.random.choice(self.zones),
            lists={name: self.random.random() < 0.3 for name in journeys.LISTS},
            quiet=quiet_hours(self.random),
            caps=caps(self.random),
            policy=policy(Random(f"policy {seed}")),
        )
        self.entries = 0
        #: Which arms hold, as the oracle knows and as the ledger has it.
        self.chosen: tuple[Chosen, Held] = Chosen(), {}
        self.linger = 0
        self.carried = 0
        self.editing = Random(seed)
        self.times = times
        for _ in range(self.random.randint(0, 6)):
            self.random.choice(BEFOREHAND)(self)()
        self.enter()

    def enter(self) -> None:
        """Somebody comes in, anew."""
        self.entries += 1
        if self.entries > 1:
            self._close_an_arm()
        self.world.closed = None
        self.world.changes += 1
        entered = Entered(
            execution=f"e{self.entries}",
            journey_id=f"j{self.seed % 7}",
            subject_id=f"u{self.seed}-{self.random.randrange(1000) % 4}",
            key=self.random.choice(journeys.KEYS),
            triggered_at=self.now - self.random.choice([timedelta(0), TICK, MINUTE, 2 * HOUR]),
            properties={"amount": self.random.choice([5, 50, 500])},
            started_at=self.now,
        )
        version = JourneyVersion(journey_id=entered.journey_id, version=1, definition=self.definition, pinned=PINNED)
        self.oracle = Oracle(self.document, self.world, entered, self.chosen[0])
        self.app = Application(version, self.world, entered, self.chosen[1])
        lose = self.random.choice([0, 0, 0.2, 0.5])
        oracle = self.oracle
        self.workflow = Workflow(self.app, self.random, lose, oracle.tried, oracle.changed, oracle.did)
        self.workflow.go_on()
        #: Moves that are made after its end, and must do nothing.
        self.linger = self.random.randint(0, 3 if self.app.ended is None else 1)

    def _close_an_arm(self) -> None:
        """For whoever comes in from now on, of a step that learns."""
        document = deepcopy(self.document)
        learning = [step[kind] for step in document["steps"] for kind in journeys.LEARNING if kind in step]
        if not learning or self.editing.random() < 0.7:
            return
        journeys.Author(self.editing, self.times).close(self.editing.choice(learning)["arms"])
        self.document = document
        definition, faults = journey_form.parse(document)
        assert definition is not None, faults
        self.definition = definition

    def go(self, moves: int) -> None:
        self.compare("enter")
        for number in range(moves):
            if self.app.ended is not None:
                self.linger -= 1
                if self.linger < 0:
                    self.count()
                    self.enter()
                    self.compare(f"{number} enter")
            flying = self.workflow.flight is not None and self.random.random() < 0.6
            waking = _MOVES if self.seed % 4 else _WITH_CROWDS
            move = self.random.choices(*(_LANDINGS if flying else waking))[0]
            if move.make(self):
                self.tally[f"move: {move.name}"] += 1
            self.compare(f"{number} {move.name}")
        self.count()
        self.tally["arm: another, since it was closed"] += self.chosen[0].another
        self.tally["arm: the same again"] += self.chosen[0].again

    # Moves.

    def pass_time(self, to: datetime, *, inclusive: bool = True) -> None:
        """Both go from one timer of the workflow to the next, so that the oracle is told when sends are taken up."""
        self.workflow.flush()
        while (wakes := self.workflow.wakes_at) is not None and wakes < to and self.app.ended is None:
            self.oracle.pass_time(wakes)
            self.workflow.pass_time(wakes)
        self.oracle.pass_time(to, inclusive=inclusive)
        self.workflow.pass_time(to, inclusive=inclusive)
        self.now = to

    def happen(self, change: Callable[[], set[str]]) -> bool:
        """The world changes, and the inbox tells whoever awaits it; False when nothing could change."""
        topics: set[str] = set()

        def happen() -> None:
            topics.update(change())
            self.world.changes += 1

        self.oracle.change(happen)
        freed = {"sends_paused": "resumed", "channel_rate": "room"}
        resumed = freed.get(self.app.parked or "") in topics
        if "closed" in topics or self.app.awaits & topics or ("mended" in topics and self.app.parked) or resumed:
            self.workflow.poke()
            self.workflow.flush()
        else:
            self.workflow.go_on()
        return bool(topics)

    def carry(self) -> bool:
        """Another version is published, which some executions go over to."""
        if self.app.ended is not None or self.seed % 2:  # what is rare without it is not to be rarer
            return False
        self.carried += 1
        author = journeys.Author(self.editing, self.times)
        document = author.another(self.oracle.document, self.app.position.step_id)
        mapping = author.mapping(self.oracle.document, document, self.app.position.step_id)
        definition, faults = journey_form.parse(document)
        assert definition is not None, faults
        version = JourneyVersion(
            journey_id=self.oracle.entered.journey_id, version=1 + self.carried, definition=definition, pinned=PINNED
        )
        goes = self.app.told_to_go_over(version, mapping)
        if goes != self.oracle.told_to_go_over(document, mapping):
            raise Difference(f"seed {self.seed}: to go over is {goes}\n{self.oracle.document}\n{document}\n{mapping}")
        if goes:
            self.workflow.poke()
            self.workflow.flush()
        return True

    def due_with(self, change: Callable[[], set[str]]) -> bool:
        """Just when it would wake by itself, something happens."""
        wakes = self.workflow.wakes_at
        if wakes is None or not self.now < wakes <= self.now + 3 * DAY:
            return False
        self.pass_time(wakes, inclusive=False)
        self.happen(change)
        self.oracle.look_at_the_clock()
        self.workflow.flush()
        self.workflow.go_on()
        self.workflow.flush()
        return True

    # Comparison.

    def compare(self, move: str) -> None:
        for what, is_, should_be in self.both():
            if is_ != should_be:
                raise Difference(
                    f"seed {self.seed}, entry {self.entries}, move {move}, {self.now}: {what}\n"
                    f"core:   {is_}\noracle: {should_be}\n{self.oracle.document}\n{self.world}"
                )

    def both(self) -> list[tuple[str, Any, Any]]:
        """(what, what the core says, what the oracle says)."""
        app, oracle = self.app, self.oracle
        visits = [(v.step_id, v.step_kind, v.result.value, v.reason, v.entered_at, v.left_at) for v in app.visits]
        return [
            ("visits", visits, oracle.visits),
            ("outcome", app.ended, oracle.ended),
            ("position", (app.position.step_id, app.position.since), oracle.standing),
            ("sends", [(row.step_id, row.begun_at) for row in app.sends.values()], oracle.begun),
            ("changes", app.changes, oracle.changes),
            ("sends settled", [row.state for row in app.sends.values() if row.state != "dispatching"], oracle.settled),
            ("parked", app.parked is not None, oracle.parked),
        ]

    # Counting.

    def count(self) -> None:
        oracle, tally = self.oracle, self.tally
        for (_, kind, result, reason, _, _), step in zip(oracle.visits, oracle.passed, strict=True):
            tally[f"step: {_kind(step, kind)}"] += 1
            match kind:
                case "send":
                    group = "gate" if result == "skipped" else "way"
                    tally[f"{group}: send {result} {reason or ''}".rstrip()] += 1
                case "update_subject" | "emit_event" | "webhook":
                    tally[f"way: {kind} {result} {reason or ''}".rstrip()] += 1
                case "wait_for" | "branch":
                    tally[f"way: {kind} {'arm' if reason not in ('came', 'timeout', 'otherwise') else reason}"] += 1
                case "wait" if reason:
                    tally[f"way: wait {reason}"] += 1
        for note in oracle.notes:
            if note.startswith("carry: "):
                tally[note] += 1
                continue
            tally[f"{'gate' if note.startswith(('withdrawn', 'held', 'waits')) else 'woken'}: {note}"] += 1
        if oracle.ended is not None:
            outcome, reason, _ = oracle.ended
            gates = ("opted_out", "suppressed", "quiet_hours", "send_window", "frequency_cap")
            by = reason if outcome == "canceled" or reason in gates else ""
            if outcome == "exited" and not by:
                by = "rule"
            tally[f"end: {outcome} {by}".rstrip()] += 1
        else:
            tally["end: still under way"] += 1
        tally["asked: answers lost"] += self.workflow.lost
        tally["asked: decisions"] += self.app.asked


def _kind(step: Any, kind: str) -> str:
    if kind == "wait":
        (way,) = step["wait"].keys()
        return f"wait {way}{' weekdays' if 'weekdays' in step['wait'].get('timeOfDay', {}) else ''}"
    if kind == "wait_for":
        return f"wait_for {next(way for way in ('when', 'event', 'changed') if way in step['waitFor'])}"
    return kind
