"""How much each field of the contract holds. Both transports refuse more, and docs/openapi.json says so.

The unit says how a text is measured. What a field means beyond its size (that a zone exists, that a template reads) is
decided where it is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from orchestrator.api.descriptors import owner_of
from orchestrator.domain import (
    adaptive_forms,
    attributes,
    auto_pause,
    backtest,
    channels,
    condition_forms,
    conditions,
    delivery,
    dispatch,
    draw,
    enrollment_job,
    event,
    ids,
    journey_form,
    preferences,
    project,
    schedule,
    sent_test,
    shown_fields,
    step_forms,
)
from orchestrator.domain.communication import MAX_SUBJECT_BYTES
from orchestrator.domain.segment import MAX_MEMBERS_PER_CALL
from orchestrator.domain.templates import MAX_SOURCE_BYTES

#: Any object of free form: attributes, properties, settings. Depth counts objects and lists within each other.
MAX_STRUCT_DEPTH = attributes.MAX_DEPTH

MAX_REQUEST_BYTES = 1024 * 1024
#: Of requests that carry many events or subjects, or all definitions of a project.
MAX_BATCH_BYTES = 4 * 1024 * 1024
_BATCHES = frozenset(
    {
        "orchestrator.v1.BatchUpsertSubjectsRequest",
        "orchestrator.v1.ImportBundleRequest",
        "orchestrator.v1.IngestEventsRequest",
        "orchestrator.v1.ReportDeliveriesRequest",
        "orchestrator.v1.TranslatePinpointRequest",
    }
)


@dataclass(frozen=True, slots=True)
class Characters:
    """A text of at most so many characters."""

    most: int


@dataclass(frozen=True, slots=True)
class Bytes:
    """A text of at most so many bytes of UTF-8."""

    most: int


@dataclass(frozen=True, slots=True)
class Id:
    """An id, or nothing where none is required."""


@dataclass(frozen=True, slots=True)
class Range:
    """A whole number."""

    least: int
    most: int


TextLimit = Characters | Bytes | Id

_ANY_TEXT = Bytes(8 * 1024)
_ANY_INTEGER = Range(0, 2**31 - 1)

#: By field name, or by message and field name, which goes first. Other fields called id or *_id are Id.
TEXTS: Mapping[str, TextLimit] = {
    "name": Characters(ids.MAX_NAME_LENGTH),
    "description": Characters(ids.MAX_DESCRIPTION_LENGTH),
    "body": Bytes(MAX_SOURCE_BYTES),
    "cron": Characters(schedule.MAX_CRON),
    "channel": Characters(preferences.MAX_CHANNEL_LENGTH),
    "entry_key": Characters(conditions.MAX_ENTRY_KEY),
    "etag": Characters(128),
    "event_id": Characters(event.MAX_EVENT_ID_LENGTH),
    "event_name": Characters(event.MAX_NAME_LENGTH),
    "Event.name": Characters(event.MAX_NAME_LENGTH),
    "CancelExecutionRequest.reason": Id(),
    "CancelExecutionsRequest.reason": Id(),
    "DateOfAttribute.time": Characters(condition_forms.MAX_CLOCK),
    "ExitStep.reason": Characters(step_forms.MAX_EXIT_REASON),
    "TriggeringEvent.name": Characters(event.MAX_NAME_LENGTH),
    "SplitStep.salt": Characters(draw.MAX_SALT),
    "AuditSeal.hash": Characters(64),
    "AdaptiveBranchStep.salt": Characters(draw.MAX_SALT),
    "NbaDecisionStep.salt": Characters(draw.MAX_SALT),
    "SupposedEvent.name": Characters(event.MAX_NAME_LENGTH),
    "Suppression.reason": Characters(preferences.MAX_REASON_LENGTH),
    "TimeOfDay.time": Characters(condition_forms.MAX_CLOCK),
    "journey_ids": Id(),
    "next": Id(),
    "start": Id(),
    "otherwise": Id(),
    "page_token": Characters(2048),
    "project_key": Id(),
    "addresses": Characters(sent_test.MAX_ADDRESS_LENGTH),
    "ReplayRefusedEntriesRequest.reason": Id(),
    "provider_id": Characters(1024),
    "report_id": Characters(delivery.MAX_REPORT_ID_LENGTH),
    "DeliveryReport.idempotency_key": Characters(64),
    "DeliveryReport.link": Characters(delivery.MAX_LINK_LENGTH),
    "request_id": Characters(128),
    "resource_kind": Characters(64),
    "shown_fields": Characters(shown_fields.MAX_SHOWN_FIELD),
    "step_ids": Id(),
    "subject_ids": Id(),
    "subject": Bytes(MAX_SUBJECT_BYTES),
    "subject_type": Characters(64),
    "time_zone": Characters(64),
    "token": Characters(128),
    "sms_url": Characters(channels.MAX_URL_LENGTH),
    "push_url": Characters(channels.MAX_URL_LENGTH),
    "workflow_id": Characters(1024),
}

#: Elements of a list, by field name.
LISTS: Mapping[str, int] = {
    "addresses": sent_test.MAX_ADDRESSES,
    "arms": step_forms.MAX_ARMS,
    "context": adaptive_forms.MAX_CONTEXT,
    "changes": preferences.MAX_CHANGES,
    "events": event.MAX_BATCH,
    "exit_rules": condition_forms.MAX_EXIT_RULES,
    "step_ids": step_forms.MAX_STEPS,
    "step_mapping": step_forms.MAX_STEPS,
    "steps": step_forms.MAX_STEPS,
    "pinned_texts": step_forms.MAX_STEPS,
    "reports": delivery.MAX_BATCH,
    "shown_fields": shown_fields.MAX_SHOWN_FIELDS,
    "subject_ids": MAX_MEMBERS_PER_CALL,
    "subjects": 1000,
    "weekdays": len(condition_forms.WEEKDAYS),
    "weights": step_forms.MAX_ARMS,
}
_ANY_LIST = 1000

INTEGERS: Mapping[str, Range] = {
    "AuditSeal.seq": Range(1, 2**53 - 1),
    "BranchLearning.grace_days": Range(0, adaptive_forms.MAX_GRACE_DAYS),
    "ContextLearning.grace_days": Range(0, adaptive_forms.MAX_GRACE_DAYS),
    "BacktestJourneyRequest.days": Range(0, backtest.MAX_DAYS),
    "AutoPause.minimum": Range(1, auto_pause.MAX_MINIMUM),
    "DispatchEntriesRequest.max_subjects": Range(0, dispatch.MAX_SUBJECTS),
    "EnrollmentJob.rate_per_second": Range(1, enrollment_job.MAX_RATE),
    "GetBranchPerformanceRequest.goal_revision": Range(1, 2**31 - 1),
    "GetCalibratedImpactRequest.goal_revision": Range(1, 2**31 - 1),
    "GetPolicyVersionRequest.policy_version": Range(1, 2**31 - 1),
    "PlanImpactRequest.holdout_percent": Range(1, 99),
    "PublishJourneyRequest.from_version": Range(1, 2**31 - 1),
    "PreviewCarryRequest.from_version": Range(1, 2**31 - 1),
    "GetCarryRequest.version": Range(1, 2**31 - 1),
    "GetStepStatsRequest.version": Range(1, 2**31 - 1),
    "GetJourneyVersionRequest.version": Range(1, 2**31 - 1),
    "JourneySchedule.rate_per_second": Range(1, enrollment_job.MAX_RATE),
    "JourneyDefinition.max_duration_days": Range(1, journey_form.MAX_DURATION_DAYS),
    "SplitArm.weight": Range(1, step_forms.MAX_WEIGHT),
    "ProjectSettings.max_journeys": Range(0, project.MAX_MAX_JOURNEYS),
}


def request_bytes(request: Descriptor) -> int:
    """How large a request may be, in either transport's own form."""
    return MAX_BATCH_BYTES if request.full_name in _BATCHES else MAX_REQUEST_BYTES


def text_limit(field: FieldDescriptor) -> TextLimit:
    """How much a field of texts holds."""
    return _text_limit(owner_of(field).name, field.name)


@cache
def _text_limit(message: str, name: str) -> TextLimit:
    found = TEXTS.get(f"{message}.{name}") or TEXTS.get(name)
    if found is None and (name == "id" or name.endswith("_id")):
        found = Id()
    return found or _ANY_TEXT


def list_limit(field: FieldDescriptor) -> int:
    """How many elements a list holds."""
    return LISTS.get(field.name, _ANY_LIST)


def integer_limit(field: FieldDescriptor) -> Range:
    """Between which bounds a whole number is."""
    return INTEGERS.get(f"{owner_of(field).name}.{field.name}", _ANY_INTEGER)
