"""All that is known of a run, after it has come to rest. Nothing here is judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from tests.acceptance.canaries import Canary
from tests.faults.checker.op_log import Op
from tests.provider.client import Receipt

Json = Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """A row of the ledger of enrollments. `subject_id` None: the subject is gone."""

    project: str
    subject_no: int
    subject_id: str | None
    enrollment_id: str
    journey_id: str
    version: int
    entry_key: str
    held_out: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """`outcome` None: it runs. `effect`: run, sleep or end."""

    project: str
    subject_no: int
    subject_id: str | None
    execution_id: str
    journey_id: str
    version: int
    workflow_id: str
    seq: int
    step_id: str
    since: datetime
    effect: str
    wakes_at: datetime | None
    parked: str | None
    outcome: str | None
    reason: str | None
    started_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    execution_id: str
    seq: int
    place: int
    step_id: str
    step_kind: str
    version: int
    result: str
    reason: str | None
    entered_at: datetime
    left_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Send:
    """A row of the ledger of sends, or (`channel` empty) of calls. `state` is dispatching | sent | failed | unknown: a
    call that was answered counts as sent. `key` is what the provider is given, worked out from the row.
    """

    project: str
    subject_id: str | None
    execution_id: str
    seq: int
    step_id: str
    channel: str
    category: str
    state: str
    reason: str | None
    attempt: int
    reserved_at: datetime
    settled_at: datetime | None
    key: str

    @property
    def which(self) -> str:
        return f"execution {self.execution_id}, seq {self.seq}, step {self.step_id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    project: str
    subject_no: int
    event_id: str
    name: str
    occurred_at: datetime
    received_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """How often an event of a name happened to a subject: what is kept beside the events, and the events."""

    project: str
    subject_no: int
    name: str
    state: int
    days: int
    events: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """A seal of the audit log, with the text of its entry that it is made of; None: the entry is gone."""

    project_no: int
    seq: int
    audit_no: int
    hash: bytes
    row: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """What Postgres has, of one instant, `now`.

    `versions`: definitions by project, journey and number. `attributes`: of subjects who were written once. `chosen`:
    arms by execution, seq and step. `caps`: frequency caps by project, as the settings have them. `audited`: how many
    entries say so, by project and "{action} {kind}/{id}"; `unsealed`: entries without a seal. `waiting`: rows by what
    is to be empty at rest. `strays`: rows that name another project's.
    """

    now: datetime
    admissions: Sequence[Admission] = ()
    executions: Sequence[Execution] = ()
    visits: Sequence[Visit] = ()
    sends: Sequence[Send] = ()
    events: Sequence[Event] = ()
    counted: Sequence[Counted] = ()
    versions: Mapping[tuple[str, str, int], Json] = field(default_factory=dict)
    attributes: Mapping[int, Json] = field(default_factory=dict)
    chosen: Mapping[tuple[str, int, str], str] = field(default_factory=dict)
    caps: Mapping[str, Sequence[Json]] = field(default_factory=dict)
    seals: Sequence[Sealed] = ()
    unsealed: int = 0
    audited: Mapping[tuple[str, str], int] = field(default_factory=dict)
    waiting: Mapping[str, int] = field(default_factory=dict)
    strays: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workflow:
    """A run that Temporal knows of. `execution_id` None: it does not say whose it is. `task_attempt`: of the task that
    is not done yet, how often it was tried. `failures`: why tasks failed; None: its history was not read.
    """

    workflow_id: str
    run_id: str
    first_run_id: str
    execution_id: str | None
    status: str
    task_attempt: int = 0
    failures: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """`part`: the process that wrote it. Without a level it is none of ours."""

    part: str
    level: str
    message: str
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """Something was away, or slow, from then until then: what was due meanwhile may be late by as much."""

    what: str
    began: datetime
    ended: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgotten:
    """Somebody of whom nothing may be left."""

    subject_id: str
    canaries: Sequence[Canary]


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """What `orchestrator doctor` found of one check."""

    check: str
    total: int
    examples: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """`funnels`: what the API tells of a journey, by project and journey. `honours_keys`: the provider does, and never
    says no to what it has taken. `patience`: how late something may be besides outages. `places`: where something of a
    subject could be left, by name. `memory`: bytes that a process had at the beginning and at the end. `marks`: words
    that stand in nothing but one project's.
    """

    ledger: Ledger
    ops: Sequence[Op] = ()
    receipts: Sequence[Receipt] = ()
    workflows: Sequence[Workflow] = ()
    logs: Sequence[LogLine] = ()
    diagnoses: Sequence[Diagnosis] = ()
    funnels: Mapping[tuple[str, str], Json] = field(default_factory=dict)
    outages: Sequence[Outage] = ()
    honours_keys: bool = True
    patience: timedelta = timedelta(seconds=30)
    forgotten: Sequence[Forgotten] = ()
    places: Mapping[str, bytes] = field(default_factory=dict)
    memory: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    marks: Mapping[str, Sequence[str]] = field(default_factory=dict)
