"""Random journeys, as their authors would write them: JSON documents, with every kind of step and of condition."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from random import Random
from typing import Any, TypeVar

from tests.core.world import GOAL_EVENT, ROUTES

Json = Any
_Choice = TypeVar("_Choice")

SPANS = ["15m", "1h", "90m", "6h", "1d", "2d"]
WAITS = ["10s", "15m", "1h", "6h", "1d", "1d12h", "3d"]
CLOCKS = ["00:00", "01:45", "02:15", "02:30", "02:30", "09:00", "18:15"]
DAYS = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
TIERS = ["free", "pro"]
EVENTS = ["buy", "view", GOAL_EVENT]
LISTS = ["vip", "trial"]
ZONES = ["Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe", "UTC"]
#: What an event's property `order` may be, and an entry's key.
ORDERS: list[Json] = ["o1", "o1", 7, 7.0, True, 2.5, "7", None, {"a": 1}, ""]
KEYS = ["o1", "o1", "7", "true", "2.5"]
#: Steps by how often they come.
KINDS = ["send"] * 4 + ["duration", "timeOfDay", "date", "date"] + ["when"] * 3 + ["event"] * 3 + ["changed"] * 2 + [
    "branch", "branch", "split", "learning", "updateSubject", "emitEvent", "webhook", "webhook", "exit",
]  # fmt: skip
#: Steps whose arms are chosen by what was learned.
LEARNING = ("adaptiveBranch", "nbaDecision")
#: What steps change of a subject.
CHANGES: list[Json] = [{"tier": "pro"}, {"tier": "free"}, {"tier": None}, {"score": 5}, {"plan": {"level": 2}}]
#: What a webhook answers.
ANSWERS: list[Json] = [{"score": 1}, {"score": 7}, {"score": 7.0, "tier": "pro"}, {}]


class Author:
    """Writes one journey. `times` are instants that its predicates may name."""

    def __init__(self, random: Random, times: Sequence[str]) -> None:
        self.random = random
        self.times = times
        #: Webhooks that have been written, whose answers later predicates may read.
        self.called: list[str] = []

    def journey(self) -> Json:
        count = self.random.randint(3, 14)
        steps = [self.step(number, count) for number in range(count)]
        steps.append({"id": f"s{count}", "exit": {"reason": "last"}})
        document: Json = {"steps": steps}
        if self.chance(0.5):
            document["exitRules"] = [self.rule(number) for number in range(self.random.choice([1, 1, 2, 3]))]
        if self.chance(0.25):
            document["exitOnGoal"] = True
        if self.chance(0.4):
            document["maxDurationDays"] = self.random.choice([1, 2, 7, 30])
        if self.chance(0.15):
            document["sendWindow"] = self.hours()
        return document

    def another(self, document: Json, at: str) -> Json:
        """The same journey, edited: steps are there again, or have been changed, moved or left out.

        Somebody stands `at` one of them.
        """
        steps = [deepcopy(step) for step in document["steps"][:-1]]
        fresh = self.journey()
        for number in range(len(steps)):
            match self.random.randrange(10):
                case 0:
                    steps[number] = self.step(number, len(steps)) | {"id": steps[number]["id"]}
                case 1:
                    steps[number]["id"] = f"n{self.random.randrange(10**9)}"
                case _:
                    self.reword(steps[number])
        places = [number for number, step in enumerate(steps) if step["id"] == at]
        if places and places[0] and self.chance(0.4):  # what was behind lies ahead again
            behind = range(places[0])
            sending = [number for number in behind if steps[number].keys() & {"send", "emitEvent", "webhook"}]
            again = self.choice(sending if sending and self.chance(0.7) else behind)
            steps.insert(self.random.randint(places[0], len(steps) - 1), steps.pop(again))
        elif len(steps) > 1 and self.chance(0.4):
            one, other = self.random.sample(range(len(steps)), 2)
            steps[one], steps[other] = steps[other], steps[one]
        steps.append(deepcopy(document["steps"][-1]))
        for number, step in enumerate(steps):
            self.rewire(step, [later["id"] for later in steps[number + 1 :]])
        kept = document if self.chance(0.6) else fresh
        edited = {name: value for name, value in deepcopy(kept).items() if name != "steps"} | {"steps": steps}
        self.readdress(edited, [step["id"] for step in steps if "webhook" in step])
        return edited

    def mapping(self, old: Json, new: Json, at: str) -> dict[str, str]:
        """What has become of steps: of the one at which somebody stands, and perhaps of others."""
        if self.chance(0.5):
            return {}
        names = [step["id"] for step in new["steps"]]
        chosen = [at] if self.chance(0.8) else []
        chosen += self.random.sample([step["id"] for step in old["steps"]], self.random.randint(0, 2))
        if self.chance(0.5):  # what they answered is read by another name
            chosen += [step["id"] for step in old["steps"] if "webhook" in step]
        kinds = {step["id"]: set(step) - {"id", "next"} for step in [*new["steps"], *old["steps"]]}
        alike = {name: [other for other in names if kinds[other] == kinds[name]] for name in chosen}
        return {name: self.choice(alike[name] if alike[name] and self.chance(0.5) else names) for name in chosen}

    def readdress(self, part: Json, calls: list[str]) -> None:
        """Ask for answers of webhooks that are there."""
        if isinstance(part, dict):
            name, dot, rest = str(part.get("fieldPath", "")).removeprefix("$steps.").partition(".")
            if str(part.get("fieldPath")).startswith("$steps.") and name not in calls:
                part["fieldPath"] = f"$steps.{self.choice(calls)}{dot}{rest}" if calls else rest
        for inner in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
            self.readdress(inner, calls)

    def reword(self, step: Json) -> None:
        """The same kind of step, perhaps with other figures."""
        if "wait" in step and "duration" in step["wait"] and self.chance(0.5):
            step["wait"]["duration"] = self.choice(WAITS)
        if "waitFor" in step and "timeout" in step["waitFor"] and self.chance(0.3):
            step["waitFor"]["timeout"] = self.choice(WAITS)
        for kind in LEARNING:
            if kind in step and self.chance(0.5):
                self.close(step[kind]["arms"])
        if "send" in step and self.chance(0.3):
            step["send"]["communicationId"] = self.choice(list(ROUTES))

    def close(self, arms: list[Json]) -> None:
        """An arm is paused, or gone; at least one that learns is left open."""
        learning = [arm for arm in arms if "share" not in arm and not arm.get("paused")]
        if len(learning) < 2:
            return
        closed = self.choice(learning)
        if self.chance(0.5) and len(arms) > 2:
            arms.remove(closed)
        else:
            closed["paused"] = True

    def rewire(self, step: Json, later: list[str]) -> None:
        """Lead to later steps only, mostly to the next."""

        def one() -> str:
            return self.choice([later[0], later[0], *later[:4]])

        if "next" in step:
            step["next"] = one()
        if "waitFor" in step and "timeout" in step["waitFor"]:
            step["waitFor"]["otherwise"] = one()
        for kind in ("branch", "split", *LEARNING):
            for arm in step.get(kind, {}).get("arms", []):
                arm["next"] = one()
        if "branch" in step:
            step["branch"]["otherwise"] = one()
        if "otherwise" in step.get("webhook", {}):
            step["webhook"]["otherwise"] = one()

    def hours(self) -> Json:
        """None that start or end while clocks are changed: what is meant then is no matter of opinion, and tried
        elsewhere."""
        start, end = self.choice([("09:00", "18:15"), ("06:30", "23:45"), ("20:00", "12:00")])
        hours: Json = {"start": start, "end": end}
        if self.chance(0.3):
            hours["weekdays"] = self.random.sample(DAYS, self.random.randint(3, 6))
        return hours

    def step(self, number: int, count: int) -> Json:
        """A step leads to later ones only, mostly to the next."""

        def later() -> str:
            ahead = self.random.choice([1, 1, 1, 2, 3, 4])
            return f"s{min(number + ahead, count)}"

        step: Json = {"id": f"s{number}"}
        match self.random.choice(KINDS if number > 1 else KINDS[:-1]):
            case "send":
                step |= {"send": {"communicationId": self.choice(list(ROUTES))}, "next": later()}
                if self.chance(0.5):
                    step["send"]["onBlocked"] = self.choice(["skip", "wait", "wait", "exit"])
                if self.chance(0.3) and step["send"].get("onBlocked") in (None, "wait"):
                    step["send"]["waitAtMost"] = self.choice(["15m", "6h", "1d"])
                if self.chance(0.2):
                    step["send"]["sendWindow"] = self.hours()
            case "duration":
                step |= {"wait": {"duration": self.choice(WAITS)}, "next": later()}
            case "timeOfDay":
                until: Json = {"time": self.choice(CLOCKS)}
                if self.chance(0.5):
                    until["weekdays"] = self.random.sample(DAYS, self.random.randint(1, 3))
                step |= {"wait": {"timeOfDay": until}, "next": later()}
            case "date":
                date: Json = {"fieldPath": self.choice(["due", "due", "plan.renews", "seen"])}
                if self.chance(0.6):
                    date[self.choice(["before", "after"])] = self.choice([*SPANS, "1d12h", "3d"])
                if self.chance(0.5):
                    date["time"] = self.choice(CLOCKS)
                step |= {"wait": {"date": date}, "next": later()}
            case "when":
                when = self.turning() if self.chance(0.5) else self.predicate(2)
                step |= {"waitFor": {"when": when} | self.timeout(later()), "next": later()}
            case "event":
                step |= {"waitFor": {"event": self.happened(may_choose_after=True)} | self.timeout(later())}
                step["next"] = later()
            case "changed":
                path = self.choice(["tier", "tier", "score", "plan", "plan.level", "zip"])
                step |= {"waitFor": {"changed": {"fieldPath": path}} | self.timeout(later()), "next": later()}
            case "branch":
                arms = [
                    {"id": f"a{arm}", "when": self.simple() if self.chance(0.6) else self.predicate(2), "next": later()}
                    for arm in range(self.random.randint(1, 3))
                ]
                step["branch"] = {"arms": arms, "otherwise": later()}
            case "split":
                split: Json = {
                    "arms": [
                        {"id": f"a{arm}", "weight": self.choice([1, 1, 2, 7, 1000]), "next": later()}
                        for arm in range(self.random.randint(1, 4))
                    ]
                }
                if self.chance(0.4):
                    split["salt"] = self.choice(["salt", "pepper"])
                step["split"] = split
            case "learning":
                kind = self.choice(LEARNING)
                step[kind] = {"arms": self.arms(later), "stickiness": self.choice(["subject", "visit"])}
                if self.chance(0.4):
                    step[kind]["salt"] = self.choice(["salt", "pepper"])
                if kind == "nbaDecision":
                    step[kind]["context"] = ["tier", "plan.level"]
            case "updateSubject":
                step |= {"updateSubject": {"attributes": self.choice(CHANGES)}, "next": later()}
            case "emitEvent":
                properties = {"amount": self.choice([1, 100]), "order": self.choice(ORDERS)}
                step |= {"emitEvent": {"eventName": self.choice(EVENTS), "properties": properties}, "next": later()}
            case "webhook":
                self.called.append(step["id"])
                step |= {"webhook": {"url": "https://example.com/"}, "next": later()}
                if self.chance(0.6):
                    step["webhook"]["otherwise"] = later()
            case _:
                step["exit"] = {"reason": f"left at {number}"}
        return step

    def arms(self, later: Callable[[], str]) -> Json:
        """Of a step that learns: at least one has no fixed share, and is open."""
        arms: list[Json] = [{"id": f"a{number}", "next": later()} for number in range(self.random.randint(2, 4))]
        for arm in arms[1:]:
            match self.random.randrange(6):
                case 0:
                    arm["paused"] = True
                case 1:
                    arm["share"] = self.choice([0.25, 0.1234567, 0.0])
        self.random.shuffle(arms)
        return arms

    def timeout(self, otherwise: str) -> Json:
        if self.chance(0.2):
            return {}
        return {"timeout": self.choice(WAITS), "otherwise": otherwise}

    def rule(self, number: int) -> Json:
        if self.chance(0.4):
            return {"id": f"r{number}", "event": self.happened(may_choose_after=False)}
        # Seldom true at the entry, or there would not be much of a journey.
        rare = [self.cohort(), self.attribute(), self.event("event_fired"), self.turning(), self.turning()]
        when = self.choice(rare)
        if self.chance(0.5):
            when = {"kind": "and", "clauses": [when, self.choice(rare)]}
        return {"id": f"r{number}", "when": when}

    def happened(self, *, may_choose_after: bool) -> Json:
        event: Json = {"eventName": self.choice(EVENTS)}
        if self.chance(0.3):
            event["where"] = self.of_event()
        if self.chance(0.3):
            event["entryKeyPath"] = self.choice(["order", "cart.order"])
        if may_choose_after and self.chance(0.6):
            event["after"] = self.choice(["entry", "step", "step"])
        return event

    def of_event(self) -> Json:
        when: Json = {"kind": "attribute", "fieldPath": "amount", "operator": "gte", "value": self.choice([5, 100])}
        return when if self.chance(0.8) else {"kind": "not", "clause": when}

    def predicate(self, depth: int) -> Json:
        if depth and self.chance(0.35):
            clauses = [self.predicate(depth - 1) for _ in range(self.random.randint(1, 3))]
            if self.chance(0.3):
                return {"kind": "not", "clause": clauses[0]}
            return {"kind": self.choice(["and", "or"]), "clauses": clauses}
        match self.random.randrange(10):
            case 0:
                return {"kind": "everyone"} if self.chance(0.2) else self.cohort()
            case 1:
                return self.cohort()
            case 2 | 3 | 4:
                return self.attribute()
            case 5 | 6:
                return self.event(self.choice(["event_fired", "event_not_fired", "event_not_fired"]))
            case 7:
                return {"kind": "any_event", "window": self.window()}
            case _:
                return self.timed()

    def turning(self) -> Json:
        """Something that time alone will make true, if it is not."""
        span = self.choice(SPANS)
        match self.random.randrange(4):
            case 0:
                window = {"type": "last", "duration": span}
                quiet: Json = {"kind": "event_not_fired", "eventName": self.choice(EVENTS), "window": window}
                return quiet
            case 1:
                path = self.choice(["seen", "$subject.last_event_at", "$subject.created_at"])
                ago: Json = {"kind": "attribute", "fieldPath": path, "operator": "exists"}
                return {"kind": "and", "clauses": [ago, ago | {"operator": "not_within", "value": span}]}
            case _:
                path = self.choice(["seen", "due"])
                return {"kind": "attribute", "fieldPath": path, "operator": "within", "value": span}

    def simple(self) -> Json:
        return self.choice([self.cohort(), self.cohort(), self.attribute(), self.turning()])

    def cohort(self) -> Json:
        return {"kind": "in_cohort", "cohortId": self.choice(LISTS)}

    def attribute(self) -> Json:
        match self.random.randrange(8):
            case 6 | 7 if self.called:
                path = f"$steps.{self.choice(self.called)}.score"
                leaf: Json = {"fieldPath": path, "operator": self.choice(["gte", "exists"]), "value": 5}
            case 0:
                leaf = {"fieldPath": "score", "operator": "gte", "value": self.choice([3, 5.0])}
            case 1:
                leaf = {"fieldPath": "plan.level", "operator": "exists"}
            case 2:
                leaf = {"fieldPath": "$subject.time_zone", "operator": "equals", "value": self.choice(ZONES)}
            case 3:
                leaf = {"fieldPath": "$entry.amount", "operator": "gte", "value": 50}
            case _:
                operator = self.choice(["equals", "equals", "not_equals"])
                leaf = {"fieldPath": "tier", "operator": operator, "value": self.choice(TIERS)}
        return {"kind": "attribute"} | leaf

    def timed(self) -> Json:
        path = self.choice(["seen", "seen", "due", "$subject.created_at", "$subject.last_event_at"])
        operator = self.choice(["within", "not_within"])
        return {"kind": "attribute", "fieldPath": path, "operator": operator, "value": self.choice(SPANS)}

    def event(self, kind: str) -> Json:
        leaf: Json = {"kind": kind, "eventName": self.choice(EVENTS), "window": self.window()}
        if self.chance(0.3):
            leaf["atLeast"] = self.choice([2, 2, 3])
        if self.chance(0.2):
            leaf["where"] = self.of_event()
        return leaf

    def window(self) -> Json:
        match self.random.randrange(6):
            case 0:
                return {"type": "ever"}
            case 1:
                return {"type": "since", "time": self.choice(self.times)}
            case 2:
                return {"type": "last_n_days", "days": self.choice([1, 2])}
            case _:
                return {"type": "last", "duration": self.choice(SPANS)}

    def choice(self, among: Sequence[_Choice]) -> _Choice:
        return self.random.choice(among)

    def chance(self, share: float) -> bool:
        return self.random.random() < share
