"""AudienceService."""

from __future__ import annotations

from orchestrator.api.call import Call, tells_all
from orchestrator.api.convert.audiences import audience_content, audience_message
from orchestrator.api.convert.places import place_of, token_after
from orchestrator.api.convert.times import to_timestamp
from orchestrator.api.expected import expected
from orchestrator.api.json_decode import decode_stored
from orchestrator.api.page_tokens import page_limit
from orchestrator.application import audiences, estimates
from orchestrator.application.audience_book import AudienceBook
from orchestrator.application.segment_rules import RuleBook
from orchestrator.v1 import audience_service_pb2 as rpc
from orchestrator.v1.explanation_pb2 import Explanation


class AudienceHandlers:
    """`rule_book` has the rules of the segments that audiences name."""

    def __init__(self, rule_book: RuleBook) -> None:
        self._rule_book = rule_book
        self._book = AudienceBook(rule_book)

    async def ListAudiences(self, request: rpc.ListAudiencesRequest, call: Call) -> rpc.ListAudiencesResponse:
        page = await audiences.page(call.conn, call.scope, place_of(request), page_limit(request))
        return rpc.ListAudiencesResponse(
            audiences=[audience_message(resource, call.scope) for resource in page.resources],
            next_page_token=token_after(request, page.end),
        )

    @tells_all
    async def CreateAudience(self, request: rpc.CreateAudienceRequest, call: Call) -> rpc.CreateAudienceResponse:
        resource = await audiences.create(
            call.conn, call.scope, request.audience.id, audience_content(request.audience)
        )
        return rpc.CreateAudienceResponse(audience=audience_message(resource, call.scope))

    async def GetAudience(self, request: rpc.GetAudienceRequest, call: Call) -> rpc.GetAudienceResponse:
        resource = await audiences.get(call.conn, call.scope, request.audience_id)
        return rpc.GetAudienceResponse(audience=audience_message(resource, call.scope))

    @tells_all
    async def UpdateAudience(self, request: rpc.UpdateAudienceRequest, call: Call) -> rpc.UpdateAudienceResponse:
        content = audience_content(request.audience)
        changes = {path: getattr(content, path) for path in request.update_mask.paths}
        resource = await audiences.update(
            call.conn, call.scope, request.audience.id, changes, expected(request.audience)
        )
        return rpc.UpdateAudienceResponse(audience=audience_message(resource, call.scope))

    async def DeleteAudience(self, request: rpc.DeleteAudienceRequest, call: Call) -> rpc.DeleteAudienceResponse:
        await audiences.delete(call.conn, call.scope, request.audience_id, expected(request))
        return rpc.DeleteAudienceResponse()

    async def CheckAudience(self, request: rpc.CheckAudienceRequest, call: Call) -> rpc.CheckAudienceResponse:
        verdict = await audiences.check(call.conn, call.scope, self._book, request.audience_id, request.subject_id)
        return rpc.CheckAudienceResponse(
            matches=verdict.matches,
            explanation=decode_stored(Explanation, verdict.explanation),
            check_time=to_timestamp(verdict.at),
        )

    async def EstimateAudience(self, request: rpc.EstimateAudienceRequest, call: Call) -> rpc.EstimateAudienceResponse:
        found = await estimates.of_audience(call.conn, call.scope, self._rule_book, request.audience_id)
        return rpc.EstimateAudienceResponse(
            size=found.estimate.size,
            exact=found.estimate.exact,
            lower_bound=found.estimate.low,
            upper_bound=found.estimate.high,
            evaluated_count=found.evaluated,
            sample_subject_ids=found.sample,
            estimate_time=to_timestamp(found.at),
        )
