"""Who may call what, and what goes first when there are too many: one row for each RPC. An RPC without a row keeps the
server from starting.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from enum import Enum

from orchestrator.domain.refusals import PermissionDenied
from orchestrator.domain.scope import Role


class CallClass(Enum):
    """What becomes of calls when there are more than can be served (api/admission_control.py)."""

    #: Somebody must not be sent anything, must be forgotten, or something must be stopped: a part of all places, and of
    #: the connections to Postgres, is kept for these. Small and quick.
    CRITICAL = "critical"
    ORDINARY = "ordinary"
    #: Computes for seconds, or reads a whole project: few at once.
    HEAVY = "heavy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """`lowest` names the role a caller is told to come with. `audited`: success leaves an entry in the audit log."""

    roles: frozenset[Role]
    lowest: Role
    audited: bool = False
    call_class: CallClass = CallClass.ORDINARY

    def require(self, role: Role) -> None:
        """Raises PermissionDenied unless `role` may call."""
        if role not in self.roles:
            required = self.lowest.name.lower()
            raise PermissionDenied("ROLE_TOO_LOW", f"this needs the role {required}", requiredRole=required)

    def among(self, roles: Collection[Role]) -> Rule | None:
        """What is left of it where only these roles are let in; None: nothing."""
        left = self.roles & frozenset(roles)
        if not left:
            return None
        return replace(self, roles=left, lowest=self.lowest if self.lowest in left else min(left))


def _from(lowest: Role, *others: Role, audited: bool = False) -> Rule:
    order = (Role.VIEWER, Role.EDITOR, Role.ADMIN, Role.OWNER)
    roles = frozenset(order[order.index(lowest) :]) | frozenset(others)
    return Rule(roles=roles, lowest=lowest, audited=audited)


def _only(role: Role, *, audited: bool = False) -> Rule:
    return Rule(roles=frozenset({role}), lowest=role, audited=audited)


def _critical(rule: Rule) -> Rule:
    return replace(rule, call_class=CallClass.CRITICAL)


def _heavy(rule: Rule) -> Rule:
    return replace(rule, call_class=CallClass.HEAVY)


_READ_NUMBERS = _from(Role.VIEWER)
_READ = _from(Role.EDITOR)
_CHANGE = _from(Role.EDITOR)
_AUTHOR = _from(Role.EDITOR, audited=True)
_DELETE = _from(Role.ADMIN, audited=True)
_INTERNAL = _only(Role.INTERNAL)

POLICY: Mapping[str, Rule] = {
    "orchestrator.v1.ApiKeyService/ListApiKeys": _from(Role.ADMIN),
    "orchestrator.v1.ApiKeyService/CreateApiKey": _from(Role.ADMIN, audited=True),
    "orchestrator.v1.ApiKeyService/RevokeApiKey": _critical(_from(Role.ADMIN, audited=True)),
    "orchestrator.v1.ApiKeyService/RotateApiKey": _from(Role.ADMIN, audited=True),
    "orchestrator.v1.AudienceService/ListAudiences": _READ,
    "orchestrator.v1.AudienceService/CreateAudience": _AUTHOR,
    "orchestrator.v1.AudienceService/GetAudience": _READ,
    "orchestrator.v1.AudienceService/UpdateAudience": _AUTHOR,
    "orchestrator.v1.AudienceService/DeleteAudience": _DELETE,
    "orchestrator.v1.AudienceService/CheckAudience": _READ,
    "orchestrator.v1.AudienceService/EstimateAudience": _heavy(_READ),
    "orchestrator.v1.AuditService/ListAuditEntries": _READ,
    # The operator's is the log of the instance.
    "orchestrator.v1.AuditService/VerifyAuditLog": _heavy(_from(Role.OWNER, Role.OPERATOR)),
    "orchestrator.v1.BundleService/ExportBundle": _heavy(_from(Role.ADMIN)),
    "orchestrator.v1.BundleService/ImportBundle": _heavy(_from(Role.ADMIN, Role.INTERNAL, audited=True)),
    "orchestrator.v1.CommunicationService/ListCommunications": _READ,
    "orchestrator.v1.CommunicationService/CreateCommunication": _AUTHOR,
    "orchestrator.v1.CommunicationService/GetCommunication": _READ,
    "orchestrator.v1.CommunicationService/UpdateCommunication": _AUTHOR,
    "orchestrator.v1.CommunicationService/DeleteCommunication": _DELETE,
    "orchestrator.v1.CommunicationService/PreviewCommunication": _READ,
    "orchestrator.v1.CommunicationService/SendTestCommunication": _AUTHOR,
    "orchestrator.v1.CommunicationService/GetTestSend": _READ,
    "orchestrator.v1.CommunicationService/ListCommunicationRevisions": _READ,
    "orchestrator.v1.DeliveryService/ReportDeliveries": _critical(_CHANGE),
    "orchestrator.v1.EnrollmentJobService/ListEnrollmentJobs": _READ,
    "orchestrator.v1.EnrollmentJobService/CreateEnrollmentJob": _AUTHOR,
    "orchestrator.v1.EnrollmentJobService/GetEnrollmentJob": _READ,
    "orchestrator.v1.EnrollmentJobService/PauseEnrollmentJob": _AUTHOR,
    "orchestrator.v1.EnrollmentJobService/ResumeEnrollmentJob": _AUTHOR,
    "orchestrator.v1.EnrollmentJobService/CancelEnrollmentJob": _AUTHOR,
    "orchestrator.v1.ErasureService/ForgetSubject": _critical(_from(Role.OWNER, Role.INTERNAL, audited=True)),
    "orchestrator.v1.ErasureService/ListErasures": _from(Role.OWNER),
    "orchestrator.v1.ErasureService/GetErasure": _from(Role.OWNER, Role.INTERNAL),
    "orchestrator.v1.ErasureService/LiftTombstone": _from(Role.OWNER, audited=True),
    "orchestrator.v1.EventService/IngestEvents": _CHANGE,
    "orchestrator.v1.ExecutionService/ListExecutions": _READ,
    "orchestrator.v1.ExecutionService/GetExecution": _READ,
    "orchestrator.v1.ExecutionService/ExplainExecution": _READ,
    "orchestrator.v1.ExecutionService/ListStuckExecutions": _READ,
    "orchestrator.v1.ExecutionService/CancelExecution": _critical(_AUTHOR),
    "orchestrator.v1.ExecutionService/CancelExecutions": _critical(_AUTHOR),
    "orchestrator.v1.ExecutionService/GetCancellation": _READ,
    "orchestrator.v1.ImpactService/GetCalibratedImpact": _READ_NUMBERS,
    "orchestrator.v1.ImpactService/GetBranchPerformance": _READ_NUMBERS,
    "orchestrator.v1.ImpactService/EstimatePolicyValue": _heavy(_READ_NUMBERS),
    "orchestrator.v1.ImpactService/ListPolicyVersions": _READ_NUMBERS,
    "orchestrator.v1.ImpactService/GetPolicyVersion": _READ_NUMBERS,
    "orchestrator.v1.ImpactService/ListArmChoices": _READ,
    "orchestrator.v1.ImpactService/PlanImpact": _READ_NUMBERS,
    "orchestrator.v1.InternalService/DispatchEntries": _critical(_INTERNAL),
    "orchestrator.v1.InternalService/StartExecution": _critical(_only(Role.INTERNAL, audited=True)),
    "orchestrator.v1.JourneyService/ListJourneys": _READ,
    "orchestrator.v1.JourneyService/CreateJourney": _AUTHOR,
    "orchestrator.v1.JourneyService/GetJourney": _READ,
    "orchestrator.v1.JourneyService/UpdateJourney": _AUTHOR,
    "orchestrator.v1.JourneyService/DeleteJourney": _DELETE,
    "orchestrator.v1.JourneyService/ListJourneyVersions": _READ,
    "orchestrator.v1.JourneyService/GetJourneyVersion": _READ,
    "orchestrator.v1.JourneyService/ValidateJourney": _READ,
    "orchestrator.v1.JourneyService/PublishJourney": _AUTHOR,
    "orchestrator.v1.JourneyService/PreviewCarry": _READ,
    "orchestrator.v1.JourneyService/ListCarries": _READ,
    "orchestrator.v1.JourneyService/GetCarry": _READ,
    "orchestrator.v1.JourneyService/StartPolicyUpdate": _AUTHOR,
    "orchestrator.v1.JourneyService/PauseJourney": _critical(_AUTHOR),
    "orchestrator.v1.JourneyService/ResumeJourney": _AUTHOR,
    "orchestrator.v1.JourneyService/ArchiveJourney": _AUTHOR,
    "orchestrator.v1.JourneyService/EnrollSubjects": _AUTHOR,
    "orchestrator.v1.JourneyService/ExplainEntry": _READ,
    "orchestrator.v1.JourneyService/SimulateJourney": _heavy(_READ),
    "orchestrator.v1.JourneyService/BacktestJourney": _heavy(_READ),
    "orchestrator.v1.JourneyService/GetStepStats": _READ_NUMBERS,
    "orchestrator.v1.JourneyService/GetJourneyFunnel": _READ_NUMBERS,
    "orchestrator.v1.JourneyService/ListJourneyAuditEntries": _READ,
    "orchestrator.v1.PinpointService/TranslatePinpoint": _heavy(_from(Role.ADMIN, Role.INTERNAL)),
    "orchestrator.v1.ProjectService/ListProjects": _only(Role.OPERATOR),
    "orchestrator.v1.ProjectService/CreateProject": _only(Role.OPERATOR, audited=True),
    "orchestrator.v1.ProjectService/GetProject": _from(Role.EDITOR, Role.OPERATOR),
    "orchestrator.v1.ProjectService/UpdateProject": _from(Role.OWNER, audited=True),
    "orchestrator.v1.RefusedEntryService/GetRefusedEntries": _READ,
    "orchestrator.v1.RefusedEntryService/ReplayRefusedEntries": _AUTHOR,
    "orchestrator.v1.RefusedEntryService/GetEntryReplay": _READ,
    "orchestrator.v1.RefusedEntryService/CancelEntryReplay": _AUTHOR,
    "orchestrator.v1.SegmentService/ListSegments": _READ,
    "orchestrator.v1.SegmentService/CreateSegment": _AUTHOR,
    "orchestrator.v1.SegmentService/GetSegment": _READ,
    "orchestrator.v1.SegmentService/UpdateSegment": _AUTHOR,
    "orchestrator.v1.SegmentService/DeleteSegment": _DELETE,
    "orchestrator.v1.SegmentService/EvaluateSegment": _AUTHOR,
    "orchestrator.v1.SegmentService/ListSegmentMembers": _READ,
    "orchestrator.v1.SegmentService/AddSegmentMembers": _AUTHOR,
    "orchestrator.v1.SegmentService/RemoveSegmentMembers": _AUTHOR,
    "orchestrator.v1.SendsPauseService/ListSendsPauses": _READ,
    "orchestrator.v1.SendsPauseService/PauseSends": _critical(_AUTHOR),
    "orchestrator.v1.SendsPauseService/ResumeSends": _AUTHOR,
    "orchestrator.v1.SubjectService/ListSubjects": _READ,
    "orchestrator.v1.SubjectService/UpsertSubject": _CHANGE,
    "orchestrator.v1.SubjectService/BatchUpsertSubjects": _CHANGE,
    "orchestrator.v1.SubjectService/GetSubject": _READ,
    "orchestrator.v1.SubjectService/DeleteSubject": _DELETE,
    "orchestrator.v1.SubjectService/MergeSubjects": _DELETE,
    "orchestrator.v1.SubjectService/ListTimeline": _READ,
    "orchestrator.v1.SubjectService/ExportSubject": _from(Role.ADMIN, audited=True),
    "orchestrator.v1.SubjectService/GetPreferences": _READ,
    "orchestrator.v1.SubjectService/UpdatePreferences": _critical(_CHANGE),
    "orchestrator.v1.SubjectService/ListSuppressions": _READ,
    "orchestrator.v1.SubjectService/CreateSuppression": _critical(_AUTHOR),
    "orchestrator.v1.SubjectService/DeleteSuppression": _DELETE,
    "orchestrator.v1.TriggerContractService/ListTriggerContracts": _READ,
    "orchestrator.v1.TriggerContractService/CreateTriggerContract": _AUTHOR,
    "orchestrator.v1.TriggerContractService/GetTriggerContract": _READ,
    "orchestrator.v1.TriggerContractService/UpdateTriggerContract": _AUTHOR,
    "orchestrator.v1.TriggerContractService/DeleteTriggerContract": _DELETE,
}
