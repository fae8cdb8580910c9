"""What the audit log may say: the catalogue of actions, which docs/operations.md lists.

An entry holds ids, numbers and small enums, never a value of a subject's attribute, of an event or of a message; so an
action names the metadata it may carry. Actions are part of the contract: they are added, not renamed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

#: The actor of what nobody asked for: triggers, the consumer, the sweeper.
RUNTIME = "runtime"

#: The actor of what was done at the database itself, by `orchestrator doctor --repair`.
DOCTOR = "doctor"

Value = str | int | bool


@dataclass(frozen=True, slots=True)
class Action:
    """One thing that is recorded: its name, what it happened to, what it says besides, and what it means."""

    name: str
    resource_kind: str
    metadata: tuple[str, ...]
    meaning: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of the log, as it is read."""

    audit_no: int
    at: datetime
    actor: str
    action: str
    resource_kind: str
    resource_id: str
    metadata: Mapping[str, Value]


JOURNEY_CREATED = Action("journey_created", "journey", (), "A draft was created.")
JOURNEY_UPDATED = Action(
    "journey_updated", "journey", ("fields",), "The draft, the name, the description or the goal was changed."
)
JOURNEY_PUBLISHED = Action(
    "journey_published",
    "journey",
    ("version", "sha256", "fromVersion", "carry", "executions"),
    "The draft became a version, or an earlier one did, anew; with `carry`, so many `executions` may go over to it.",
)
EXECUTIONS_CARRIED = Action(
    "executions_carried",
    "journey",
    ("version", "carried", "stayed"),
    "All executions on older versions have been looked at: so many were told to go over, so many stay.",
)
POLICY_UPDATE_REQUESTED = Action(
    "policy_update_requested", "journey", (), "Somebody asked for what its branches have learned to be put to use now."
)
JOURNEY_PAUSED = Action("journey_paused", "journey", (), "No new executions; running ones go on.")
JOURNEY_RESUMED = Action("journey_resumed", "journey", (), "New executions again.")
SENDS_PAUSED = Action("sends_paused", "journey", ("whose",), "Sends are held: of the journey, or of all.")
SENDS_AUTO_PAUSED = Action(
    "sends_auto_paused",
    "journey",
    ("reason", "sends", "failed", "complained"),
    "Too many sends of the journey came to nothing: they are held until somebody resumes them.",
)
SENDS_RESUMED = Action("sends_resumed", "journey", ("whose",), "Sends that were held go on.")
JOURNEY_ARCHIVED = Action(
    "journey_archived", "journey", ("onArchive", "runningExecutions"), "No new executions, for ever."
)
JOURNEY_DELETED = Action("journey_deleted", "journey", ("forced", "runningExecutions"), "The journey is gone.")
JOURNEY_ENROLLED = Action(
    "journey_enrolled",
    "journey",
    ("enrolled", "skipped", "errors"),
    "Subjects were enrolled by id, or one by an internal call.",
)
EXECUTION_CANCELED = Action(
    "execution_canceled", "journey", ("executionId", "stepId", "reason"), "One execution was told to end."
)
EXECUTION_CLOSED = Action(
    "execution_closed",
    "journey",
    ("executionId", "stepId", "reason"),
    "An execution that ran here, and whose workflow had ended in Temporal, was closed.",
)
EXECUTION_RESTARTED = Action(
    "execution_restarted",
    "journey",
    ("executionId", "stepId"),
    "An execution of which Temporal had no workflow was started again, where it stands.",
)
WORKFLOW_POKED = Action(
    "workflow_poked",
    "execution",
    (),
    "A workflow that ran though its execution had ended, or was not there, was told to look, and to end.",
)
EXECUTIONS_CANCEL_REQUESTED = Action(
    "executions_cancel_requested",
    "journey",
    (
        *("cancellationId", "reason", "executions", "all", "journeyVersion", "stepIds", "subjects"),
        *("startedAfter", "startedBefore", "parked"),
    ),
    "Executions that meet a filter are to end; `executions` did when it was asked for.",
)
EXECUTIONS_CANCELED = Action(
    "executions_canceled",
    "journey",
    ("cancellationId", "reason", "canceled"),
    "All of them have been told: so many.",
)
ENROLLMENT_JOB_CREATED = Action(
    "enrollment_job_created",
    "journey",
    ("enrollmentJobId", "audienceId", "segmentId", "everyone", "ratePerSecond"),
    "Somebody asked for a whole crowd to be enrolled.",
)
ENROLLMENT_JOB_PAUSED = Action(
    "enrollment_job_paused", "journey", ("enrollmentJobId",), "Nobody is let in by this job until it is resumed."
)
ENROLLMENT_JOB_RESUMED = Action("enrollment_job_resumed", "journey", ("enrollmentJobId",), "The job goes on.")
ENROLLMENT_JOB_CANCELED = Action(
    "enrollment_job_canceled",
    "journey",
    ("enrollmentJobId", "supersededBy"),
    "The job has ended where it stood; `supersededBy`: it had paused itself, and its crowd was due again.",
)
ENROLLMENT_JOB_STOPPED = Action(
    "enrollment_job_stopped",
    "journey",
    ("enrollmentJobId", "reason"),
    "The job has paused itself, since something has to be mended first.",
)
ENROLLMENT_JOB_DONE = Action(
    "enrollment_job_done",
    "journey",
    ("enrollmentJobId", "enrolled", "skipped", "errors", "lookedAt"),
    "The job has looked at every subject.",
)
ENROLLMENT_JOB_FAILED = Action(
    "enrollment_job_failed",
    "journey",
    ("enrollmentJobId", "reason"),
    "The job has ended, since its journey takes nobody in any more.",
)
ENTRY_REFUSED_AUDIENCE_NOT_FOUND = Action(
    "entry_refused_audience_not_found",
    "journey",
    ("audienceId", "version"),
    "Entries are refused because the audience was deleted. At most once per journey and hour.",
)
ENTRY_REFUSED_COHORT_NOT_FOUND = Action(
    "entry_refused_cohort_not_found",
    "journey",
    ("segmentId", "version"),
    "Entries are refused because a predicate names a cohort that was deleted. At most once per journey and hour.",
)
ENTRY_REPLAY_REQUESTED = Action(
    "entry_replay_requested",
    "journey",
    ("entryReplayId", "reason", "entries", "refusedAfter", "refusedBefore"),
    "Entries that were refused for this reason are to be decided on again; `entries` when it was asked for.",
)
ENTRIES_REPLAYED = Action(
    "entries_replayed",
    "journey",
    ("entryReplayId", "enrolled", "errors", "lookedAt", "endReason"),
    "They have been: so many were let in. `endReason` says why it ended before all were.",
)
TRIGGER_SEGMENT_DELETED = Action(
    "trigger_segment_deleted",
    "journey",
    ("triggerContractId", "segmentId"),
    "The segment that starts executions was deleted by force: until there is one of its id again, nothing starts any.",
)

JOURNEY_SCHEDULE_SKIPPED = Action(
    "journey_schedule_skipped",
    "journey",
    ("dueAt", "reason"),
    "A crowd was due to be enrolled on schedule, and was not.",
)

AUDIENCE_CREATED = Action("audience_created", "audience", (), "An audience was created.")
AUDIENCE_UPDATED = Action("audience_updated", "audience", ("fields",), "An audience was changed.")
AUDIENCE_DELETED = Action("audience_deleted", "audience", (), "An audience was deleted.")
SEGMENT_CREATED = Action("segment_created", "segment", (), "A segment was created.")
SEGMENT_UPDATED = Action("segment_updated", "segment", ("fields",), "A segment was changed.")
SEGMENT_DELETED = Action("segment_deleted", "segment", (), "A segment was deleted.")
SEGMENT_MEMBERS_ADDED = Action("segment_members_added", "segment", ("added",), "Members of a static list were added.")
SEGMENT_MEMBERS_REMOVED = Action(
    "segment_members_removed", "segment", ("removed",), "Members of a static list were removed."
)
SEGMENT_EVALUATION_REQUESTED = Action(
    "segment_evaluation_requested", "segment", (), "Somebody asked for a segment to be evaluated now."
)
SEGMENT_DRIFT_FOUND = Action(
    "segment_drift_found",
    "segment_run",
    ("subjects", "drift"),
    "A sweep found stored memberships that were wrong, and put them right.",
)
SEGMENT_SWEEP_FAILED = Action(
    "segment_sweep_failed",
    "project",
    (),
    "The project's segments could not be swept; other projects were. At most once per hour.",
)
COMMUNICATION_CREATED = Action("communication_created", "communication", (), "A communication was created.")
COMMUNICATION_UPDATED = Action(
    "communication_updated", "communication", ("fields", "contentRevision"), "A communication was changed."
)
COMMUNICATION_TEST_SENT = Action(
    "communication_test_sent",
    "communication",
    ("testSendId", "contentRevision", "channel", "addresses", "addressRefs", "subjectRef"),
    "A communication is sent to given addresses, of which the log has keyed hashes. The id is the test's where content "
    "was given.",
)
COMMUNICATION_DELETED = Action("communication_deleted", "communication", (), "A communication was deleted.")
TRIGGER_CONTRACT_CREATED = Action("trigger_contract_created", "trigger_contract", (), "A trigger contract was created.")
TRIGGER_CONTRACT_UPDATED = Action(
    "trigger_contract_updated", "trigger_contract", ("fields",), "A trigger contract was changed."
)
TRIGGER_CONTRACT_DELETED = Action("trigger_contract_deleted", "trigger_contract", (), "A trigger contract was deleted.")
PROJECT_CREATED = Action("project_created", "project", (), "A project and its first owner key were created.")
PROJECT_UPDATED = Action("project_updated", "project", ("fields",), "A project's name or settings were changed.")
BUNDLE_IMPORTED = Action(
    "bundle_imported",
    "project",
    ("created", "updated", "published"),
    "A bundle was imported, which created, updated and published so many things; each has an entry of its own.",
)
API_KEY_CREATED = Action("api_key_created", "api_key", ("role",), "A key was created.")
API_KEY_ROTATED = Action("api_key_rotated", "api_key", ("replaces",), "A key took over from an older one.")
API_KEY_REVOKED = Action("api_key_revoked", "api_key", (), "A key was revoked.")
SUBJECT_DELETED = Action("subject_deleted", "subject", (), "A subject was deleted.")
SUBJECT_FORGOTTEN = Action(
    "subject_forgotten",
    "subject",
    ("erasureId", "origin"),
    "A subject is to be forgotten, since somebody asked for it, or the ledger knew of it after a restore (`origin`).",
)
TOMBSTONE_LIFTED = Action(
    "tombstone_lifted", "subject", ("erasureId",), "The ids of a subject that was forgotten are taken in again."
)
SUBJECT_EXPORTED = Action(
    "subject_exported", "subject", (), "Somebody began to read everything that is kept about a subject."
)
SUBJECT_MERGED = Action(
    "subject_merged", "subject", ("into",), "A subject was merged into another, whose subject ref is `into`."
)
SUBJECT_SUPPRESSED = Action(
    "subject_suppressed", "subject", ("channel",), "Nothing may be sent to a subject by this channel, or by any (*)."
)
SUBJECT_UNSUPPRESSED = Action("subject_unsuppressed", "subject", ("channel",), "A suppression was taken away.")

CATALOGUE: Mapping[str, Action] = {
    action.name: action for action in list(globals().values()) if isinstance(action, Action)
}
