"""JourneyService."""

from __future__ import annotations

from functools import partial

from orchestrator.api.call import Call, own_transactions, tells_all
from orchestrator.api.convert.audit import PAGE_SIZE, entry_message, number_before, token_below
from orchestrator.api.convert.backtests import backtest_message
from orchestrator.api.convert.carries import carry_message, confirmed, mode_of, pairs_of, preview_message
from orchestrator.api.convert.entry_explanations import explanation_message
from orchestrator.api.convert.journeys import (
    again_of,
    changes_of,
    funnel_message,
    goal_window_of,
    journey_message,
    new_definition,
    on_archive_of,
    seen_message,
    status_of,
    statuses_of,
    step_messages,
    version_message,
)
from orchestrator.api.convert.places import place_of, token_after
from orchestrator.api.convert.simulations import question_of, response_message
from orchestrator.api.convert.violations import violations
from orchestrator.api.expected import expected
from orchestrator.api.page_tokens import page_limit
from orchestrator.application import (
    audit,
    carry_previews,
    carrying,
    enrollment,
    entry_explanations,
    journeys,
    lifecycle,
    policy_updates,
    publishing,
    stats,
    statuses,
)
from orchestrator.application.backtests import Backtests
from orchestrator.application.carrying import Progress
from orchestrator.application.inbox_rounds import Tell
from orchestrator.application.simulations import Simulations
from orchestrator.application.versions import Versions
from orchestrator.v1 import journey_service_pb2 as rpc


class JourneyHandlers:
    def __init__(self, versions: Versions, tell: Tell) -> None:
        """`tell` tells Temporal, after the commit, of executions that were started."""
        self._versions = versions
        self._simulations = Simulations(versions)
        self._backtests = Backtests(versions)
        self._tell = tell

    async def ListJourneys(self, request: rpc.ListJourneysRequest, call: Call) -> rpc.ListJourneysResponse:
        page, end = await journeys.page(
            call.conn,
            call.scope,
            statuses_of(request.status),
            place_of(request),
            page_limit(request),
            offset=request.offset,
        )
        return rpc.ListJourneysResponse(
            journeys=[journey_message(journey) for journey in page], next_page_token=token_after(request, end)
        )

    @tells_all
    async def CreateJourney(self, request: rpc.CreateJourneyRequest, call: Call) -> rpc.CreateJourneyResponse:
        sent = request.journey
        journey = await journeys.create(
            call.conn,
            call.scope,
            journey_id=sent.id,
            name=sent.name,
            description=sent.description,
            goal_event=sent.goal.event_name,
            goal_window=goal_window_of(sent.goal),
            definition=new_definition(sent.definition),
        )
        return rpc.CreateJourneyResponse(journey=journey_message(journey))

    async def GetJourney(self, request: rpc.GetJourneyRequest, call: Call) -> rpc.GetJourneyResponse:
        seen = await journeys.view(call.conn, call.scope, request.journey_id)
        return rpc.GetJourneyResponse(journey=seen_message(seen, request.form))

    @tells_all
    async def UpdateJourney(self, request: rpc.UpdateJourneyRequest, call: Call) -> rpc.UpdateJourneyResponse:
        sent = request.journey
        changes = changes_of(sent, request.update_mask.paths)
        status = status_of(request.to_status)
        if status is None:
            journey = await journeys.update(call.conn, call.scope, sent.id, changes, expected(sent))
        else:
            journey = await statuses.bring(call.conn, call.scope, sent.id, changes, status, expected(sent))
        return rpc.UpdateJourneyResponse(journey=journey_message(journey))

    async def DeleteJourney(self, request: rpc.DeleteJourneyRequest, call: Call) -> rpc.DeleteJourneyResponse:
        await lifecycle.delete(call.conn, call.scope, request.journey_id, expected(request), force=request.force)
        return rpc.DeleteJourneyResponse()

    async def ListJourneyVersions(
        self, request: rpc.ListJourneyVersionsRequest, call: Call
    ) -> rpc.ListJourneyVersionsResponse:
        versions, end = await journeys.versions(
            call.conn, call.scope, request.journey_id, number_before(request), page_limit(request)
        )
        return rpc.ListJourneyVersionsResponse(
            versions=[version_message(version) for version in versions], next_page_token=token_below(request, end)
        )

    async def GetJourneyVersion(
        self, request: rpc.GetJourneyVersionRequest, call: Call
    ) -> rpc.GetJourneyVersionResponse:
        version = await journeys.version(call.conn, call.scope, request.journey_id, request.version)
        return rpc.GetJourneyVersionResponse(version=version_message(version, request.form))

    async def ValidateJourney(self, request: rpc.ValidateJourneyRequest, call: Call) -> rpc.ValidateJourneyResponse:
        findings = await publishing.validate(call.conn, call.scope, request.journey_id)
        return rpc.ValidateJourneyResponse(faults=violations(findings.faults), warnings=violations(findings.warnings))

    async def PublishJourney(self, request: rpc.PublishJourneyRequest, call: Call) -> rpc.PublishJourneyResponse:
        publication = await publishing.publish(
            call.conn,
            call.scope,
            request.journey_id,
            expected(request),
            again=again_of(request),
            carry=confirmed(request),
        )
        carry = publication.carry
        return rpc.PublishJourneyResponse(
            id=request.journey_id,
            version=publication.version,
            warnings=violations(publication.warnings),
            carry=carry_message(Progress(carry=carry, pending=0)) if carry is not None else None,
        )

    async def PreviewCarry(self, request: rpc.PreviewCarryRequest, call: Call) -> rpc.PreviewCarryResponse:
        found = await carry_previews.preview(
            call.conn,
            call.scope,
            self._versions,
            request.journey_id,
            mode_of(request),
            pairs_of(request.step_mapping),
            again_of(request),
        )
        return preview_message(found)

    async def ListCarries(self, request: rpc.ListCarriesRequest, call: Call) -> rpc.ListCarriesResponse:
        found, end = await carrying.page(
            call.conn, call.scope, request.journey_id, number_before(request), page_limit(request)
        )
        return rpc.ListCarriesResponse(
            carries=[carry_message(progress) for progress in found], next_page_token=token_below(request, end)
        )

    async def GetCarry(self, request: rpc.GetCarryRequest, call: Call) -> rpc.GetCarryResponse:
        found = await carrying.get(call.conn, call.scope, request.journey_id, request.version)
        return rpc.GetCarryResponse(carry=carry_message(found))

    async def PauseJourney(self, request: rpc.PauseJourneyRequest, call: Call) -> rpc.PauseJourneyResponse:
        journey = await lifecycle.pause(call.conn, call.scope, request.journey_id, expected(request))
        return rpc.PauseJourneyResponse(journey=journey_message(journey))

    async def ResumeJourney(self, request: rpc.ResumeJourneyRequest, call: Call) -> rpc.ResumeJourneyResponse:
        journey = await lifecycle.resume(call.conn, call.scope, request.journey_id, expected(request))
        return rpc.ResumeJourneyResponse(journey=journey_message(journey))

    async def ArchiveJourney(self, request: rpc.ArchiveJourneyRequest, call: Call) -> rpc.ArchiveJourneyResponse:
        archived = await lifecycle.archive(
            call.conn, call.scope, request.journey_id, on_archive_of(request.on_archive), expected(request)
        )
        return rpc.ArchiveJourneyResponse(
            journey=journey_message(archived.journey), running_executions=archived.running
        )

    async def EnrollSubjects(self, request: rpc.EnrollSubjectsRequest, call: Call) -> rpc.EnrollSubjectsResponse:
        enrolled = await enrollment.enroll(
            call.conn, call.scope, self._versions, request.journey_id, list(request.subject_ids)
        )
        call.after_commit(partial(self._tell, enrolled.told))
        return rpc.EnrollSubjectsResponse(
            journey_id=enrolled.journey_id,
            journey_name=enrolled.journey_name,
            enrolled=enrolled.enrolled,
            skipped=enrolled.skipped,
            errors=len(enrolled.failed),
            failed_subject_ids=enrolled.failed,
            total=enrolled.total,
            refused=enrolled.refused,
        )

    async def ExplainEntry(self, request: rpc.ExplainEntryRequest, call: Call) -> rpc.ExplainEntryResponse:
        told = await entry_explanations.explain_entry(
            call.conn, call.scope, self._versions, request.journey_id, request.subject_id
        )
        return rpc.ExplainEntryResponse(explanation=explanation_message(told))

    @own_transactions
    async def SimulateJourney(self, request: rpc.SimulateJourneyRequest, call: Call) -> rpc.SimulateJourneyResponse:
        simulated = await self._simulations.simulate(call.transactions, call.scope, question_of(request))
        return response_message(simulated)

    @own_transactions
    async def BacktestJourney(self, request: rpc.BacktestJourneyRequest, call: Call) -> rpc.BacktestJourneyResponse:
        told = await self._backtests.run(call.transactions, call.scope, request.journey_id, request.days)
        return rpc.BacktestJourneyResponse(backtest=backtest_message(told))

    async def StartPolicyUpdate(
        self, request: rpc.StartPolicyUpdateRequest, call: Call
    ) -> rpc.StartPolicyUpdateResponse:
        step_ids = await policy_updates.request(call.conn, call.scope, request.journey_id)
        return rpc.StartPolicyUpdateResponse(step_ids=step_ids)

    async def GetStepStats(self, request: rpc.GetStepStatsRequest, call: Call) -> rpc.GetStepStatsResponse:
        version = request.version if request.HasField("version") else None
        steps = await stats.step_stats(call.conn, call.scope, request.journey_id, version)
        return rpc.GetStepStatsResponse(steps=step_messages(steps))

    @own_transactions
    async def GetJourneyFunnel(self, request: rpc.GetJourneyFunnelRequest, call: Call) -> rpc.GetJourneyFunnelResponse:
        funnel = await stats.funnel(call.transactions, call.scope, request.journey_id)
        return rpc.GetJourneyFunnelResponse(funnel=funnel_message(funnel))

    async def ListJourneyAuditEntries(
        self, request: rpc.ListJourneyAuditEntriesRequest, call: Call
    ) -> rpc.ListJourneyAuditEntriesResponse:
        entries, end = await audit.journey_page(
            call.conn,
            call.scope,
            request.journey_id,
            number_before(request),
            page_limit(request, default=PAGE_SIZE),
        )
        return rpc.ListJourneyAuditEntriesResponse(
            audit_entries=[entry_message(entry) for entry in entries], next_page_token=token_below(request, end)
        )
