"""Lists that come in pages, read to their end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, overload

from google.protobuf.message import Message

from orchestrator.client import messages as m

if TYPE_CHECKING:
    from grpc.aio import UnaryUnaryMultiCallable as Method


class _Page(Protocol):
    @property
    def next_page_token(self) -> str: ...


_Request = TypeVar("_Request", bound=Message)
_AnyPage = TypeVar("_AnyPage", bound=_Page)


async def pages(method: Method[_Request, _AnyPage], request: _Request) -> AsyncIterator[_AnyPage]:
    """Every page from the one that is asked for to the last. Raises OrchestratorError."""
    asked: Any = type(request)()
    asked.CopyFrom(request)
    while True:
        page = await method(asked)
        yield page
        if not page.next_page_token:
            return
        asked.page_token = page.next_page_token


@overload
def each(
    method: Method[m.ListApiKeysRequest, m.ListApiKeysResponse], request: m.ListApiKeysRequest
) -> AsyncIterator[m.ApiKey]: ...
@overload
def each(
    method: Method[m.ListAudiencesRequest, m.ListAudiencesResponse], request: m.ListAudiencesRequest
) -> AsyncIterator[m.Audience]: ...
@overload
def each(
    method: Method[m.ListAuditEntriesRequest, m.ListAuditEntriesResponse], request: m.ListAuditEntriesRequest
) -> AsyncIterator[m.AuditEntry]: ...
@overload
def each(
    method: Method[m.ListCommunicationsRequest, m.ListCommunicationsResponse], request: m.ListCommunicationsRequest
) -> AsyncIterator[m.Communication]: ...
@overload
def each(
    method: Method[m.ListCommunicationRevisionsRequest, m.ListCommunicationRevisionsResponse],
    request: m.ListCommunicationRevisionsRequest,
) -> AsyncIterator[m.CommunicationRevision]: ...
@overload
def each(
    method: Method[m.ListEnrollmentJobsRequest, m.ListEnrollmentJobsResponse], request: m.ListEnrollmentJobsRequest
) -> AsyncIterator[m.EnrollmentJob]: ...
@overload
def each(
    method: Method[m.ListErasuresRequest, m.ListErasuresResponse], request: m.ListErasuresRequest
) -> AsyncIterator[m.Erasure]: ...
@overload
def each(
    method: Method[m.ListExecutionsRequest, m.ListExecutionsResponse], request: m.ListExecutionsRequest
) -> AsyncIterator[m.Execution]: ...
@overload
def each(
    method: Method[m.ListPolicyVersionsRequest, m.ListPolicyVersionsResponse], request: m.ListPolicyVersionsRequest
) -> AsyncIterator[m.PolicyVersion]: ...
@overload
def each(
    method: Method[m.ListArmChoicesRequest, m.ListArmChoicesResponse], request: m.ListArmChoicesRequest
) -> AsyncIterator[m.ArmChoice]: ...
@overload
def each(
    method: Method[m.ListJourneysRequest, m.ListJourneysResponse], request: m.ListJourneysRequest
) -> AsyncIterator[m.Journey]: ...
@overload
def each(
    method: Method[m.ListJourneyVersionsRequest, m.ListJourneyVersionsResponse], request: m.ListJourneyVersionsRequest
) -> AsyncIterator[m.JourneyVersion]: ...
@overload
def each(
    method: Method[m.ListCarriesRequest, m.ListCarriesResponse], request: m.ListCarriesRequest
) -> AsyncIterator[m.Carry]: ...
@overload
def each(
    method: Method[m.ListJourneyAuditEntriesRequest, m.ListJourneyAuditEntriesResponse],
    request: m.ListJourneyAuditEntriesRequest,
) -> AsyncIterator[m.AuditEntry]: ...
@overload
def each(
    method: Method[m.ListProjectsRequest, m.ListProjectsResponse], request: m.ListProjectsRequest
) -> AsyncIterator[m.Project]: ...
@overload
def each(
    method: Method[m.ListSegmentsRequest, m.ListSegmentsResponse], request: m.ListSegmentsRequest
) -> AsyncIterator[m.Segment]: ...
@overload
def each(
    method: Method[m.ListSegmentMembersRequest, m.ListSegmentMembersResponse], request: m.ListSegmentMembersRequest
) -> AsyncIterator[m.SegmentMember]: ...
@overload
def each(
    method: Method[m.ListStuckExecutionsRequest, m.ListStuckExecutionsResponse], request: m.ListStuckExecutionsRequest
) -> AsyncIterator[m.StuckExecution]: ...
@overload
def each(
    method: Method[m.ListSubjectsRequest, m.ListSubjectsResponse], request: m.ListSubjectsRequest
) -> AsyncIterator[m.Subject]: ...
@overload
def each(
    method: Method[m.ExportSubjectRequest, m.ExportSubjectResponse], request: m.ExportSubjectRequest
) -> AsyncIterator[m.SubjectRecord]: ...
@overload
def each(
    method: Method[m.ListSendsPausesRequest, m.ListSendsPausesResponse], request: m.ListSendsPausesRequest
) -> AsyncIterator[m.SendsPause]: ...


@overload
def each(
    method: Method[m.ListSuppressionsRequest, m.ListSuppressionsResponse], request: m.ListSuppressionsRequest
) -> AsyncIterator[m.Suppression]: ...
@overload
def each(
    method: Method[m.ListTimelineRequest, m.ListTimelineResponse], request: m.ListTimelineRequest
) -> AsyncIterator[m.TimelineItem]: ...
@overload
def each(
    method: Method[m.ListTriggerContractsRequest, m.ListTriggerContractsResponse],
    request: m.ListTriggerContractsRequest,
) -> AsyncIterator[m.TriggerContract]: ...
async def each(method: Any, request: Any) -> AsyncIterator[Any]:
    """Every element of a list, page by page as they are wanted. Raises OrchestratorError.

    async for journey in each(client.journeys.ListJourneys, messages.ListJourneysRequest()):
        ...
    """
    async for page in pages(method, request):
        for element in getattr(page, _elements_of(page)):
            yield element


def _elements_of(page: Message) -> str:
    """The name of the one list that a page of the contract has."""
    (name,) = (field.name for field in page.DESCRIPTOR.fields if field.is_repeated)
    return name
