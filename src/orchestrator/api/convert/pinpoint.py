"""Translations of Pinpoint as messages."""

from __future__ import annotations

from orchestrator.api.fault_relations import unrelated
from orchestrator.api.json_decode import decode
from orchestrator.api.message_check import check_message
from orchestrator.domain.refusals import InvalidArgument
from orchestrator.pinpoint.finding import FindingKind
from orchestrator.pinpoint.translation import Translation
from orchestrator.predicates.faults import Fault
from orchestrator.v1 import bundle_pb2
from orchestrator.v1 import pinpoint_service_pb2 as rpc
from orchestrator.v1.bundle_service_pb2 import ImportBundleRequest

_KINDS = {
    FindingKind.NO_COUNTERPART: rpc.PinpointFinding.KIND_NO_COUNTERPART,
    FindingKind.DIFFERS: rpc.PinpointFinding.KIND_DIFFERS,
    FindingKind.MISSING: rpc.PinpointFinding.KIND_MISSING,
    FindingKind.UNKNOWN: rpc.PinpointFinding.KIND_UNKNOWN,
    FindingKind.RECORD: rpc.PinpointFinding.KIND_RECORD,
}


def translation_message(translation: Translation) -> rpc.TranslatePinpointResponse:
    """Raises InvalidArgument where something in the bundle is past a limit of the contract: no import would take it."""
    bundle, faults = decode(bundle_pb2.Bundle, translation.bundle)
    faults += unrelated(faults, check_message(ImportBundleRequest(bundle=bundle)))
    if faults:
        raise InvalidArgument(
            Fault(path="exports", reason=fault.reason, message=f"becomes {fault.path}, which {fault.message}")
            for fault in faults
        )
    return rpc.TranslatePinpointResponse(
        bundle=bundle,
        findings=[
            rpc.PinpointFinding(kind=_KINDS[one.kind], path=one.path, value=one.value, message=one.message)
            for one in translation.findings
        ],
    )
