"""Performance of arms, policies and choices as messages."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from orchestrator.api.convert.impact import ratio_message
from orchestrator.api.convert.times import to_timestamp
from orchestrator.api.json_values import struct_of
from orchestrator.api.page_tokens import page_start, page_token
from orchestrator.application.branch_performance import BranchPerformance
from orchestrator.application.policy_values import Always, Greedy, NamedPolicy, Uniform, Valued, Weighted
from orchestrator.domain.apportionment import WHOLE
from orchestrator.domain.journey import NbaDecision
from orchestrator.domain.refusals import InvalidArgument
from orchestrator.storage.arm_choice_log import Logged, Place
from orchestrator.storage.policy_log import PolicyVersion
from orchestrator.v1 import branch_performance_pb2 as pb
from orchestrator.v1 import impact_service_pb2 as rpc

if TYPE_CHECKING:
    from orchestrator.learning.off_policy import Estimate
    from orchestrator.learning.performance import ArmPerformance
    from orchestrator.learning.share_history import SharesSince


def performance_message(told: BranchPerformance) -> pb.BranchPerformance:
    found, step = told.performance, told.branch.step
    kind = "" if step is None else "nba_decision" if isinstance(step, NbaDecision) else "adaptive_branch"
    return pb.BranchPerformance(
        step_id=told.branch.step_id,
        arms=[_arm(arm, told) for arm in found.arms],
        step_kind=kind,
        state=pb.DecisionState.Value(f"DECISION_STATE_{found.state.name}"),
        value_remaining=found.value_remaining,
        improvement_over_equal=found.improvement_over_equal,
        sample_ratio=ratio_message(found.sample_ratio) if found.sample_ratio is not None else None,
        policy_version=told.policy_version or 0,
        share_history=[_shares(shares) for shares in told.share_history],
        late_conversions=told.late,
        mature_before_time=to_timestamp(told.mature_before) if told.mature_before is not None else None,
        count_time=to_timestamp(told.as_of),
        goal_revisions=told.goal_revisions,
        sampled=told.sampled,
    )


def _arm(arm: ArmPerformance, told: BranchPerformance) -> pb.ArmPerformance:
    share = told.current_shares.get(arm.arm_id)
    return pb.ArmPerformance(
        arm_id=arm.arm_id,
        subjects_reached=arm.subjects_reached,
        goal_events=arm.goal_events,
        rate=arm.rate,
        credible_interval95=arm.credible_interval95 or (),
        cold_start=arm.cold_start,
        matured_subjects=arm.matured_subjects,
        matured_goal_events=arm.matured_goal_events,
        matured_rate=arm.matured_rate,
        matured_interval95=arm.matured_interval95 or (),
        pending_subjects=arm.pending_subjects,
        prob_best=arm.prob_best,
        expected_loss=arm.expected_loss,
        relative_loss=arm.relative_loss,
        ipw_rate=arm.ipw_rate,
        propensity_range=[ppm / WHOLE for ppm in arm.propensity_range or ()],
        current_share=share / WHOLE if share is not None else None,
        running=arm.arm_id in told.branch.running,
    )


def _shares(shares: SharesSince) -> pb.ArmShares:
    return pb.ArmShares(
        policy_version=shares.version,
        since_time=to_timestamp(shares.since),
        shares={arm_id: ppm / WHOLE for arm_id, ppm in shares.ppm},
    )


def version_message(told: PolicyVersion) -> pb.PolicyVersion:
    return pb.PolicyVersion(
        policy_version=told.policy_version,
        version=told.version,
        goal_revision=told.goal_revision,
        kind=told.kind,
        document=struct_of(told.document) if told.document is not None else None,
        fingerprint=told.fingerprint,
        data_cutoff_time=to_timestamp(told.data_cutoff_at),
        create_time=to_timestamp(told.created_at),
    )


def choice_message(logged: Logged) -> pb.ArmChoice:
    return pb.ArmChoice(
        subject_id=logged.subject_id or "",
        execution_id=str(logged.execution_id),
        version=logged.version,
        arm_id=logged.arm_id,
        propensity_ppm=logged.propensity_ppm,
        propensities_ppm=logged.propensities,
        draw=str(logged.draw) if logged.draw is not None else "",
        reason=logged.reason,
        policy_version=logged.policy_version or 0,
        round=logged.round,
        context=struct_of(logged.context) if logged.context is not None else None,
        choose_time=to_timestamp(logged.chosen_at),
        convert_time=to_timestamp(logged.converted_at) if logged.converted_at is not None else None,
    )


def policy_of(message: rpc.NamedPolicy) -> NamedPolicy:
    """Raises InvalidArgument unless it names one."""
    named: list[NamedPolicy] = []
    if message.uniform:
        named.append(Uniform())
    if message.greedy:
        named.append(Greedy())
    if message.arm_id:
        named.append(Always(arm_id=message.arm_id))
    if message.weights:
        named.append(Weighted(weights=tuple((weight.arm_id, weight.weight) for weight in message.weights)))
    if not named:
        raise InvalidArgument.of("policy", "REQUIRED", "name one of uniform, greedy, armId and weights")
    if len(named) > 1:
        raise InvalidArgument.of("policy", "INVALID_VALUE", "names more than one policy")
    return named[0]


def value_message(told: Valued) -> pb.PolicyValue:
    found = told.value
    return pb.PolicyValue(
        subjects=found.subjects,
        effective_subjects=found.effective,
        max_weight=found.max_weight,
        no_value_reason=found.no_value.value if found.no_value is not None else "",
        snips=_estimate(found.snips) if found.snips is not None else None,
        dr=_estimate(found.dr) if found.dr is not None else None,
        ips=_estimate(found.ips) if found.ips is not None else None,
        observed=told.observed,
        sampled=told.sampled,
    )


def _estimate(estimate: Estimate) -> pb.ValueEstimate:
    return pb.ValueEstimate(
        value=estimate.value, standard_error=estimate.standard_error, interval95=estimate.interval95
    )


def place_before(request: rpc.ListArmChoicesRequest) -> Place | None:
    """Where the page before ended; None for the first. Raises InvalidArgument PAGE_TOKEN_INVALID."""
    start = page_start(request, datetime, str, int)
    if start is None:
        return None
    try:
        return start[0], UUID(start[1]), start[2]
    except ValueError:
        message = "not a token that this list gave for these arguments: start from the first page"
        raise InvalidArgument.of("pageToken", "PAGE_TOKEN_INVALID", message) from None


def token_before(request: rpc.ListArmChoicesRequest, end: Place | None) -> str:
    """The token of the page after the one that ended there; empty after the last."""
    return page_token(request, end[0], str(end[1]), end[2]) if end is not None else ""
