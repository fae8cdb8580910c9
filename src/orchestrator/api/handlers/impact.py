"""ImpactService."""

from __future__ import annotations

from orchestrator.api.call import Call
from orchestrator.api.convert.audit import number_before, token_below
from orchestrator.api.convert.branch_performance import (
    choice_message,
    performance_message,
    place_before,
    policy_of,
    token_before,
    value_message,
    version_message,
)
from orchestrator.api.convert.impact import impact_message, plan_message
from orchestrator.api.page_tokens import page_limit
from orchestrator.application import branch_performance, impact, policy_history, policy_values
from orchestrator.v1 import impact_service_pb2 as rpc


class ImpactHandlers:
    async def GetCalibratedImpact(
        self, request: rpc.GetCalibratedImpactRequest, call: Call
    ) -> rpc.GetCalibratedImpactResponse:
        revision = request.goal_revision if request.HasField("goal_revision") else None
        found = await impact.calibrated_impact(call.conn, call.scope, request.journey_id, revision)
        return rpc.GetCalibratedImpactResponse(impact=impact_message(found))

    async def GetBranchPerformance(
        self, request: rpc.GetBranchPerformanceRequest, call: Call
    ) -> rpc.GetBranchPerformanceResponse:
        revision = request.goal_revision if request.HasField("goal_revision") else None
        found = await branch_performance.branch_performance(call.conn, call.scope, request.journey_id, revision)
        return rpc.GetBranchPerformanceResponse(branches=[performance_message(branch) for branch in found])

    async def EstimatePolicyValue(
        self, request: rpc.EstimatePolicyValueRequest, call: Call
    ) -> rpc.EstimatePolicyValueResponse:
        policy = policy_of(request.policy)
        found = await policy_values.value_of_policy(call.conn, call.scope, request.journey_id, request.step_id, policy)
        return rpc.EstimatePolicyValueResponse(value=value_message(found))

    async def ListPolicyVersions(
        self, request: rpc.ListPolicyVersionsRequest, call: Call
    ) -> rpc.ListPolicyVersionsResponse:
        found, end = await policy_history.versions(
            call.conn, call.scope, request.journey_id, request.step_id, number_before(request), page_limit(request)
        )
        return rpc.ListPolicyVersionsResponse(
            policy_versions=[version_message(version) for version in found], next_page_token=token_below(request, end)
        )

    async def GetPolicyVersion(self, request: rpc.GetPolicyVersionRequest, call: Call) -> rpc.GetPolicyVersionResponse:
        found = await policy_history.version(
            call.conn, call.scope, request.journey_id, request.step_id, request.policy_version
        )
        return rpc.GetPolicyVersionResponse(policy_version=version_message(found))

    async def ListArmChoices(self, request: rpc.ListArmChoicesRequest, call: Call) -> rpc.ListArmChoicesResponse:
        found, end = await policy_history.choices(
            call.conn,
            call.scope,
            request.journey_id,
            request.step_id,
            request.subject_id or None,
            place_before(request),
            page_limit(request),
        )
        return rpc.ListArmChoicesResponse(
            arm_choices=[choice_message(choice) for choice in found], next_page_token=token_before(request, end)
        )

    async def PlanImpact(self, request: rpc.PlanImpactRequest, call: Call) -> rpc.PlanImpactResponse:
        plan = await impact.plan(
            call.conn,
            call.scope,
            base_rate=request.base_rate,
            lift=request.lift,
            holdout_percent=request.holdout_percent,
            weekly_volume=request.weekly_volume,
            window=request.window.ToTimedelta() if request.HasField("window") else None,
            power=request.power if request.HasField("power") else None,
        )
        return rpc.PlanImpactResponse(plan=plan_message(plan))
