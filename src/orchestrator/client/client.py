from __future__ import annotations

import asyncio
from types import TracebackType
from typing import TYPE_CHECKING

from grpc import StatusCode

from orchestrator.client.channel import Tls, open_channel
from orchestrator.client.errors import OrchestratorError
from orchestrator.v1 import (
    api_key_service_pb2_grpc,
    audience_service_pb2_grpc,
    audit_service_pb2_grpc,
    bundle_service_pb2_grpc,
    communication_service_pb2_grpc,
    delivery_service_pb2_grpc,
    enrollment_job_service_pb2_grpc,
    erasure_service_pb2_grpc,
    event_service_pb2_grpc,
    execution_service_pb2_grpc,
    impact_service_pb2_grpc,
    internal_service_pb2_grpc,
    journey_service_pb2_grpc,
    pinpoint_service_pb2_grpc,
    project_service_pb2_grpc,
    refused_entry_service_pb2_grpc,
    segment_service_pb2_grpc,
    sends_pause_service_pb2_grpc,
    subject_service_pb2_grpc,
    trigger_contract_service_pb2_grpc,
)

if TYPE_CHECKING:
    from grpc.aio import Channel


class OrchestratorClient:
    """Everything the server does, over one channel.

        async with OrchestratorClient("orchestrator.internal:50051", api_key) as client:
            await client.journeys.PauseJourney(messages.PauseJourneyRequest(journey_id="welcome"))

    A call has `timeout` seconds unless it brings a `timeout` of its own. While the server is away it is tried again
    until they are over; then it raises OrchestratorError. One that the server has told to come back (`RATE_LIMITED`) is
    tried again as well, as long as that happens to few. 32 calls are under way at once; more wait for them. A request
    that changes something gets a `request_id` if it has none: it takes effect once, however often it is sent. Who must
    know that it took effect gives it one, or takes the one of the error, and sends it again. `target` is host:port;
    with `dns:///host:port` the calls are spread over all addresses behind the name. To be entered in a running event
    loop; one client may be shared by all of its tasks.
    """

    api_keys: api_key_service_pb2_grpc.ApiKeyServiceAsyncStub
    audiences: audience_service_pb2_grpc.AudienceServiceAsyncStub
    audit: audit_service_pb2_grpc.AuditServiceAsyncStub
    bundles: bundle_service_pb2_grpc.BundleServiceAsyncStub
    communications: communication_service_pb2_grpc.CommunicationServiceAsyncStub
    deliveries: delivery_service_pb2_grpc.DeliveryServiceAsyncStub
    enrollment_jobs: enrollment_job_service_pb2_grpc.EnrollmentJobServiceAsyncStub
    erasures: erasure_service_pb2_grpc.ErasureServiceAsyncStub
    events: event_service_pb2_grpc.EventServiceAsyncStub
    executions: execution_service_pb2_grpc.ExecutionServiceAsyncStub
    impacts: impact_service_pb2_grpc.ImpactServiceAsyncStub
    internal: internal_service_pb2_grpc.InternalServiceAsyncStub
    journeys: journey_service_pb2_grpc.JourneyServiceAsyncStub
    pinpoint: pinpoint_service_pb2_grpc.PinpointServiceAsyncStub
    projects: project_service_pb2_grpc.ProjectServiceAsyncStub
    refused_entries: refused_entry_service_pb2_grpc.RefusedEntryServiceAsyncStub
    segments: segment_service_pb2_grpc.SegmentServiceAsyncStub
    subjects: subject_service_pb2_grpc.SubjectServiceAsyncStub
    sends_pauses: sends_pause_service_pb2_grpc.SendsPauseServiceAsyncStub
    trigger_contracts: trigger_contract_service_pb2_grpc.TriggerContractServiceAsyncStub

    def __init__(self, target: str, api_key: str, *, tls: Tls | None = None, timeout: float = 10.0) -> None:
        self._target = target
        self._api_key = api_key
        self._tls = tls
        self._timeout = timeout
        self._channel: Channel | None = None

    async def __aenter__(self) -> OrchestratorClient:
        """Raises OSError when the files of `tls` cannot be read. The server is first looked for by the first call."""
        channel = open_channel(self._target, self._api_key, tls=self._tls, timeout=self._timeout)
        self._channel = channel
        self.api_keys = api_key_service_pb2_grpc.ApiKeyServiceStub(channel)
        self.audiences = audience_service_pb2_grpc.AudienceServiceStub(channel)
        self.audit = audit_service_pb2_grpc.AuditServiceStub(channel)
        self.bundles = bundle_service_pb2_grpc.BundleServiceStub(channel)
        self.communications = communication_service_pb2_grpc.CommunicationServiceStub(channel)
        self.deliveries = delivery_service_pb2_grpc.DeliveryServiceStub(channel)
        self.enrollment_jobs = enrollment_job_service_pb2_grpc.EnrollmentJobServiceStub(channel)
        self.erasures = erasure_service_pb2_grpc.ErasureServiceStub(channel)
        self.events = event_service_pb2_grpc.EventServiceStub(channel)
        self.executions = execution_service_pb2_grpc.ExecutionServiceStub(channel)
        self.impacts = impact_service_pb2_grpc.ImpactServiceStub(channel)
        self.internal = internal_service_pb2_grpc.InternalServiceStub(channel)
        self.journeys = journey_service_pb2_grpc.JourneyServiceStub(channel)
        self.pinpoint = pinpoint_service_pb2_grpc.PinpointServiceStub(channel)
        self.projects = project_service_pb2_grpc.ProjectServiceStub(channel)
        self.refused_entries = refused_entry_service_pb2_grpc.RefusedEntryServiceStub(channel)
        self.segments = segment_service_pb2_grpc.SegmentServiceStub(channel)
        self.subjects = subject_service_pb2_grpc.SubjectServiceStub(channel)
        self.sends_pauses = sends_pause_service_pb2_grpc.SendsPauseServiceStub(channel)
        self.trigger_contracts = trigger_contract_service_pb2_grpc.TriggerContractServiceStub(channel)
        return self

    async def reach(self, *, within: float) -> None:
        """Connect, for who wants to know soon that nobody is there. Raises OrchestratorError (UNAVAILABLE)."""
        assert self._channel is not None, "the client was not entered"
        try:
            await asyncio.wait_for(self._channel.channel_ready(), within)
        except TimeoutError:
            raise OrchestratorError(
                code=StatusCode.UNAVAILABLE,
                reason=StatusCode.UNAVAILABLE.name,
                message=f"no connection to {self._target} within {within:g} s",
            ) from None

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._channel is not None:
            await self._channel.close()
            self._channel = None
