"""Steps as people write them: an id, one kind, and mostly a `next`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from orchestrator.domain.adaptive_forms import (
    ADAPTIVE_BRANCH,
    ARM,
    NBA_DECISION,
    read_branch_learning,
    read_context,
    read_context_learning,
    read_share,
    read_stickiness,
)
from orchestrator.domain.canvas import read_step_canvas
from orchestrator.domain.condition_forms import read_changed, read_date, read_happened, read_time_of_day
from orchestrator.domain.draw import MAX_SALT
from orchestrator.domain.effect_forms import (
    EMIT_EVENT,
    UPDATE_SUBJECT,
    WEBHOOK,
    read_emit_event,
    read_update_subject,
    read_webhook,
)
from orchestrator.domain.form_reader import FormReader
from orchestrator.domain.journey import (
    AdaptiveArm,
    AdaptiveBranch,
    Arm,
    Branch,
    Condition,
    Exit,
    NbaDecision,
    OnBlocked,
    Send,
    Split,
    SplitArm,
    Step,
    Wait,
    WaitFor,
    WaitUntil,
)
from orchestrator.domain.sending_forms import read_hours
from orchestrator.predicates.faults import under
from orchestrator.predicates.parse import About

MAX_STEPS = 500
MAX_ARMS = 50
MAX_WAIT = timedelta(days=730)
MAX_EXIT_REASON = 200
MAX_WEIGHT = 1_000_000

#: What a branch's visit records when no arm holds; so no arm may be called so.
OTHERWISE = "otherwise"

_ON_BLOCKED = {policy.value: policy for policy in OnBlocked}

#: Reads the body of a step, given its path, its id and the step after it.
_ReadBody = Callable[[FormReader, Mapping[str, Any], str, str, str], Step | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Node:
    """A step as it stands in the document. `body` is what its kind holds, and `path` leads there."""

    id: str
    body: object
    path: str
    next: object
    next_path: str
    members: tuple[str, ...]


def read_steps(form: FormReader, value: object, path: str) -> dict[str, Step]:
    """The steps in their order, by their ids."""
    steps: dict[str, Step] = {}
    taken: set[str] = set()
    for at, element in form.elements(value, path, MAX_STEPS):
        fields = form.members(element, at, ("id", "next", "canvas", *STEP_FORMS))
        if fields is None:
            continue
        step_id = form.own_id(fields, at, taken, "step")
        kind = form.only_one(fields, STEP_FORMS, at, "a step has exactly one kind")
        if kind is None:
            continue
        step_form = STEP_FORMS[kind]
        read_step_canvas(form, fields.get("canvas"), under(at, "canvas"), step_form.members)
        node = _Node(
            id=step_id,
            body=fields[kind],
            path=under(at, kind),
            next=fields.get("next"),
            next_path=under(at, "next"),
            members=step_form.members,
        )
        step = step_form.read(form, node)
        if step is not None:
            steps[step_id] = step
    return steps


def _next(form: FormReader, node: _Node) -> str:
    return form.reference(node.next, node.next_path)


def _no_next(form: FormReader, node: _Node, why: str) -> None:
    if node.next is not None:
        form.fault(node.next_path, "INVALID_VALUE", why)


def _send(form: FormReader, node: _Node) -> Step | None:
    following = _next(form, node)
    body = form.members(node.body, node.path, node.members)
    if body is None:
        return None
    on_blocked = form.choice(body.get("onBlocked"), under(node.path, "onBlocked"), _ON_BLOCKED)
    at = under(node.path, "waitAtMost")
    wait_at_most = form.duration(body.get("waitAtMost"), at, MAX_WAIT)
    if wait_at_most is not None and on_blocked not in (None, OnBlocked.WAIT):
        form.fault(at, "INVALID_VALUE", f"a send that is blocked does not wait here: it is to {on_blocked.value}")
    return Send(
        id=node.id,
        communication_id=form.reference(body.get("communicationId"), under(node.path, "communicationId")),
        on_blocked=on_blocked,
        next=following,
        wait_at_most=wait_at_most,
        window=read_hours(form, body.get("sendWindow"), under(node.path, "sendWindow")),
    )


def _wait(form: FormReader, node: _Node) -> Step | None:
    following = _next(form, node)
    body = form.members(node.body, node.path, node.members)
    if body is None:
        return None
    kind = form.only_one(body, ("duration", "timeOfDay", "date"), node.path, "a wait has exactly one end")
    if kind is None:
        return None
    at = under(node.path, kind)
    if kind == "duration":
        duration = form.duration(body[kind], at, MAX_WAIT)
        return Wait(id=node.id, duration=duration, next=following) if duration is not None else None
    read = read_time_of_day if kind == "timeOfDay" else read_date
    until = read(form, body[kind], at)
    return WaitUntil(id=node.id, until=until, next=following) if until is not None else None


def _wait_for(form: FormReader, node: _Node) -> Step | None:
    following = _next(form, node)
    body = form.members(node.body, node.path, node.members)
    if body is None:
        return None
    condition = _condition(form, body, node.path)
    timeout = form.duration(body.get("timeout"), under(node.path, "timeout"), MAX_WAIT)
    at = under(node.path, "otherwise")
    otherwise = form.reference(body.get("otherwise"), at)
    if otherwise and body.get("timeout") is None:
        form.fault(at, "INVALID_VALUE", "without a timeout nobody goes this way")
    if condition is None:
        return None
    return WaitFor(id=node.id, condition=condition, timeout=timeout, next=following, otherwise=otherwise)


def _condition(form: FormReader, body: Mapping[str, Any], path: str) -> Condition | None:
    match form.only_one(body, ("when", "event", "changed"), path, "a waitFor has exactly one condition"):
        case "when":
            return form.predicate(body["when"], under(path, "when"), About.EXECUTION)
        case "event":
            return read_happened(form, body["event"], under(path, "event"), of_step=True)
        case "changed":
            return read_changed(form, body["changed"], under(path, "changed"))
        case _:
            return None


def _branch(form: FormReader, node: _Node) -> Step | None:
    _no_next(form, node, "a branch goes on by its arms and `otherwise`")
    body = form.members(node.body, node.path, node.members)
    if body is None:
        return None
    arms: list[Arm] = []
    for arm_id, fields, at in _arms(form, body, node.path, ("id", "when", "next"), "a branch"):
        if arm_id == OTHERWISE:
            form.fault(under(at, "id"), "INVALID_ID", f"{OTHERWISE} is what is recorded when no arm holds")
        following = form.reference(fields.get("next"), under(at, "next"))
        if fields.get("when") is None:
            form.required(under(at, "when"), "an arm has a predicate")
            continue
        when = form.predicate(fields["when"], under(at, "when"), About.EXECUTION)
        if when is not None:
            arms.append(Arm(id=arm_id, when=when, next=following))
    otherwise = form.reference(body.get("otherwise"), under(node.path, "otherwise"))
    return Branch(id=node.id, arms=tuple(arms), otherwise=otherwise)


def _split(form: FormReader, node: _Node) -> Step | None:
    _no_next(form, node, "a split goes on by its arms")
    body = form.members(node.body, node.path, node.members)
    if body is None:
        return None
    arms: list[SplitArm] = []
    for arm_id, fields, at in _arms(form, body, node.path, ("id", "weight", "next"), "a split"):
        if fields.get("weight") is None:
            form.required(under(at, "weight"), "an arm has a weight")
        weight = form.number(fields.get("weight"), under(at, "weight"), MAX_WEIGHT)
        following = form.reference(fields.get("next"), under(at, "next"))
        if weight is not None:
            arms.append(SplitArm(id=arm_id, weight=weight, next=following))
    return Split(id=node.id, arms=tuple(arms), salt=form.text(body.get("salt"), under(node.path, "salt"), MAX_SALT))


def _adaptive_branch(form: FormReader, node: _Node) -> Step | None:
    _no_next(form, node, "an adaptive branch goes on by its arms")
    body = form.members(node.body, node.path, node.members)
    if body is None:
        return None
    return AdaptiveBranch(
        id=node.id,
        arms=_adaptive_arms(form, body, node.path, "an adaptive branch"),
        stickiness=read_stickiness(form, body, node.path),
        salt=form.text(body.get("salt"), under(node.path, "salt"), MAX_SALT),
        learning=read_branch_learning(form, body.get("learning"), under(node.path, "learning")),
    )


def _nba_decision(form: FormReader, node: _Node) -> Step | None:
    _no_next(form, node, "a decision goes on by its arms")
    body = form.members(node.body, node.path, node.members)
    if body is None:
        return None
    return NbaDecision(
        id=node.id,
        arms=_adaptive_arms(form, body, node.path, "a decision"),
        context=read_context(form, body.get("context"), under(node.path, "context")),
        stickiness=read_stickiness(form, body, node.path),
        salt=form.text(body.get("salt"), under(node.path, "salt"), MAX_SALT),
        learning=read_context_learning(form, body.get("learning"), under(node.path, "learning")),
    )


def _adaptive_arms(form: FormReader, body: Mapping[str, Any], path: str, what: str) -> tuple[AdaptiveArm, ...]:
    return tuple(
        AdaptiveArm(
            id=arm_id,
            next=form.reference(fields.get("next"), under(at, "next")),
            share_ppm=read_share(form, fields.get("share"), under(at, "share")),
            paused=form.flag(fields.get("paused"), under(at, "paused")),
        )
        for arm_id, fields, at in _arms(form, body, path, ARM, what)
    )


def _arms(
    form: FormReader, body: Mapping[str, Any], path: str, known: tuple[str, ...], what: str
) -> Iterator[tuple[str, Mapping[str, Any], str]]:
    """Of each arm its id, its members, and the path to it."""
    at = under(path, "arms")
    if body.get("arms") is None or body["arms"] == []:
        form.required(at, f"{what} has at least one arm")
    taken: set[str] = set()
    for arm_path, element in form.elements(body.get("arms"), at, MAX_ARMS):
        fields = form.members(element, arm_path, known)
        if fields is not None:
            yield form.own_id(fields, arm_path, taken, f"arm of this {what.partition(' ')[2]}"), fields, arm_path


def _effect(read: _ReadBody) -> Callable[[FormReader, _Node], Step | None]:
    """Of a step that goes on by `next`, once it has done what its body says."""

    def read_step(form: FormReader, node: _Node) -> Step | None:
        following = _next(form, node)
        body = form.members(node.body, node.path, node.members)
        return read(form, body, node.path, node.id, following) if body is not None else None

    return read_step


def _exit(form: FormReader, node: _Node) -> Step | None:
    _no_next(form, node, "nothing comes after an exit")
    body = form.members(node.body, node.path, node.members)
    if body is None:
        return None
    reason = body.get("reason")
    at = under(node.path, "reason")
    if reason is None:
        return Exit(id=node.id, reason="finished")
    if isinstance(reason, str) and not reason.strip():
        form.required(at, "must not be empty")
    read = form.text(reason, at, MAX_EXIT_REASON)
    return Exit(id=node.id, reason=read) if read is not None else None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepForm:
    """How a kind of step is written: what its body may hold, and where it names the steps that come after it.

    `ways`: `next` beside the kind, `arms` whose elements have a `next` each, and members of the body.
    """

    read: Callable[[FormReader, _Node], Step | None]
    members: tuple[str, ...]
    ways: tuple[str, ...]


#: A step's kind is the name of its member.
STEP_FORMS: Mapping[str, StepForm] = {
    "send": StepForm(read=_send, members=("communicationId", "onBlocked", "waitAtMost", "sendWindow"), ways=("next",)),
    "wait": StepForm(read=_wait, members=("duration", "timeOfDay", "date"), ways=("next",)),
    "waitFor": StepForm(
        read=_wait_for, members=("when", "event", "changed", "timeout", "otherwise"), ways=("next", "otherwise")
    ),
    "branch": StepForm(read=_branch, members=("arms", "otherwise"), ways=("arms", "otherwise")),
    "split": StepForm(read=_split, members=("arms", "salt"), ways=("arms",)),
    "adaptiveBranch": StepForm(read=_adaptive_branch, members=ADAPTIVE_BRANCH, ways=("arms",)),
    "nbaDecision": StepForm(read=_nba_decision, members=NBA_DECISION, ways=("arms",)),
    "updateSubject": StepForm(read=_effect(read_update_subject), members=UPDATE_SUBJECT, ways=("next",)),
    "emitEvent": StepForm(read=_effect(read_emit_event), members=EMIT_EVENT, ways=("next",)),
    "webhook": StepForm(read=_effect(read_webhook), members=WEBHOOK, ways=("next", "otherwise")),
    "exit": StepForm(read=_exit, members=("reason",), ways=()),
}

#: What steps may be, as authors write it.
STEP_KINDS = tuple(STEP_FORMS)
