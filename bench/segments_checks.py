"""CheckAudience, against a bare grpc.aio handler that reads one row of the same subject."""

from __future__ import annotations

import time
from statistics import median
from typing import Any

import grpc

from bench.ground import furnish
from bench.plan import Plan
from bench.reads_bare import GET_SUBJECT
from bench.remote import remote
from bench.rows import Row, at_most, beside, percentile
from orchestrator.devstack.stack import Stack
from orchestrator.v1 import audience_service_pb2, subject_service_pb2

CHECK_MS, AGAINST_READ = 5, 2

_CHECK_AUDIENCE = "/orchestrator.v1.AudienceService/CheckAudience"
#: Calls before those that count.
_WARM_UP = 200


async def measure(plan: Plan, stack: Stack) -> list[Row]:
    """One caller, who asks in turns: who asks first about a subject also brings what is known of it into memory."""
    bought = {"kind": "event_fired", "eventName": "purchase", "window": {"type": "last_n_days", "days": 30}}
    pro = {"kind": "attribute", "fieldPath": "plan", "operator": "equals", "value": "pro"}
    rules: dict[str, Any] = {"kind": "and", "clauses": [{**bought, "atLeast": 2}, pro]}
    with_cohort = {"kind": "and", "clauses": [rules, {"kind": "in_cohort", "cohortId": "plain-1"}]}
    documents = [
        {"id": "bought", "name": "B", "predicate": rules},
        {"id": "both", "name": "C", "predicate": with_cohort},
    ]
    await furnish(stack, *(("/v1/audiences", document) for document in documents))
    metadata = (("authorization", f"Bearer {stack.keys.owner}"),)
    took: dict[str, list[float]] = {"bought": [], "both": [], "GetSubject": [], "bare": []}
    async with remote("bench.reads_bare", stack.addresses.database_url) as bare:
        async with (
            grpc.aio.insecure_channel(stack.addresses.grpc) as channel,
            grpc.aio.insecure_channel(f"127.0.0.1:{await bare.ask('port')}") as bare_channel,
        ):
            check = _method(channel, _CHECK_AUDIENCE)
            reads = {"GetSubject": _method(channel, GET_SUBJECT), "bare": _method(bare_channel, GET_SUBJECT)}

            async def one(name: str, subject_id: str) -> bytes:
                if name in reads:
                    call = reads[name]
                    request = subject_service_pb2.GetSubjectRequest(subject_id=subject_id).SerializeToString()
                else:
                    call = check
                    request = audience_service_pb2.CheckAudienceRequest(
                        audience_id=name, subject_id=subject_id
                    ).SerializeToString()
                began = time.perf_counter()
                answer: bytes = await call(request, metadata=metadata, timeout=10)
                took[name].append(1000 * (time.perf_counter() - began))
                return answer

            # As messages: the members of attributes stand in no order.
            answers = [await one(name, "s1") for name in reads]
            ours, theirs = map(subject_service_pb2.GetSubjectResponse.FromString, answers)
            if ours != theirs:
                raise AssertionError(f"the bare handler reads {theirs}, and not {ours}")
            for number in range(plan.checks + _WARM_UP):
                first = number % len(took)
                for name in [*took][first:] + [*took][:first]:
                    await one(name, f"s{1 + number * 7919 % plan.subjects}")
    late = {name: percentile(times[_WARM_UP:], 99) for name, times in took.items()}
    usual = {name: median(times[_WARM_UP:]) for name, times in took.items()}
    told = {name: f"p50 {usual[name]:.2f} ms" for name in took}
    return [
        at_most(CHECK_MS, "CheckAudience, p99", late["bought"], "ms", told["bought"]),
        at_most(CHECK_MS, "CheckAudience with a cohort, p99", late["both"], "ms", told["both"]),
        at_most(
            AGAINST_READ,
            "CheckAudience, p99, against a bare one-row read",
            late["bought"] / late["bare"],
            "×",
            against="a bare handler that reads one row",
            swing=1.9,
        ),
        beside(
            "CheckAudience, p50, against a bare one-row read",
            usual["bought"] / usual["bare"],
            "×",
            against="a bare handler that reads one row",
            better="less",
        ),
        beside("one-row read of a subject, bare handler, p99", late["bare"], "ms", told["bare"]),
        beside("GetSubject, p99", late["GetSubject"], "ms", told["GetSubject"]),
    ]


def _method(channel: grpc.aio.Channel, name: str) -> grpc.aio.UnaryUnaryMultiCallable[Any, Any]:
    return channel.unary_unary(name, request_serializer=None, response_deserializer=None)
