"""A journey's definition as people write it: the JSON form, the same in HTTP, YAML and the database (docs/journeys.md).

What is read here is shape: types, ids, ranges, one kind per step. A draft must have its shape; it may leave references
open (`next`, `otherwise`, `communicationId` absent or naming nothing), which `journey_graph.py` refuses when it is
published.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Collection, Mapping
from datetime import time, timedelta
from typing import Any, TypeVar

from orchestrator.domain.ids import ID
from orchestrator.domain.event import MAX_NAME_LENGTH
from orchestrator.domain.journey import (
    After,
    Arm,
    AttributeDate,
    Branch,
    Changed,
    Condition,
    Definition,
    Exit,
    ExitRule,
    Happened,
    OnBlocked,
    Reentry,
    ReentryKind,
    Send,
    Split,
    SplitArm,
    Step,
    TimeOfDay,
    Wait,
    WaitFor,
    WaitUntil,
)
from orchestrator.predicates.faults import Fault, under
from orchestrator.predicates.fields import unknown_fields, whole_number
from orchestrator.predicates.parse import About
from orchestrator.predicates.parse import parse as parse_predicate
from orchestrator.predicates.paths import split_path
from orchestrator.predicates.spans import read_span
from orchestrator.predicates.tree import Predicate

MAX_STEPS = 500
MAX_ARMS = 50
MAX_WAIT = timedelta(days=730)
MAX_REENTRY_INTERVAL = timedelta(days=3650)
MAX_DURATION_DAYS = 365
MAX_EXIT_REASON = 200
MAX_WEIGHT = 1_000_000
MAX_SALT = 128
MAX_EXIT_RULES = 20

#: Monday is 0, as in Python's `date.weekday`.
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_CLOCK = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])(?::([0-5][0-9]))?")

#: What a branch's visit records when no arm holds; so no arm may be called so.
OTHERWISE = "otherwise"

#: What a new journey starts from when its author gives no steps.
ONE_EXIT: dict[str, Any] = {"steps": [{"id": "exit", "exit": {"reason": "finished"}}]}

_Choice = TypeVar("_Choice")

_DEFINITION_FIELDS = (
    "audienceId", "triggerContractId", "reentry", "maxDurationDays", "steps", "followLiveCommunications", "exitRules",
    "exitOnGoal",
)  # fmt: skip


def parse(document: object, path: str = "") -> tuple[Definition | None, list[Fault]]:
    """Read a definition; with faults there is none. `path` is where the document stands in the caller's request.

    An absent member and a null are the same thing. Absent references become "" (steps) or None (audience, contract).
    """
    form = _Form()
    definition = form.definition(document, path)
    return (None, form.faults) if form.faults else (definition, [])


def stored(document: object) -> Definition:
    """Read a definition that was checked when it was written."""
    definition, faults = parse(document)
    assert definition is not None, f"a stored definition no longer reads: {[(f.path, f.reason) for f in faults]}"
    return definition


def digest(document: object) -> bytes:
    """SHA-256 over a JSON value, unchanged by being kept in a database: keys sorted, whole floats as integers."""
    text = json.dumps(_canonical(document), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).digest()


def _canonical(value: Any) -> Any:
    match value:
        case dict():
            return {key: _canonical(member) for key, member in value.items()}
        case list():
            return [_canonical(element) for element in value]
        case float() if value.is_integer():
            return int(value)
        case _:
            return value


class _Form:
    """One reading of one document: every method notes what is wrong and returns a stand-in, so that reading goes on."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []

    def definition(self, document: object, path: str) -> Definition:
        fields = self._members(document, path, _DEFINITION_FIELDS)
        return Definition(
            audience_id=self._id(fields.get("audienceId"), under(path, "audienceId")) or None,
            trigger_contract_id=self._id(fields.get("triggerContractId"), under(path, "triggerContractId")) or None,
            reentry=self._reentry(fields.get("reentry"), under(path, "reentry")),
            max_duration=self._max_duration(fields.get("maxDurationDays"), under(path, "maxDurationDays")),
            steps=self._steps(fields.get("steps"), under(path, "steps")),
            follow_live_communications=self._flag(
                fields.get("followLiveCommunications"), under(path, "followLiveCommunications")
            ),
            exit_rules=self._exit_rules(fields.get("exitRules"), under(path, "exitRules")),
            exit_on_goal=self._flag(fields.get("exitOnGoal"), under(path, "exitOnGoal")),
        )

    def _flag(self, value: object, path: str) -> bool:
        if value is not None and not isinstance(value, bool):
            self._fault(path, "INVALID_TYPE", "must be true or false")
        return value is True

    def _reentry(self, value: object, path: str) -> Reentry | None:
        if value is None:
            return None
        fields = self._members(value, path, ("policy", "interval"))
        policies = {kind.value: kind for kind in ReentryKind}
        kind = self._choice(fields.get("policy"), under(path, "policy"), policies)
        at = under(path, "interval")
        if kind is not ReentryKind.INTERVAL:
            if kind is not None and fields.get("interval") is not None:
                self._fault(at, "INVALID_VALUE", f"only the policy {ReentryKind.INTERVAL.value} has an interval")
            return Reentry(kind=kind) if kind else None
        return Reentry(kind=kind, interval=self._duration(fields.get("interval"), at, MAX_REENTRY_INTERVAL))

    def _max_duration(self, value: object, path: str) -> timedelta | None:
        if value is None:
            return None
        whole = whole_number(value)
        if whole is None:
            self._fault(path, "INVALID_TYPE", "must be a whole number of days")
        elif not 1 <= whole <= MAX_DURATION_DAYS:
            self._fault(path, "OUT_OF_RANGE", f"must be 1 to {MAX_DURATION_DAYS} days")
        else:
            return timedelta(days=whole)
        return None

    def _steps(self, value: object, path: str) -> dict[str, Step]:
        steps: dict[str, Step] = {}
        for at, element in self._elements(value, path, MAX_STEPS):
            step = self._step(element, at)
            if step.id in steps:
                self._fault(under(at, "id"), "DUPLICATE_ID", f"another step is called {step.id}")
            elif step.id:
                steps[step.id] = step
        return steps

    def _step(self, element: object, path: str) -> Step:
        fields = self._members(element, path, ("id", "next", *self._kinds))
        step_id = self._required_id(fields.get("id"), under(path, "id")) if isinstance(element, dict) else ""
        kinds = [kind for kind in self._kinds if fields.get(kind) is not None]
        if len(kinds) != 1:
            if isinstance(element, dict):
                found = f"this one has {', '.join(kinds)}" if kinds else f"give one of {', '.join(self._kinds)}"
                self._fault(path, "INVALID_VALUE" if kinds else "REQUIRED", f"a step has exactly one kind: {found}")
            return Exit(id=step_id, reason="")
        read = self._kinds[kinds[0]]
        return read(self, step_id, fields, under(path, kinds[0]), path)

    def _send(self, step_id: str, fields: Mapping[str, Any], path: str, step_path: str) -> Send:
        body = self._members(fields["send"], path, ("communicationId", "onBlocked"))
        choices = {policy.value: policy for policy in OnBlocked}
        on_blocked = body.get("onBlocked")
        policy = self._choice(on_blocked, under(path, "onBlocked"), choices) if on_blocked is not None else None
        return Send(
            id=step_id,
            communication_id=self._id(body.get("communicationId"), under(path, "communicationId")),
            on_blocked=policy or OnBlocked.SKIP,
            next=self._id(fields.get("next"), under(step_path, "next")),
        )

    def _wait(self, step_id: str, fields: Mapping[str, Any], path: str, step_path: str) -> Wait | WaitUntil:
        body = self._members(fields["wait"], path, ("duration", "timeOfDay", "date"))
        following = self._id(fields.get("next"), under(step_path, "next"))
        match self._one_of(body, ("timeOfDay", "date"), ("duration",), path, "a wait"):
            case "timeOfDay":
                until: TimeOfDay | AttributeDate = self._time_of_day(body["timeOfDay"], under(path, "timeOfDay"))
                return WaitUntil(id=step_id, until=until, next=following)
            case "date":
                until = self._date(body["date"], under(path, "date"))
                return WaitUntil(id=step_id, until=until, next=following)
        return Wait(
            id=step_id,
            duration=self._duration(body.get("duration"), under(path, "duration"), MAX_WAIT) or timedelta(0),
            next=following,
        )

    def _time_of_day(self, value: object, path: str) -> TimeOfDay:
        body = self._members(value, path, ("time", "weekdays"))
        clock = body.get("time")
        at = under(path, "time")
        if clock is None and isinstance(value, dict):
            self._fault(at, "REQUIRED", "a time of day is required")
        days = {name: number for number, name in enumerate(WEEKDAYS)}
        named = self._elements(body.get("weekdays"), under(path, "weekdays"), len(WEEKDAYS))
        chosen = [self._choice(element, day_path, days) for day_path, element in named]
        return TimeOfDay(
            clock=self._clock(clock, at) or time(), weekdays=frozenset(day for day in chosen if day is not None)
        )

    def _date(self, value: object, path: str) -> AttributeDate:
        body = self._members(value, path, ("fieldPath", "before", "after", "time"))
        found = self._field_path(body.get("fieldPath"), under(path, "fieldPath")) if isinstance(value, dict) else ()
        way = self._one_of(body, ("before", "after"), (), path, "a date")
        offset = self._duration(body[way], under(path, way), MAX_WAIT) if way else None
        return AttributeDate(
            path=found,
            offset=(offset or timedelta(0)) * (-1 if way == "before" else 1),
            clock=self._clock(body.get("time"), under(path, "time")),
        )

    def _clock(self, value: object, path: str) -> time | None:
        if value is None:
            return None
        if not isinstance(value, str):
            self._fault(path, "INVALID_TYPE", "must be text, such as 09:30")
        elif match := _CLOCK.fullmatch(value):
            hour, minute, second = match.groups()
            return time(int(hour), int(minute), int(second or 0))
        else:
            self._fault(path, "INVALID_VALUE", "a time of day such as 09:30 or 09:30:15")
        return None

    def _wait_for(self, step_id: str, fields: Mapping[str, Any], path: str, step_path: str) -> WaitFor:
        body = self._members(fields["waitFor"], path, ("when", "event", "changed", "timeout", "otherwise"))
        condition: Condition | None = None
        match self._one_of(body, ("when", "event", "changed"), ("when", "event", "changed"), path, "a wait_for"):
            case "when":
                condition = self._when(body["when"], under(path, "when"))
            case "event":
                condition = self._happened(body["event"], under(path, "event"), may_choose_after=True)
            case "changed":
                condition = self._changed(body["changed"], under(path, "changed"))
        timeout, otherwise = body.get("timeout"), body.get("otherwise")
        if timeout is None and otherwise is not None:
            self._fault(under(path, "otherwise"), "INVALID_VALUE", "without a timeout nobody goes this way")
        return WaitFor(
            id=step_id,
            condition=condition or Changed(path=()),
            timeout=self._duration(timeout, under(path, "timeout"), MAX_WAIT) if timeout is not None else None,
            next=self._id(fields.get("next"), under(step_path, "next")),
            otherwise=self._id(otherwise, under(path, "otherwise")),
        )

    def _when(self, value: object, path: str) -> Predicate | None:
        when, faults = parse_predicate(value, path, about=About.EXECUTION)
        self.faults.extend(faults)
        return when

    def _happened(self, value: object, path: str, *, may_choose_after: bool) -> Happened:
        known = ("eventName", "where", "entryKeyPath", *(("after",) if may_choose_after else ()))
        body = self._members(value, path, known)
        name = body.get("eventName")
        at = under(path, "eventName")
        if isinstance(value, dict) and (name is None or (isinstance(name, str) and not name.strip())):
            self._fault(at, "EVENT_NAME_REQUIRED", "the event's name is required")
        elif name is not None and not isinstance(name, str):
            self._fault(at, "INVALID_TYPE", "must be text")
        elif isinstance(name, str) and len(name) > MAX_NAME_LENGTH:
            self._fault(at, "TOO_LONG", f"has at most {MAX_NAME_LENGTH} characters")
        where = None
        if body.get("where") is not None:
            where, faults = parse_predicate(body["where"], under(path, "where"), about=About.EVENT)
            self.faults.extend(faults)
        key_path = body.get("entryKeyPath")
        after = body.get("after")
        choices = {one.value: one for one in After}
        return Happened(
            event_name=name if isinstance(name, str) else "",
            where=where,
            entry_key_path=self._field_path(key_path, under(path, "entryKeyPath")) if key_path is not None else (),
            after=(self._choice(after, under(path, "after"), choices) if after is not None else None) or After.ENTRY,
        )

    def _changed(self, value: object, path: str) -> Changed:
        body = self._members(value, path, ("fieldPath",))
        return Changed(
            path=self._field_path(body.get("fieldPath"), under(path, "fieldPath")) if isinstance(value, dict) else ()
        )

    def _field_path(self, value: object, path: str) -> tuple[str, ...]:
        """The names of a path into attributes or properties."""
        if value is None or value == "":
            self._fault(path, "FIELD_PATH_REQUIRED", "a field's path is required")
        elif not isinstance(value, str):
            self._fault(path, "INVALID_TYPE", "must be text")
        else:
            try:
                names = split_path(value)
            except ValueError as error:
                self._fault(path, "INVALID_VALUE", str(error))
                return ()
            if not names[0].startswith("$"):
                return names
            self._fault(path, "INVALID_VALUE", "a field of the subject or the event itself")
        return ()

    def _exit_rules(self, value: object, path: str) -> tuple[ExitRule, ...]:
        rules: dict[str, ExitRule] = {}
        for at, element in self._elements(value, path, MAX_EXIT_RULES):
            body = self._members(element, at, ("id", "when", "event"))
            if not isinstance(element, dict):
                continue
            rule_id = self._required_id(body.get("id"), under(at, "id"))
            condition: Predicate | Happened | None = None
            match self._one_of(body, ("when", "event"), ("when", "event"), at, "an exit rule"):
                case "when":
                    condition = self._when(body["when"], under(at, "when"))
                case "event":
                    condition = self._happened(body["event"], under(at, "event"), may_choose_after=False)
            if rule_id in rules:
                self._fault(under(at, "id"), "DUPLICATE_ID", f"another exit rule is called {rule_id}")
            elif rule_id and condition is not None:
                rules[rule_id] = ExitRule(id=rule_id, condition=condition)
        return tuple(rules.values())

    def _one_of(
        self, body: Mapping[str, Any], members: Collection[str], needed: Collection[str], path: str, what: str
    ) -> str | None:
        """Which of these members is there; None where none is, or one of the others that `needed` names beside them."""
        every = list(dict.fromkeys([*members, *needed]))
        found = [member for member in every if body.get(member) is not None]
        if len(found) > 1:
            self._fault(
                path, "INVALID_VALUE", f"{what} has one of {', '.join(every)}: this one has {' and '.join(found)}"
            )
        elif not found and set(needed) >= set(members):
            self._fault(path, "REQUIRED", f"{what} has one of {', '.join(every)}")
        return found[0] if len(found) == 1 and found[0] in members else None

    def _split(self, step_id: str, fields: Mapping[str, Any], path: str, step_path: str) -> Split:
        self._no_next(fields, step_path, "a split goes on by its arms")
        body = self._members(fields["split"], path, ("arms", "salt"))
        arms: dict[str, SplitArm] = {}
        arms_path = under(path, "arms")
        elements = self._elements(body.get("arms"), arms_path, MAX_ARMS)
        if isinstance(fields["split"], dict) and body.get("arms") in (None, []):
            self._fault(arms_path, "REQUIRED", "a split has at least one arm")
        for at, element in elements:
            members = self._members(element, at, ("id", "weight", "next"))
            if not isinstance(element, dict):
                continue
            arm_id = self._required_id(members.get("id"), under(at, "id"))
            if arm_id in arms:
                self._fault(under(at, "id"), "DUPLICATE_ID", f"another arm of this split is called {arm_id}")
            weight = self._weight(members.get("weight"), under(at, "weight"))
            arms[arm_id] = SplitArm(id=arm_id, weight=weight, next=self._id(members.get("next"), under(at, "next")))
        return Split(id=step_id, arms=tuple(arms.values()), salt=self._salt(body.get("salt"), under(path, "salt")))

    def _weight(self, value: object, path: str) -> int:
        if value is None:
            self._fault(path, "REQUIRED", "an arm has a weight")
            return 1
        whole = whole_number(value)
        if whole is None:
            self._fault(path, "INVALID_TYPE", "must be a whole number")
        elif not 1 <= whole <= MAX_WEIGHT:
            self._fault(path, "OUT_OF_RANGE", f"must be 1 to {MAX_WEIGHT}")
        else:
            return whole
        return 1

    def _salt(self, value: object, path: str) -> str | None:
        if value is None or value == "":
            return None
        if not isinstance(value, str):
            self._fault(path, "INVALID_TYPE", "must be text")
        elif len(value) > MAX_SALT:
            self._fault(path, "TOO_LONG", f"has at most {MAX_SALT} characters")
        else:
            return value
        return None

    def _branch(self, step_id: str, fields: Mapping[str, Any], path: str, step_path: str) -> Branch:
        self._no_next(fields, step_path, "a branch goes on by its arms and `otherwise`")
        body = self._members(fields["branch"], path, ("arms", "otherwise"))
        arms: dict[str, Arm] = {}
        arms_path = under(path, "arms")
        elements = self._elements(body.get("arms"), arms_path, MAX_ARMS)
        if isinstance(fields["branch"], dict) and body.get("arms") in (None, []):
            self._fault(arms_path, "REQUIRED", "a branch has at least one arm")
        for at, element in elements:
            arm = self._arm(element, at)
            if arm is None:
                continue
            if arm.id in arms:
                self._fault(under(at, "id"), "DUPLICATE_ID", f"another arm of this branch is called {arm.id}")
            arms[arm.id] = arm
        otherwise = self._id(body.get("otherwise"), under(path, "otherwise"))
        return Branch(id=step_id, arms=tuple(arms.values()), otherwise=otherwise)

    def _arm(self, element: object, path: str) -> Arm | None:
        fields = self._members(element, path, ("id", "when", "next"))
        if not isinstance(element, dict):
            return None
        arm_id = self._required_id(fields.get("id"), under(path, "id"))
        if arm_id == OTHERWISE:
            self._fault(under(path, "id"), "INVALID_ID", f"{OTHERWISE} is what is recorded when no arm holds")
        following = self._id(fields.get("next"), under(path, "next"))
        if fields.get("when") is None:
            self._fault(under(path, "when"), "REQUIRED", "an arm has a predicate")
            return None
        when = self._when(fields["when"], under(path, "when"))
        return Arm(id=arm_id, when=when, next=following) if when is not None and arm_id else None

    def _exit(self, step_id: str, fields: Mapping[str, Any], path: str, step_path: str) -> Exit:
        self._no_next(fields, step_path, "nothing comes after an exit")
        body = self._members(fields["exit"], path, ("reason",))
        reason = body.get("reason")
        at = under(path, "reason")
        if reason is None:
            return Exit(id=step_id, reason="finished")
        if not isinstance(reason, str):
            self._fault(at, "INVALID_TYPE", "must be text")
        elif not reason.strip():
            self._fault(at, "REQUIRED", "must not be empty")
        elif len(reason) > MAX_EXIT_REASON:
            self._fault(at, "TOO_LONG", f"has at most {MAX_EXIT_REASON} characters")
        return Exit(id=step_id, reason=str(reason))

    #: A step's kind is the name of its member. Each reads (step id, step's members, the path of the kind, of the step).
    _kinds: Mapping[str, Callable[[_Form, str, Mapping[str, Any], str, str], Step]] = {
        "send": _send,
        "wait": _wait,
        "waitFor": _wait_for,
        "branch": _branch,
        "split": _split,
        "exit": _exit,
    }

    def _no_next(self, fields: Mapping[str, Any], path: str, why: str) -> None:
        if fields.get("next") is not None:
            self._fault(under(path, "next"), "INVALID_VALUE", why)

    def _members(self, value: object, path: str, known: Collection[str]) -> Mapping[str, Any]:
        if not isinstance(value, dict):
            self._fault(path, "INVALID_TYPE", "must be an object")
            return {}
        self.faults.extend(unknown_fields(value, known, path))
        return value

    def _elements(self, value: object, path: str, at_most: int) -> list[tuple[str, object]]:
        if value is None:
            return []
        if not isinstance(value, list):
            self._fault(path, "INVALID_TYPE", "must be a list")
            return []
        if len(value) > at_most:
            self._fault(path, "TOO_LARGE", f"has at most {at_most} elements")
            return []
        return [(under(path, index), element) for index, element in enumerate(value)]

    def _required_id(self, value: object, path: str) -> str:
        if value is None or value == "":
            self._fault(path, "REQUIRED", "an id is required")
            return ""
        return self._id(value, path)

    def _id(self, value: object, path: str) -> str:
        """An id, or "" where there is none (or a faulty one)."""
        if value is None or value == "":
            return ""
        if not isinstance(value, str):
            self._fault(path, "INVALID_TYPE", "must be text")
        elif ID.fullmatch(value):
            return value
        else:
            self._fault(path, "INVALID_ID", "an id is 1 to 128 of A-Z a-z 0-9 _ . : -")
        return ""

    def _duration(self, value: object, path: str, at_most: timedelta) -> timedelta | None:
        if value is None:
            self._fault(path, "REQUIRED", "a duration is required")
        elif not isinstance(value, str):
            self._fault(path, "INVALID_TYPE", "must be text, such as 90m or 3d")
        else:
            try:
                duration = read_span(value)
            except ValueError as error:
                self._fault(path, "INVALID_VALUE", str(error))
                return None
            if timedelta(0) < duration <= at_most:
                return duration
            self._fault(path, "OUT_OF_RANGE", f"must be more than 0 and at most {at_most.days} days")
        return None

    def _choice(self, value: object, path: str, choices: Mapping[str, _Choice]) -> _Choice | None:
        if value is None:
            self._fault(path, "REQUIRED", f"must be one of {', '.join(choices)}")
        elif not isinstance(value, str):
            self._fault(path, "INVALID_TYPE", "must be text")
        elif value not in choices:
            self._fault(path, "UNKNOWN_ENUM_VALUE", f"must be one of {', '.join(choices)}")
        else:
            return choices[value]
        return None

    def _fault(self, path: str, reason: str, message: str) -> None:
        self.faults.append(Fault(path=path, reason=reason, message=message))
