"""SegmentService."""

from __future__ import annotations

from orchestrator.api.call import Call, tells_all
from orchestrator.api.convert.places import place_of, token_after
from orchestrator.api.convert.segments import member_message, segment_content, segment_message
from orchestrator.api.expected import expected
from orchestrator.api.page_tokens import page_limit, page_start, page_token
from orchestrator.application import segments
from orchestrator.application.inbox_bell import InboxBell
from orchestrator.application.segment_rules import RuleBook
from orchestrator.domain.resource import Resource
from orchestrator.domain.segment import Segment
from orchestrator.v1 import segment_pb2 as pb
from orchestrator.v1 import segment_service_pb2 as rpc


class SegmentHandlers:
    """`bell` wakes those who act on members that came or went; `rule_book` says which rules cannot be asked."""

    def __init__(self, bell: InboxBell, rule_book: RuleBook) -> None:
        self._bell = bell
        self._rule_book = rule_book

    async def ListSegments(self, request: rpc.ListSegmentsRequest, call: Call) -> rpc.ListSegmentsResponse:
        page = await segments.page(call.conn, call.scope, place_of(request), page_limit(request))
        states = await self._states(call, [one.id for one in page.resources])
        return rpc.ListSegmentsResponse(
            segments=[segment_message(resource, states[resource.id]) for resource in page.resources],
            next_page_token=token_after(request, page.end),
        )

    @tells_all
    async def CreateSegment(self, request: rpc.CreateSegmentRequest, call: Call) -> rpc.CreateSegmentResponse:
        resource = await segments.create(call.conn, call.scope, request.segment.id, segment_content(request.segment))
        return rpc.CreateSegmentResponse(segment=await _changed(call, resource))

    async def GetSegment(self, request: rpc.GetSegmentRequest, call: Call) -> rpc.GetSegmentResponse:
        resource = await segments.get(call.conn, call.scope, request.segment_id)
        states = await self._states(call, [resource.id])
        return rpc.GetSegmentResponse(segment=segment_message(resource, states[resource.id]))

    @tells_all
    async def UpdateSegment(self, request: rpc.UpdateSegmentRequest, call: Call) -> rpc.UpdateSegmentResponse:
        content = segment_content(request.segment)
        fields = ("predicate" if path == "rules" else path for path in request.update_mask.paths)
        changes = {field: getattr(content, field) for field in fields}
        resource = await segments.update(call.conn, call.scope, request.segment.id, changes, expected(request.segment))
        return rpc.UpdateSegmentResponse(segment=await _changed(call, resource))

    async def DeleteSegment(self, request: rpc.DeleteSegmentRequest, call: Call) -> rpc.DeleteSegmentResponse:
        await segments.delete(call.conn, call.scope, request.segment_id, expected(request), force=request.force)
        return rpc.DeleteSegmentResponse()

    async def EvaluateSegment(self, request: rpc.EvaluateSegmentRequest, call: Call) -> rpc.EvaluateSegmentResponse:
        run_no = await segments.evaluate(call.conn, call.scope, request.segment_id)
        return rpc.EvaluateSegmentResponse(run_id=str(run_no))

    async def ListSegmentMembers(
        self, request: rpc.ListSegmentMembersRequest, call: Call
    ) -> rpc.ListSegmentMembersResponse:
        start = page_start(request, int, int)
        page = await segments.members(
            call.conn, call.scope, request.segment_id, after=start or segments.FIRST, limit=page_limit(request)
        )
        return rpc.ListSegmentMembersResponse(
            members=[member_message(member) for member in page.members],
            next_page_token=page_token(request, *page.end) if page.end is not None else "",
        )

    async def AddSegmentMembers(
        self, request: rpc.AddSegmentMembersRequest, call: Call
    ) -> rpc.AddSegmentMembersResponse:
        done = await segments.add_members(call.conn, call.scope, request.segment_id, request.subject_ids)
        if done.changed:
            call.after_commit(self._bell.ring)
        return rpc.AddSegmentMembersResponse(added_count=done.changed, unchanged_count=done.unchanged)

    async def RemoveSegmentMembers(
        self, request: rpc.RemoveSegmentMembersRequest, call: Call
    ) -> rpc.RemoveSegmentMembersResponse:
        done = await segments.remove_members(call.conn, call.scope, request.segment_id, request.subject_ids)
        if done.changed:
            call.after_commit(self._bell.ring)
        return rpc.RemoveSegmentMembersResponse(removed_count=done.changed, unchanged_count=done.unchanged)

    async def _states(self, call: Call, segment_ids: list[str]) -> dict[str, segments.State]:
        return await segments.states(call.conn, call.scope.project_no, self._rule_book, segment_ids)


async def _changed(call: Call, resource: Resource[Segment]) -> pb.Segment:
    # Rules of a transaction that may yet be rolled back are not kept.
    states = await segments.states(call.conn, call.scope.project_no, RuleBook(), [resource.id])
    return segment_message(resource, states[resource.id])
