"""A run in which all is well, made by hand: two subjects have gone through a journey, and one of them still waits."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.acceptance.canaries import Canary
from tests.faults.checker.evidence import (
    Admission,
    Counted,
    Diagnosis,
    Event,
    Evidence,
    Execution,
    Forgotten,
    Ledger,
    LogLine,
    Sealed,
    Send,
    Visit,
    Workflow,
)
from tests.faults.checker.op_log import AUDIT, ENROLLMENT, EVENT, FORGOTTEN, OK, SILENCE, VERSION, Effect, Op
from tests.provider.client import Receipt

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
BOUGHT = {"kind": "event_fired", "eventName": "purchase"}
JOURNEY: dict[str, Any] = {
    "id": "welcome",
    "steps": [
        {"id": "one", "send": {"communicationId": "first"}, "next": "pause"},
        {"id": "pause", "wait": {"duration": "2s"}, "next": "check"},
        {"id": "check", "branch": {"arms": [{"id": "bought", "when": BOUGHT, "next": "half"}], "otherwise": "bye"}},
        {
            "id": "half",
            "split": {"arms": [{"id": "a", "weight": 1, "next": "hear"}, {"id": "b", "weight": 1, "next": "hear"}]},
        },
        {
            "id": "hear",
            "waitFor": {"event": {"eventName": "go"}, "timeout": "60s", "otherwise": "bye"},
            "next": "bye",
        },
        {"id": "bye", "exit": {"reason": "finished"}},
    ],
}
#: Who has bought something, and waits for "go"; who has not, and is through.
BUYER, OTHER = "e-1", "e-2"


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def key_of(execution_id: str, seq: int) -> str:
    return hashlib.sha256(f"{execution_id}/{seq}".encode()).hexdigest()


def visit(
    execution_id: str, seq: int, place: int, step_id: str, kind: str, since: float, left: float, **more: Any
) -> Visit:
    return Visit(
        execution_id=execution_id, seq=seq, place=place, step_id=step_id, step_kind=kind, version=1,
        result="executed", entered_at=at(since), left_at=at(left), **{"reason": None, **more},
    )  # fmt: skip


def send(execution_id: str, subject_id: str) -> Send:
    return Send(
        project="default", subject_id=subject_id, execution_id=execution_id, seq=0, step_id="one", channel="webhook",
        category="marketing", state="sent", reason=None, attempt=1, reserved_at=at(1), settled_at=at(1.2),
        key=key_of(execution_id, 0),
    )  # fmt: skip


def receipt(execution_id: str, subject_id: str) -> Receipt:
    return Receipt(
        key=key_of(execution_id, 0), at=at(1.1).timestamp(), accepted=True, subject_id=subject_id,
        execution_id=execution_id, step_id="one", text="Hello",
    )  # fmt: skip


def execution(execution_id: str, subject_no: int, **more: Any) -> Execution:
    standing: dict[str, Any] = {
        "seq": 2, "step_id": "bye", "since": at(3.2), "effect": "end", "wakes_at": None, "parked": None,
        "outcome": "completed", "reason": "finished", "ended_at": at(3.2),
    }  # fmt: skip
    return Execution(
        project="default", subject_no=subject_no, subject_id=f"s-{subject_no}", execution_id=execution_id,
        journey_id="welcome", version=1, workflow_id=f"w-{execution_id}", started_at=at(1), **(standing | more),
    )  # fmt: skip


def _admission(execution_id: str, subject_no: int) -> Admission:
    return Admission(
        project="default", subject_no=subject_no, subject_id=f"s-{subject_no}", enrollment_id=execution_id,
        journey_id="welcome", version=1, entry_key=f"up-{subject_no}", held_out=False,
    )  # fmt: skip


def event(subject_no: int, name: str, seconds: float) -> Event:
    return Event(
        project="default", subject_no=subject_no, event_id=f"{name}-{subject_no}", name=name,
        occurred_at=at(seconds), received_at=at(seconds),
    )  # fmt: skip


def _counted(subject_no: int, name: str) -> Counted:
    return Counted(project="default", subject_no=subject_no, name=name, state=1, days=1, events=1)


def _op(number: int, kind: str, *effects: Effect, answer: str = "{}") -> Op:
    return Op(
        number=number, kind=kind, effects=effects, request=f"r-{number}", state=OK, answer=answer,
        began=at(number).timestamp(), ended=at(number + 0.5).timestamp(),
    )  # fmt: skip


def _seals() -> tuple[Sealed, ...]:
    seals, before = [], bytes(32)
    for seq in (1, 2):
        row = f"entry {seq}"
        before = hashlib.sha256(before + seq.to_bytes(8) + row.encode()).digest()
        seals.append(Sealed(project_no=1, seq=seq, audit_no=seq, hash=before, row=row))
    return tuple(seals)


def sound() -> Evidence:
    """Nothing is wrong with it, and each invariant has something to look at."""
    ledger = Ledger(
        now=at(20),
        admissions=(_admission(BUYER, 1), _admission(OTHER, 2)),
        executions=(
            execution(BUYER, 1, step_id="hear", effect="sleep", wakes_at=at(63.2), outcome=None, ended_at=None),
            execution(OTHER, 2),
        ),
        visits=(
            visit(BUYER, 1, 0, "one", "send", 1, 1.2),
            visit(BUYER, 2, 0, "pause", "wait", 1.2, 3.2),
            visit(BUYER, 2, 1, "check", "branch", 3.2, 3.2, reason="bought"),
            visit(BUYER, 2, 2, "half", "split", 3.2, 3.2, reason=split_of("s-1")),
            visit(OTHER, 1, 0, "one", "send", 1, 1.2),
            visit(OTHER, 2, 0, "pause", "wait", 1.2, 3.2),
            visit(OTHER, 2, 1, "check", "branch", 3.2, 3.2, reason="otherwise"),
            visit(OTHER, 2, 2, "bye", "exit", 3.2, 3.2),
        ),
        sends=(send(BUYER, "s-1"), send(OTHER, "s-2")),
        events=(event(1, "purchase", -5), event(1, "signup", 0), event(2, "signup", 0)),
        counted=(_counted(1, "purchase"), _counted(1, "signup"), _counted(2, "signup")),
        versions={("default", "welcome", 1): JOURNEY},
        caps={"default": [{"channel": "*", "category": "*", "limit": 2, "window": "1d"}]},
        seals=_seals(),
        audited={("default", "journey_published journey/welcome"): 1},
        waiting={"inbox": 0, "outbox": 0},
        strays={"visits.execution_id": 0},
    )
    return Evidence(
        ledger=ledger,
        ops=(
            _op(0, "publish", Effect(VERSION, "welcome@1"), Effect(AUDIT, "journey_published journey/welcome")),
            _op(1, "ingest", *(Effect(EVENT, f"signup-{no}") for no in (1, 2)), Effect(EVENT, "purchase-1")),
            _op(2, "sign up", *(Effect(ENROLLMENT, f"welcome/s-{no}") for no in (1, 2))),
            _op(4, "opt out", Effect(SILENCE, "s-2/webhook")),
            _op(5, "forget", Effect(FORGOTTEN, "s-3")),
        ),
        receipts=(receipt(BUYER, "s-1"), receipt(OTHER, "s-2")),
        workflows=(
            Workflow(
                workflow_id="w-e-1", run_id="r-1", first_run_id="r-1", execution_id=BUYER, status="RUNNING", failures=()
            ),
            Workflow(
                workflow_id="w-e-2",
                run_id="r-2",
                first_run_id="r-2",
                execution_id=OTHER,
                status="COMPLETED",
                failures=(),
            ),
        ),
        logs=(LogLine(part="worker-1", level="info", message="working"),),
        diagnoses=(Diagnosis(check="outbox_late", total=0),),
        funnels={
            ("default", "welcome"): {
                "enrolled": "2",
                "active": "1",
                "completed": {"completed": "1"},
                "steps": [{"stepId": "one", "executed": "2"}, {"stepId": "bye", "executed": "1"}],
            }
        },
        forgotten=(Forgotten(subject_id="s-3", canaries=(Canary("mail", "kanari@example.com"),)),),
        places={"dump": b"rows of s-1 and s-2"},
        memory={"server": (100, 110)},
        marks={"other": ("elsewhere",)},
    )


def split_of(subject_id: str) -> str:
    digest = hashlib.sha256(b"welcome/half\0" + subject_id.encode()).digest()
    return "a" if digest[0] < 128 else "b"


def with_ledger(evidence: Evidence, **changes: Any) -> Evidence:
    return replace(evidence, ledger=replace(evidence.ledger, **changes))
