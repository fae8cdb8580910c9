"""Policies as JSON, and back: what a version is stored as."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from orchestrator.domain.apportionment import WHOLE
from orchestrator.domain.arm_choice import ChoiceReason
from orchestrator.learning.arm_rules import ArmRule
from orchestrator.learning.context_policy import ArmModel, ContextPolicy, ContextRules
from orchestrator.learning.features import FeatureSchema, FieldKind
from orchestrator.learning.policy import ArmPolicy, Policy, PolicyRules
from orchestrator.learning.posterior import DelayModel

_Made = TypeVar("_Made")
_SHARES, _CONTEXT = "shares", "context"


def document_of(policy: Policy | ContextPolicy) -> dict[str, Any]:
    """`policy_from` makes an equal policy of it, after any number of turns through JSON."""
    kind = _CONTEXT if isinstance(policy, ContextPolicy) else _SHARES
    return {"kind": kind, **dataclasses.asdict(policy)}


def policy_from(document: Mapping[str, Any]) -> Policy | ContextPolicy:
    """Raises ValueError when it is not the document of a policy, or not of a whole one."""
    try:
        body = {name: value for name, value in document.items() if name != "kind"}
        arm_rules = tuple(ArmRule(**rule) for rule in body["arm_rules"])
        match document["kind"]:
            case "shares":
                policy = _made(
                    Policy,
                    body,
                    arms=lambda arms: tuple(
                        _made(ArmPolicy, arm, reason=ChoiceReason, delays=_numbers) for arm in arms
                    ),
                    rules=lambda rules: _made(PolicyRules, rules, delay_model=DelayModel),
                    arm_rules=lambda _: arm_rules,
                    pooled_delays=_numbers,
                )
                if sum(arm.ppm for arm in policy.arms) != WHOLE or any(arm.ppm < 0 for arm in policy.arms):
                    raise ValueError("shares add up to a million")
                return policy
            case "context":
                schema = _made(
                    FeatureSchema,
                    body["schema"],
                    fields=tuple,
                    kinds=lambda kinds: tuple(map(FieldKind, kinds)),
                    means=_numbers,
                    scales=_numbers,
                )
                in_context = _made(
                    ContextPolicy,
                    body,
                    schema=lambda _: schema,
                    arms=lambda arms: tuple(_made(ArmModel, arm, coefficients=_numbers) for arm in arms),
                    rules=lambda rules: _made(ContextRules, rules, fields=tuple),
                    arm_rules=lambda _: arm_rules,
                )
                in_context.expected([{}])  # shapes that do not fit are found here, and not when somebody comes
                if [arm.arm_id for arm in in_context.arms] != [rule.arm_id for rule in arm_rules]:
                    raise ValueError("each arm has a model")
                return in_context
            case _:
                raise ValueError("not a kind of policy")
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError("not the document of a policy") from error


def _made(kind: type[_Made], body: Mapping[str, Any], **converted: Callable[[Any], object]) -> _Made:
    return kind(**{name: converted[name](value) if name in converted else value for name, value in body.items()})


def _numbers(values: Any) -> tuple[float, ...]:
    numbers = tuple(float(value) for value in values)
    if not all(map(math.isfinite, numbers)):
        raise ValueError("numbers are finite")
    return numbers
