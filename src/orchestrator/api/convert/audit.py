"""The audit log as messages, and the places where its pages end."""

from __future__ import annotations

from google.protobuf.message import Message

from orchestrator.api.convert.times import to_timestamp
from orchestrator.api.json_values import struct_of
from orchestrator.api.page_tokens import page_start, page_token
from orchestrator.application.audit_verification import Verified
from orchestrator.domain.audit import Entry
from orchestrator.domain.audit_chain import GENESIS, Anchors, Misfit, Seal, hash_of
from orchestrator.domain.refusals import InvalidArgument
from orchestrator.predicates.faults import Fault
from orchestrator.v1 import audit_pb2 as pb
from orchestrator.v1 import audit_service_pb2 as rpc

#: Entries that a page shows unless told otherwise.
PAGE_SIZE = 200


def entry_message(entry: Entry) -> pb.AuditEntry:
    return pb.AuditEntry(
        id=entry.audit_no,
        timestamp=to_timestamp(entry.at),
        actor=entry.actor,
        action=entry.action,
        resource_kind=entry.resource_kind,
        resource_id=entry.resource_id,
        metadata=struct_of(entry.metadata),
    )


def number_before(request: Message) -> int | None:
    """Below which number a list that counts down goes on; None for its first page. Raises InvalidArgument."""
    start = page_start(request, int)
    return start[0] if start else None


def token_below(request: Message, end: int | None) -> str:
    """The token of the page after the one that ended with this number; empty after the last."""
    return page_token(request, end) if end is not None else ""


def anchors_of(request: rpc.VerifyAuditLogRequest) -> Anchors:
    """Raises InvalidArgument with every one that is none."""
    seals, faults = [], []
    for place, anchor in enumerate(request.anchors):
        try:
            seals.append(Seal(seq=anchor.seq, hash=hash_of(anchor.hash)))
        except ValueError as error:
            faults.append(Fault(path=f"anchors[{place}].hash", reason="INVALID_VALUE", message=str(error)))
        if anchor.seq < 1:
            faults.append(Fault(path=f"anchors[{place}].seq", reason="OUT_OF_RANGE", message="seals count from 1"))
    if faults:
        raise InvalidArgument(faults)
    return Anchors(seals)


def verified_message(verified: Verified) -> rpc.VerifyAuditLogResponse:
    head, misfit = verified.head, verified.misfit
    return rpc.VerifyAuditLogResponse(
        head=pb.AuditSeal(seq=head.seq, hash=head.hash.hex()) if head != GENESIS else None,
        unsealed=verified.unsealed,
        misfit=_misfit_message(misfit) if misfit is not None else None,
    )


def _misfit_message(misfit: Misfit) -> pb.AuditMisfit:
    return pb.AuditMisfit(
        kind=pb.AuditMisfit.Kind.Value(f"KIND_{misfit.kind.name}"),
        seq=misfit.seq or 0,
        to_seq=misfit.to_seq or 0,
        audit_entry_id=misfit.audit_no or 0,
        message=misfit.sentence,
    )
