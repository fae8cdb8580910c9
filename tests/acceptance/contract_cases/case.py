"""What a case is, and the words that cases are written in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """`code` is gRPC's; `faults` are (path, reason) as `/v1` tells them; the first one's is the reason. `told` is the
    documented code; left out: that reason, as the document spells it.
    """

    code: str
    reason: str
    faults: tuple[tuple[str, str], ...] = ()
    told: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """`by` is whose key is shown: a role, stranger (the owner of another project), nobody, or wrong (one not known).

    `only_json`: what is wrong can be written in JSON alone. `$P` is the project, wherever it stands.
    """

    name: str
    rpc: str
    request: Json
    documented: str
    body: Any = None
    by: str = "owner"
    refused: Refusal | None = None
    only_json: bool = False


def case(
    name: str,
    rpc: str,
    request: Json,
    documented: str,
    body: Any = None,
    *,
    by: str = "owner",
    refused: Refusal | None = None,
    only_json: bool = False,
) -> Case:
    return Case(
        name=name,
        rpc=rpc,
        request=request,
        documented=documented,
        body=body,
        by=by,
        refused=refused,
        only_json=only_json,
    )


def invalid(*faults: tuple[str, str], told: str = "") -> Refusal:
    return Refusal(code="INVALID_ARGUMENT", reason=faults[0][1], faults=faults, told=told)


def not_now(reason: str, *faults: tuple[str, str], told: str = "") -> Refusal:
    return Refusal(code="FAILED_PRECONDITION", reason=reason, faults=faults, told=told)


def missing(noun: str, told: str = "") -> Refusal:
    return Refusal(code="NOT_FOUND", reason=f"{noun}_NOT_FOUND", told=told)


TAKEN = Refusal(code="ALREADY_EXISTS", reason="ALREADY_EXISTS")
STALE = Refusal(code="ABORTED", reason="ETAG_MISMATCH")
LOW = Refusal(code="PERMISSION_DENIED", reason="ROLE_TOO_LOW")
UNKNOWN = Refusal(code="UNAUTHENTICATED", reason="UNAUTHENTICATED")
OLD = "1-1"

PRO = {"kind": "attribute", "fieldPath": "tier", "operator": "equals", "value": "pro"}
ACTIVE = {"kind": "event_fired", "eventName": "used", "window": {"type": "last_n_days", "days": 7}, "atLeast": 2}
FAULTY = {
    "kind": "or",
    "clauses": [
        {"kind": "event_fired", "eventName": "", "window": {"type": "ever"}},
        {"kind": "in_cohort", "cohortId": "gone"},
        {"kind": "not", "clause": {"kind": "attribute", "fieldPath": "", "operator": "equals", "value": 1}},
    ],
}
IN_FAULTY = (
    ("clauses[0].eventName", "EVENT_NAME_REQUIRED"),
    ("clauses[1].cohortId", "COHORT_NOT_FOUND"),
    ("clauses[2].clause.fieldPath", "FIELD_PATH_REQUIRED"),
)
PREDICATE_FAULTS = tuple((f"predicate.{path}", reason) for path, reason in IN_FAULTY)
RULES_FAULTS = tuple((f"rules.{path}", reason) for path, reason in IN_FAULTY)
