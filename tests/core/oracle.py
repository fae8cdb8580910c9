"""Where an execution must stand, what it must have passed and sent, and how it must have ended.

A second reading of a journey's JSON, and of what happens in a world, that shares no code with the first: it imports
nothing of ours. It is naive on purpose. It knows nothing of effects, questions, pokes and topics, and where the core
computes the next instant that matters, this one looks at every instant that could.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Callable
from copy import deepcopy
from datetime import datetime, timedelta

from tests.core.oracle_answers import Answers, Gone
from tests.core.oracle_arms import LEARNING, Chosen
from tests.core.oracle_carry import Carried, carried
from tests.core.oracle_clocks import DAYS, date_of, next_quarter, next_shown, within
from tests.core.oracle_json import (
    DAY,
    Json,
    at_path,
    instant_of,
    same,
    span_of,
    spans_in,
    texts_in,
    times_in,
)
from tests.core.world import ROUTES, Entered, World

#: (step, kind, result, reason, entered, left)
Visit = tuple[str, str, str, str | None, datetime, datetime]
#: (outcome, reason, instant)
Ending = tuple[str, str, datetime]

ABSENT = "nothing is there"
#: Where webhooks go, as no message does.
NOWHERE = ("", "")


class Oracle(Answers):
    """One execution. It is told of every change in the world, of the time, and of what became of sends."""

    def __init__(self, document: Json, world: World, entered: Entered, chosen: Chosen) -> None:
        super().__init__(world, entered)
        self.chosen = chosen
        self.visits: list[Visit] = []
        #: Of each visit, the step as it was; of each send, where it went; the calls that failed and may be taken.
        self.passed: list[Json] = []
        self.routes: list[tuple[str, str]] = []
        self.doubtful: set[int] = set()
        self.said: list[tuple[str, Json]] = []
        self.begun: list[tuple[str, datetime]] = []
        self.settled: list[str] = []
        self.changes: list[tuple[str, datetime]] = []
        self.ended: Ending | None = None
        self.flight = 0
        self.sending = self.changing = False
        self.notes: list[str] = []
        #: Where it goes when it looks; the steps that have sent something, as the journey calls them now.
        self.carry: Carried | None = None
        self.sent: set[str] = set()
        self._travel(document)
        self.sending = self.flying = self.held = self.in_doubt = self.doubted = False
        self._go_to(document["steps"][0]["id"])
        self._look("entry")

    def _travel(self, document: Json) -> None:
        self.document = document
        self.steps: dict[str, Json] = {step["id"]: step for step in document["steps"]}
        self.first = len(self.routes)
        self.told: set[str] = set()
        self.spans = sorted(set(spans_in(document)))
        self.times = sorted(set(times_in(document)))
        self._edges: list[datetime] = []
        self._edges_of = -1

    # What it is told.

    def pass_time(self, to: datetime, *, inclusive: bool = True) -> None:
        """Time passes, and nothing else happens. `inclusive`: until `to` is over."""
        while self.ended is None:
            following = self._next_edge()
            if following is None or following > to or (following == to and not inclusive):
                break
            self.now = following
            self.look_at_the_clock()
        self.now = to

    def look_at_the_clock(self) -> None:
        """What is due now is done now."""
        if self.held and self._end_or_park() != ("park",):
            self._try()
        if not self.sending and self.ended is None:
            self._look("time")

    def change(self, happen: Callable[[], None]) -> None:
        """Something happens in the world, now."""
        if self.ended is not None:
            happen()
        elif not self.sending:
            happen()
            self._look("change")
        else:  # between two tries only what bears on the journey is looked at
            before = self._end_or_park()
            happen()
            self.news |= self.held or self._end_or_park() != before
            self._heed_news()

    def told_to_go_over(self, document: Json, mapping: dict[str, str]) -> bool:
        """Whether it can, where it stands; then it does as soon as it can."""
        found = carried(self.steps[self.at], document, mapping)
        if isinstance(found, str):
            self.notes.append(f"carry: stays, {found}")
            return False
        self.carry = found
        self.notes.append("carry: told" if found.same else "carry: told, to come anew")
        if not self.sending:
            self._go_over("at rest")
        else:
            self.news = True
            self._heed_news()
        return True

    def tried(self) -> None:
        """A worker takes up the send, if there is one to take up."""
        if self.ended is None and self.sending and not self.flying:
            self._try()

    def changed(self) -> bool:
        """A worker takes up a step that changes the subject; whether it is to do it. Then it does, and says `did`."""
        if self.ended is not None or not self.changing:
            return False
        if self._end_or_park() is None:
            return True
        self.changing = False
        self._look("change")
        return False

    def did(self, result: str) -> None:
        """What it was to do is done, or cannot be."""
        step = self.steps[self.at]
        for learning, name in LEARNING.items():
            if learning in step:
                arm = self.chosen.arm(step, self.world.policy, self.entered)
                self._pass(name, "executed", arm["id"], arm["next"])
                self._look("entry")
                return
        kind = "update_subject" if "updateSubject" in step else "emit_event"
        if result == "executed":
            self.changes.append((self.at, self.now))
            if kind == "emit_event":
                self.told.add(self.at)
        self._pass(kind, result, None if result == "executed" else "template_value", step["next"])
        self._look("entry")

    def answered(self, send: int, flight: int, result: str, answer: Json = None) -> None:
        """What a try came to. Of any but the last try of the last send, or call, nobody wants to know."""
        if (send, flight) != (len(self.begun), self.flight) or not self.sending or self.ended is not None:
            return
        self.flying = self.held = False
        calls = "webhook" in self.steps[self.at]
        match result:
            case "sent":
                if answer is not None and calls:
                    self.said.append((self.at, answer))
                    self.answers = dict(self.said)
                self._send_over("executed", None)
            case "failed":
                self._send_over("failed", "refused")
            case "unknown":
                self._send_over("executed", "answer_no_object" if calls else "unknown")
            case "released":
                self.in_doubt = self.doubted
                self._heed_news()
            case "crashed":
                self._heed_news()
            case _:
                raise ValueError(result)

    # What it says.

    @property
    def standing(self) -> tuple[str, datetime]:
        return self.at, self.since

    @property
    def parked(self) -> bool:
        """Whether it cannot go on before something is mended."""
        if self.ended is not None or self.sending:
            return self.held
        if self._end_or_park() == ("park",):
            return True
        step = self.steps[self.at]
        if "send" in step:  # or it would be under way
            return True
        try:
            if "branch" in step:
                for arm in step["branch"]["arms"]:
                    if self.holds(arm["when"]):
                        break
            if "waitFor" in step and "when" in step["waitFor"]:
                self.holds(step["waitFor"]["when"])
        except Gone:
            return True
        return False

    # The way through the graph.

    def _go_to(self, step_id: str) -> None:
        self.at, self.since = step_id, self.now
        self.sending = self.flying = self.held = self.in_doubt = self.doubted = self.news = False
        self.changing = False
        self.flight = 0
        step = self.steps[step_id]
        self.mark = self._mark(step["waitFor"]["changed"]["fieldPath"]) if _waits_for(step, "changed") else None

    def _mark(self, path: str) -> Json:
        return deepcopy(at_path(self.world.attributes, path, ABSENT))

    def _pass(self, kind: str, result: str, reason: str | None, to: str | None) -> None:
        self.passed.append(self.steps[self.at])
        self.visits.append((self.at, kind, result, reason, self.since, self.now))
        if to is not None:
            self._go_to(to)

    def _end(self, outcome: str, reason: str) -> None:
        self.ended = (outcome, reason, self.now)

    def _end_or_park(self) -> tuple[str, ...] | None:
        """What the journey wants, wherever somebody stands: (`end`, outcome, reason), (`park`,) or nothing."""
        if self.world.closed is not None:
            return ("end", "canceled", self.world.closed)
        if "exit" in self.steps[self.at]:
            return None
        if self.document.get("exitOnGoal") and self.goal_reached():
            return ("end", "goal_reached", "goal")
        days = self.document.get("maxDurationDays")
        over = days is not None and self.now >= self.entered.started_at + days * DAY
        for rule in self.document.get("exitRules", []):
            try:
                held = self.happened(rule["event"], None) if "event" in rule else self.holds(rule["when"])
            except Gone:
                return ("end", "expired", "max_duration") if over else ("park",)
            if held:
                return ("end", "exited", rule["id"])
        return ("end", "expired", "max_duration") if over else None

    def _look(self, why: str) -> None:
        """Go as far as one can get without waiting."""
        while self.ended is None:
            step = self.steps[self.at]
            wanted = self._end_or_park()
            if wanted is not None:
                if wanted[0] == "end":
                    self.notes.append(f"{wanted[1]} by {why}")
                    self._end(wanted[1], wanted[2])
                else:
                    self.notes.append("parked by a rule")
                return
            try:
                went_on = self._step(step, why)
            except Gone:
                self.notes.append(f"parked by a {'branch' if 'branch' in step else 'wait_for'}")
                return
            if not went_on:
                return
            why = "entry"

    def _step(self, step: Json, why: str) -> bool:
        """Pass this step, if one can."""
        (kind,) = step.keys() & {
            "send", "wait", "waitFor", "branch", "split", *LEARNING, "updateSubject", "emitEvent", "webhook", "exit",
        }  # fmt: skip
        body = step[kind]
        match kind:
            case "send" if self.at in self.sent:
                self._pass("send", "skipped", "already_sent", step["next"])
            case "webhook" if self.at in self.sent:
                self._pass("webhook", "skipped", "already_sent", step["next"])
            case "emitEvent" if self.at in self.sent:
                self._pass("emit_event", "skipped", "already_sent", step["next"])
            case "webhook":
                self.sending = True
                return False
            case "updateSubject" | "emitEvent" | "adaptiveBranch" | "nbaDecision":
                self.changing = True
                return False
            case "send":
                blocked = self._blocked(body)
                if blocked is None:
                    self.sending = True
                    return False
                if self._waits(body, blocked):
                    self.notes.append(f"waits {blocked}")
                    return False
                if self._policy(body, blocked) == "wait":
                    self.notes.append("waits no longer")
                self._skip(step, blocked)
            case "wait":
                until, reason = self._until(body)
                if until is not None and self.now < until:
                    return False
                self._pass("wait", "executed" if until is not None else "skipped", reason, step["next"])
            case "waitFor":
                timeout = self.since + span_of(body["timeout"]) if "timeout" in body else None
                if self._came(body):
                    self.notes.append(f"came by {why}")
                    if why != "entry" and timeout is not None and self.now == timeout:
                        self.notes.append("came at the timeout")
                    self._pass("wait_for", "executed", "came", step["next"])
                elif timeout is not None and self.now >= timeout:
                    self._pass("wait_for", "executed", "timeout", body["otherwise"])
                else:
                    return False
            case "branch":
                taken = next((arm for arm in body["arms"] if self.holds(arm["when"])), None)
                if taken is not None:
                    self._pass("branch", "executed", taken["id"], taken["next"])
                else:
                    self._pass("branch", "executed", "otherwise", body["otherwise"])
            case "split":
                arm = self._arm(step)
                self._pass("split", "executed", arm["id"], arm["next"])
            case _:
                self._pass("exit", "executed", None, None)
                self._end("completed", body["reason"])
        return True

    # Sends.

    def _blocked(self, send: Json) -> str | None:
        channel, category = ROUTES[send["communicationId"]]
        if self.world.suppressed & {channel, "*"}:
            return "suppressed"
        for pair in self.world.opted_out:
            if pair[0] in (channel, "*") and pair[1] in (category, "*"):
                return "opted_out"
        if self.world.paused:
            return "sends_paused"
        if channel in self.world.crowded:
            return "channel_rate"
        zone = self.world.zone or self.world.project_zone
        window = send.get("sendWindow") or self.document.get("sendWindow")
        if window is not None and not within(self.now, window, zone):
            return "send_window"
        quiet = self.world.quiet
        if quiet is not None and channel in quiet.get("channels", [channel]) and within(self.now, quiet, zone):
            return "quiet_hours"
        for cap, instants in self._counted():
            is_about = cap["channel"] in (channel, "*") and cap["category"] in (category, "*")
            is_full = len(instants) >= cap["limit"]
            if is_about and is_full and self.now < instants[-cap["limit"]] + span_of(cap["window"]):
                return "frequency_cap"
        return None

    def _counted(self) -> list[tuple[Json, list[datetime]]]:
        """Of each cap, when the messages were begun that it counts, the newest last."""
        sent = list(self.world.elsewhere)
        for number, (_, at) in enumerate(self.begun):
            if self.routes[number] == NOWHERE:
                continue
            being_made = self.sending and self.flight > 0 and number == len(self.begun) - 1
            if not being_made and self.settled[number] != "failed":
                sent.append((*self.routes[number], at))
        return [
            (
                cap,
                sorted(at for ch, cat, at in sent if cap["channel"] in (ch, "*") and cap["category"] in (cat, "*")),
            )
            for cap in self.world.caps
        ]

    def _policy(self, send: Json, blocked: str) -> str:
        if blocked in ("sends_paused", "channel_rate"):
            return "held"
        return str(send.get("onBlocked") or ("wait" if blocked in ("send_window", "quiet_hours") else "skip"))

    def _waits(self, send: Json, blocked: str) -> bool:
        policy = self._policy(send, blocked)
        at_most = send.get("waitAtMost")
        return policy == "held" or (policy == "wait" and (at_most is None or self.now < self.since + span_of(at_most)))

    def _skip(self, step: Json, reason: str) -> None:
        if self._policy(step["send"], reason) == "exit":
            self._pass("send", "skipped", reason, None)
            self._end("exited", reason)
        else:
            self._pass("send", "skipped", reason, step["next"])

    def _heed_news(self) -> None:
        """What bears on the journey cuts the time between two tries short; a try that is under way ends as it ends."""
        if self.news and not self.flying:
            self._try()

    def _try(self) -> None:
        self.news = self.held = False
        step = self.steps[self.at]
        leaves = self.carry is not None and self.world.closed is None
        if leaves and self.flight == 0:
            self._go_over("before a send")
            return
        if leaves and "webhook" in step and not self.in_doubt:
            self.notes.append("carry: a call is left to the other")
            self._send_over("skipped", "withdrawn")
            return
        blocked = self._blocked(step["send"]) if "send" in step else None
        wanted = self._end_or_park()
        if wanted is None and blocked is None:
            self.flight += 1
            self.doubted = self.in_doubt
            self.flying = self.in_doubt = True
            if self.flight == 1:
                self.begun.append((self.at, self.now))
                self.routes.append(ROUTES[step["send"]["communicationId"]] if "send" in step else NOWHERE)
        elif self.flight == 0:
            self.sending = False
            self._look("change")
        elif (
            wanted == ("park",) or (wanted is None and blocked is not None and self._waits(step["send"], blocked))
        ) and not (leaves and not self.in_doubt):  # it is made when that is mended
            self.notes.append("held")
            self.held = True
        elif "webhook" in step:
            self._send_over("skipped", "withdrawn")
        elif self.in_doubt:  # it may have gone out
            self.notes.append("withdrawn in doubt")
            self._send_over("executed", "unknown")
        elif wanted is not None or leaves:
            self._send_over("skipped", "withdrawn")
        else:
            assert blocked is not None
            self.sending = False
            self.settled.append("failed")
            self._skip(step, blocked)
            self._look("change")

    def _go_over(self, when: str, *, made: str | None = None) -> None:
        """From now on it is another journey; where a send or a call was made, it goes on behind what that has become,
        as it must with what came of it.
        """
        assert self.carry is not None
        carry, self.carry = self.carry, None
        self.notes.append(f"carry: {when}")
        sent = {
            step_id
            for number, (step_id, _) in enumerate(self.begun)
            if number >= self.first and (self.settled[number] != "failed" or number in self.doubtful)
        }
        self.sent = {carry.mapping.get(name, name) for name in self.sent | sent | self.told}
        self.said = [(carry.mapping.get(name, name), answer) for name, answer in self.said]
        self.answers = dict(self.said)
        kind = "webhook" if "webhook" in self.steps[self.at] else "send"
        since, mark = self.since, self.mark
        self._travel(carry.document)
        target = self.steps[carry.to]
        if made is not None and kind in target:
            self._go_to(_behind(target, made))
        else:
            self._go_to(carry.to)
            if carry.same:
                self.since, self.mark = since, mark
        self._look("entry")

    def _send_over(self, result: str, reason: str | None) -> None:
        self.sending = False
        step = self.steps[self.at]
        if result == "executed":
            self.settled.append("unknown" if reason else "sent")
        else:
            self.settled.append("failed")
        calls = "webhook" in step
        kind = "webhook" if calls else "send"
        if calls and result != "executed" and (self.in_doubt if reason == "withdrawn" else self.doubted):
            self.doubtful.add(len(self.begun) - 1)
        if self.carry is not None and self.world.closed is None:
            self._pass(kind, result, reason, None)
            self._go_over("after a call" if calls else "after a send", made=None if result == "skipped" else result)
            return
        self.carry = None
        self._pass(kind, result, reason, _behind(step, result))
        self._look("entry")

    # Time.

    def _next_edge(self) -> datetime | None:
        """The next instant at which something could be otherwise although nothing happens."""
        if self._edges_of != self.world.changes:
            self._edges_of = self.world.changes
            stamps = [event.occurred for event in self.world.events]
            stamps += [stamp for text in texts_in(self.world.attributes) if (stamp := instant_of(text)) is not None]
            stamps += [self.world.created_at]
            edges = {stamp + span for stamp in stamps for span in (timedelta(0), *self.spans)}
            self._edges = sorted(edges | set(self.times))
        place = bisect_right(self._edges, self.now)
        candidates = self._edges[place : place + 1]
        step = self.steps[self.at]
        days = self.document.get("maxDurationDays")
        if days is not None:
            candidates.append(self.entered.started_at + days * DAY)
        if "wait" in step and (until := self._until(step["wait"])[0]) is not None:
            candidates.append(until)
        if "waitFor" in step and "timeout" in step["waitFor"]:
            candidates.append(self.since + span_of(step["waitFor"]["timeout"]))
        if "send" in step and (self.held or not self.sending):
            if self.world.quiet or step["send"].get("sendWindow") or self.document.get("sendWindow"):
                candidates.append(next_quarter(self.now))
            if "waitAtMost" in step["send"]:
                candidates.append(self.since + span_of(step["send"]["waitAtMost"]))
            candidates += [at + span_of(cap["window"]) for cap, instants in self._counted() for at in instants]
        return min((edge for edge in candidates if edge > self.now), default=None)

    def _until(self, wait: Json) -> tuple[datetime | None, str | None]:
        if "duration" in wait:
            return self.since + span_of(wait["duration"]), None
        zone = self.world.zone or self.world.project_zone
        if "timeOfDay" in wait:
            days = tuple(DAYS.index(day) for day in wait["timeOfDay"].get("weekdays", []))
            return next_shown(self.since, wait["timeOfDay"]["time"], days, zone), None
        until = date_of(wait["date"], at_path(self.world.attributes, wait["date"]["fieldPath"], None), zone)
        return until, None if until is not None else "no_date"

    # Questions.

    def _came(self, wait: Json) -> bool:
        if "event" in wait:
            return self.happened(wait["event"], self.since if wait["event"].get("after") == "step" else None)
        if "changed" in wait:
            return not same(self.mark, self._mark(wait["changed"]["fieldPath"]))
        return self.holds(wait["when"])

    def _arm(self, step: Json) -> Json:
        salt = step["split"].get("salt") or f"{self.entered.journey_id}/{step['id']}"
        digest = hashlib.sha256(salt.encode() + b"\0" + self.entered.subject_id.encode()).hexdigest()
        arms = step["split"]["arms"]
        place = int(digest[:16], 16) * sum(arm["weight"] for arm in arms)
        reached = 0
        for arm in arms:
            reached += arm["weight"]
            if place < reached * 2**64:
                return arm
        raise AssertionError


def _behind(step: Json, result: str) -> str:
    """Where one goes on from a send or a call."""
    if "webhook" in step and result != "executed":
        return str(step["webhook"].get("otherwise", step["next"]))
    return str(step["next"])


def _waits_for(step: Json, kind: str) -> bool:
    return "waitFor" in step and kind in step["waitFor"]
