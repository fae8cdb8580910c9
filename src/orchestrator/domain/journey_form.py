"""A journey's definition as people write it: the JSON form, the same in HTTP, YAML and the database (docs/journeys.md).

What is read here is shape: types, ids, ranges, one kind per step. A draft must have its shape; it may leave references
open (`next`, `otherwise`, `communicationId` absent or naming nothing), which `journey_graph.py` refuses when it is
published.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping
from datetime import timedelta
from typing import Any, TypeVar

from orchestrator.domain.ids import ID
from orchestrator.domain.journey import (
    Arm,
    Branch,
    Definition,
    Exit,
    OnBlocked,
    Reentry,
    ReentryKind,
    Send,
    Step,
    Wait,
)
from orchestrator.predicates.faults import Fault, under
from orchestrator.predicates.fields import unknown_fields, whole_number
from orchestrator.predicates.parse import About
from orchestrator.predicates.parse import parse as parse_predicate
from orchestrator.predicates.spans import read_span

MAX_STEPS = 500
MAX_ARMS = 50
MAX_WAIT = timedelta(days=730)
MAX_REENTRY_INTERVAL = timedelta(days=3650)
MAX_DURATION_DAYS = 365
MAX_EXIT_REASON = 200

#: What a branch's visit records when no arm holds; so no arm may be called so.
OTHERWISE = "otherwise"

#: What a new journey starts from when its author gives no steps.
ONE_EXIT: dict[str, Any] = {"steps": [{"id": "exit", "exit": {"reason": "finished"}}]}

_Choice = TypeVar("_Choice")

_DEFINITION_FIELDS = (
    "audienceId", "triggerContractId", "reentry", "maxDurationDays", "steps", "followLiveCommunications",
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

    def _wait(self, step_id: str, fields: Mapping[str, Any], path: str, step_path: str) -> Wait:
        body = self._members(fields["wait"], path, ("duration",))
        return Wait(
            id=step_id,
            duration=self._duration(body.get("duration"), under(path, "duration"), MAX_WAIT) or timedelta(0),
            next=self._id(fields.get("next"), under(step_path, "next")),
        )

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
        when, faults = parse_predicate(fields["when"], under(path, "when"), about=About.EXECUTION)
        self.faults.extend(faults)
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
        "branch": _branch,
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
