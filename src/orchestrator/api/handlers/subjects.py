"""Subjects, what they want, and what may not be sent to them."""

from __future__ import annotations

from orchestrator.api.call import Call, own_transactions
from orchestrator.api.convert.subject_exports import begun_of, export_message
from orchestrator.api.convert.subjects import (
    preference_change,
    preferences_message,
    subject_message,
    subject_patch,
    suppression_message,
)
from orchestrator.api.convert.timelines import item_message, place_before, token_before
from orchestrator.api.expected import expected
from orchestrator.api.page_tokens import page_limit, page_start, page_token
from orchestrator.application import merging, preferences, subject_exports, subjects, timelines
from orchestrator.application.inbox_bell import InboxBell
from orchestrator.application.segment_rules import RuleBook
from orchestrator.application.time_slices import TimeSlice
from orchestrator.domain.gates import ANY
from orchestrator.domain.preferences import channel_fault, reason_fault
from orchestrator.domain.refusals import InvalidArgument
from orchestrator.domain.subject import SubjectPatch
from orchestrator.predicates.faults import Fault
from orchestrator.v1 import subject_service_pb2 as pb


class SubjectHandlers:
    """`secret` is the instance's: the audit log calls subjects by their refs. `rule_book` has the rules that say which
    segments a subject takes along.
    """

    def __init__(self, secret: bytes, bell: InboxBell, rule_book: RuleBook) -> None:
        self._secret = secret
        self._bell = bell
        self._rule_book = rule_book

    async def ListSubjects(self, request: pb.ListSubjectsRequest, call: Call) -> pb.ListSubjectsResponse:
        limit = page_limit(request)
        start = page_start(request, int)
        page = await subjects.page(call.conn, call.scope.project_no, before=start[0] if start else None, limit=limit)
        token = page_token(request, page.last) if page.last is not None else ""
        return pb.ListSubjectsResponse(subjects=map(subject_message, page.subjects), next_page_token=token)

    async def UpsertSubject(self, request: pb.UpsertSubjectRequest, call: Call) -> pb.UpsertSubjectResponse:
        done = await subjects.upsert(call.conn, call.scope.project_no, [subject_patch(request.subject, "")])
        self._tell(call, done.changed)
        return pb.UpsertSubjectResponse(subject=subject_message(done.subjects[0]))

    async def BatchUpsertSubjects(
        self, request: pb.BatchUpsertSubjectsRequest, call: Call
    ) -> pb.BatchUpsertSubjectsResponse:
        patches: list[SubjectPatch] = []
        time = TimeSlice()
        for place, subject in enumerate(request.subjects):
            patches.append(subject_patch(subject, f"subjects[{place}]"))
            if time.over:
                await time.next()
        done = await subjects.upsert(call.conn, call.scope.project_no, patches)
        self._tell(call, done.changed)
        return pb.BatchUpsertSubjectsResponse(
            created_count=done.created, updated_count=len(done.subjects) - done.created
        )

    async def GetSubject(self, request: pb.GetSubjectRequest, call: Call) -> pb.GetSubjectResponse:
        subject = await subjects.get(call.conn, call.scope.project_no, request.subject_id)
        return pb.GetSubjectResponse(subject=subject_message(subject))

    async def DeleteSubject(self, request: pb.DeleteSubjectRequest, call: Call) -> pb.DeleteSubjectResponse:
        await subjects.delete(call.conn, call.scope, self._secret, request.subject_id, expected(request))
        return pb.DeleteSubjectResponse()

    async def MergeSubjects(self, request: pb.MergeSubjectsRequest, call: Call) -> pb.MergeSubjectsResponse:
        kept = await merging.merge(
            call.conn, call.scope, self._secret, self._rule_book, request.subject_id, into=request.into_subject_id
        )
        self._tell(call, 1)
        return pb.MergeSubjectsResponse(subject=subject_message(kept))

    async def ListTimeline(self, request: pb.ListTimelineRequest, call: Call) -> pb.ListTimelineResponse:
        page, end = await timelines.page(
            call.conn, call.scope, request.subject_id, place_before(request), page_limit(request)
        )
        return pb.ListTimelineResponse(items=map(item_message, page), next_page_token=token_before(request, end))

    @own_transactions
    async def ExportSubject(self, request: pb.ExportSubjectRequest, call: Call) -> pb.ExportSubjectResponse:
        page = await subject_exports.page(
            call.transactions, call.scope, self._secret, request.subject_id, begun_of(request), page_limit(request)
        )
        return export_message(request, page)

    async def GetPreferences(self, request: pb.GetPreferencesRequest, call: Call) -> pb.GetPreferencesResponse:
        opt_outs = await preferences.opt_outs(call.conn, call.scope.project_no, request.subject_id)
        return pb.GetPreferencesResponse(preferences=preferences_message(request.subject_id, opt_outs))

    async def UpdatePreferences(self, request: pb.UpdatePreferencesRequest, call: Call) -> pb.UpdatePreferencesResponse:
        changes = [preference_change(change) for change in request.changes]
        _refuse(*(channel_fault(change.channel, f"changes[{place}].channel") for place, change in enumerate(changes)))
        opt_outs = await preferences.update(call.conn, call.scope.project_no, request.subject_id, changes)
        self._tell(call, len(changes))
        return pb.UpdatePreferencesResponse(preferences=preferences_message(request.subject_id, opt_outs))

    async def ListSuppressions(self, request: pb.ListSuppressionsRequest, call: Call) -> pb.ListSuppressionsResponse:
        limit = page_limit(request)
        start = page_start(request, str)
        found = await preferences.suppressions(
            call.conn,
            call.scope.project_no,
            request.subject_id,
            after_channel=start[0] if start else "",
            limit=limit + 1,
        )
        shown = found[:limit]
        return pb.ListSuppressionsResponse(
            suppressions=(suppression_message(request.subject_id, suppression) for suppression in shown),
            next_page_token=page_token(request, shown[-1].channel) if len(found) > limit else "",
        )

    async def CreateSuppression(self, request: pb.CreateSuppressionRequest, call: Call) -> pb.CreateSuppressionResponse:
        wanted = request.suppression
        channel = wanted.channel or ANY
        _refuse(channel_fault(channel, "channel"), reason_fault(wanted.reason, "reason"))
        suppression = await preferences.suppress(
            call.conn, call.scope, self._secret, wanted.subject_id, channel=channel, reason=wanted.reason
        )
        self._tell(call, 1)
        return pb.CreateSuppressionResponse(suppression=suppression_message(wanted.subject_id, suppression))

    async def DeleteSuppression(self, request: pb.DeleteSuppressionRequest, call: Call) -> pb.DeleteSuppressionResponse:
        await preferences.unsuppress(call.conn, call.scope, self._secret, request.subject_id, channel=request.channel)
        self._tell(call, 1)
        return pb.DeleteSuppressionResponse()

    def _tell(self, call: Call, changed: int) -> None:
        if changed:
            call.after_commit(self._bell.ring)


def _refuse(*faults: Fault | None) -> None:
    found = [fault for fault in faults if fault is not None]
    if found:
        raise InvalidArgument(found)
