"""A sound world, one fault planted in its evidence, and the invariant that is found broken."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from orchestrator.application import doctor
from orchestrator.storage import doctor_checks, segment_checks
from tests.faults.checker import INVARIANTS, Effect, OpLog, examine
from tests.faults.checker.doctors import BROKEN_BY
from tests.faults.checker.evidence import Diagnosis, Evidence, LogLine, Outage
from tests.faults.checker.op_log import CONSENT, EVENT, FAIL, INFO, OK, SILENCE
from tests.faults.checker.sound_world import (
    BUYER,
    JOURNEY,
    OTHER,
    at,
    event,
    execution,
    receipt,
    send,
    sound,
    split_of,
    visit,
    with_ledger,
)
from tests.faults.checker.waits import waits

Plant = Callable[[Evidence], Evidence]


def rows(name: str, change: Callable[[list[Any]], list[Any]]) -> Plant:
    """Other rows of the ledger."""
    return lambda evidence: with_ledger(evidence, **{name: change(list(getattr(evidence.ledger, name)))})


def row(name: str, place: int, **fields: Any) -> Plant:
    """One row of the ledger, changed."""
    return rows(name, lambda found: [replace(one, **fields) if n == place else one for n, one in enumerate(found)])


def part(name: str, place: int, **fields: Any) -> Plant:
    """One member of another part of the evidence, changed."""

    def plant(evidence: Evidence) -> Evidence:
        found: Sequence[Any] = getattr(evidence, name)
        changes: dict[str, Any] = {name: [replace(one, **fields) if n == place else one for n, one in enumerate(found)]}
        return replace(evidence, **changes)

    return plant


def also(name: str, *more: Any) -> Plant:
    """More members of another part of the evidence."""

    def plant(evidence: Evidence) -> Evidence:
        changes: dict[str, Any] = {name: [*getattr(evidence, name), *more]}
        return replace(evidence, **changes)

    return plant


FAULTS: dict[str, tuple[str, Plant]] = {
    "an acknowledged event is lost": ("I1", rows("events", lambda found: found[:-1])),
    "an event is there twice": ("I1", rows("events", lambda found: [*found, found[0]])),
    "a subject entered twice": (
        "I1",
        rows("admissions", lambda found: [*found, replace(found[0], enrollment_id="e-3", held_out=True)]),
    ),
    "an admission has no execution": (
        "I1",
        rows("admissions", lambda found: [*found, replace(found[0], subject_id="s-9", enrollment_id="e-9")]),
    ),
    "a repeat was answered otherwise": ("I1", part("ops", 2, request="r-1", answer="another")),
    "what was refused is there": ("I1", part("ops", 1, state=FAIL)),
    "a workflow was started twice": (
        "I1",
        lambda e: replace(e, workflows=[*e.workflows, replace(e.workflows[1], run_id="r-9", first_run_id="r-9")]),
    ),
    "a message was accepted twice": ("I2", also("receipts", receipt(BUYER, "s-1"))),
    "a repeat came under another key": ("I2", also("receipts", replace(receipt(BUYER, "s-1"), key="another"))),
    "what was accepted is said to have failed": ("I2", row("sends", 0, state="failed", reason="rejected")),
    "a receipt is of nothing": ("I3", also("receipts", replace(receipt("e-9", "s-9"), key="another"))),
    "a message went out before it was reserved": ("I3", row("sends", 0, reserved_at=at(1.15))),
    "a message that is said to be sent is not": ("I3", part("receipts", 0, accepted=False)),
    "a step was passed that it did not stand on": (
        "I4",
        rows("visits", lambda found: [one for one in found if (one.execution_id, one.step_id) != (OTHER, "pause")]),
    ),
    "the wrong arm was taken": ("I4", row("visits", 2, reason="otherwise")),
    "the wrong part of a split was taken": ("I4", row("visits", 3, reason="ab".replace(split_of("s-1"), ""))),
    "a version is gone": ("I4", lambda e: with_ledger(e, versions={})),
    "somebody stands elsewhere": ("I4", row("executions", 0, step_id="pause", wakes_at=at(40))),
    "a wait ended early": (
        "I5",
        rows(
            "visits",
            lambda found: [
                replace(one, left_at=one.left_at - timedelta(microseconds=1)) if one.step_id == "pause"
                and one.execution_id == OTHER else one for one in found
            ],
        ),
    ),
    "a wait ended late": ("I5", lambda e: with_ledger(replace(e, patience=timedelta(seconds=1)), visits=[
        visit(OTHER, 1, 0, "one", "send", 1, 1.2),
        visit(OTHER, 2, 0, "pause", "wait", 1.2, 4.5),
        visit(OTHER, 2, 1, "check", "branch", 4.5, 4.5, reason="otherwise"),
        visit(OTHER, 2, 2, "bye", "exit", 4.5, 4.5),
        *[one for one in e.ledger.visits if one.execution_id == BUYER],
    ])),
    "somebody waits for what has come": (
        "I5",
        lambda e: with_ledger(
            replace(e, patience=timedelta(seconds=5)), events=[*e.ledger.events, event(1, "go", 10)]
        ),
    ),
    "somebody gave up on what had come": ("I5", lambda e: with_ledger(
        e,
        now=at(70),
        events=[*e.ledger.events, event(1, "go", 10)],
        executions=[execution(BUYER, 1, since=at(63.2), ended_at=at(63.2)), e.ledger.executions[1]],
        visits=[
            *e.ledger.visits,
            visit(BUYER, 3, 0, "hear", "wait_for", 3.2, 63.2, reason="timeout"),
            visit(BUYER, 3, 1, "bye", "exit", 63.2, 63.2),
        ],
    )),
    "events are miscounted": ("I6", row("counted", 0, state=2)),
    "a funnel is wrong": ("I6", lambda e: replace(e, funnels={("default", "welcome"): {"enrolled": "3"}})),
    "a step's visits are miscounted": ("I6", lambda e: replace(e, funnels={("default", "welcome"): {
        **e.funnels["default", "welcome"], "steps": [{"stepId": "one", "executed": "3"}],
    }})),
    "a running execution has no workflow": ("I7", lambda e: replace(e, workflows=e.workflows[1:])),
    "a workflow runs for an execution that has ended": ("I7", part("workflows", 1, status="RUNNING")),
    "the outbox is not empty": ("I8", lambda e: with_ledger(e, waiting={"outbox": 1})),
    "a send is not settled": ("I8", row("sends", 0, state="dispatching", settled_at=None)),
    "something was begun after an opt-out": ("I9", part("ops", 3, ended=at(0.5).timestamp())),
    "something was sent to who was forgotten": (
        "I9",
        also("receipts", replace(receipt(BUYER, "s-3"), key="k", at=at(60).timestamp(), accepted=False)),
    ),
    "a cap was passed": (
        "I9",
        lambda e: with_ledger(e, caps={"default": [{"channel": "*", "category": "*", "limit": 0, "window": "1d"}]}),
    ),
    "something is left of who was forgotten": ("I10", lambda e: replace(e, places={"dump": b"to Kanari@example.com"})),
    "an entry of the audit log was changed": ("I11", row("seals", 0, row="another")),
    "an entry of the audit log is gone": ("I11", rows("seals", lambda found: found[1:])),
    "an acknowledged call is not in the audit log": ("I11", lambda e: with_ledger(e, audited={})),
    "a call is in the audit log twice": (
        "I11",
        lambda e: with_ledger(e, audited={("default", "journey_published journey/welcome"): 2}),
    ),
    "a row names another project's": ("I12", lambda e: with_ledger(e, strays={"visits.execution_id": 1})),
    "an answer has what is another project's": ("I12", part("ops", 4, answer="from elsewhere")),
    "a message has what is another project's": ("I12", part("receipts", 0, text="Hello elsewhere")),
    "a task has failed": ("I13", part("workflows", 0, failures=("NON_DETERMINISTIC_ERROR",))),
    "a task is stuck": ("I13", part("workflows", 0, task_attempt=20)),
    "an error was logged": ("I13", also("logs", LogLine(part="server", level="error", message="oh"))),
    "a process crashed": (
        "I13",
        also("logs", LogLine(part="server", level="", message="Traceback (most recent call last):")),
    ),
    "memory grows": ("I13", lambda e: replace(e, memory={"server": (100, 121)})),
    "the doctor finds something": ("I8", also("diagnoses", Diagnosis(check="outbox_dead", total=1, examples=("o",)))),
}  # fmt: skip


def test_a_sound_world_keeps_every_invariant_and_each_has_looked_at_something() -> None:
    report = examine(sound())

    report.require_sound()
    assert list(report.verdicts) == [f"I{number}" for number in range(1, 14)]


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_is_found_and_breaks_the_invariant_that_it_is_against(name: str) -> None:
    invariant, plant = FAULTS[name]

    report = examine(plant(sound()))

    assert invariant in report.broken, str(report)
    assert all(str(finding).startswith(finding.invariant) for finding in report.findings)
    with pytest.raises(AssertionError, match=invariant):
        report.require_sound()


def test_every_invariant_has_a_fault_that_breaks_it() -> None:
    assert {invariant for invariant, _ in FAULTS.values()} == set(INVARIANTS)


def test_a_verdict_that_has_looked_at_nothing_is_not_taken_for_a_sound_one() -> None:
    report = examine(replace(sound(), forgotten=()))

    with pytest.raises(AssertionError, match=r"nothing was looked at for \['I10'\]"):
        report.require_sound()
    report.require_sound(idle=["I10"])


def test_what_nobody_knows_may_have_happened_or_not() -> None:
    unknown = part("ops", 1, state=INFO)(sound())
    lost = rows("events", lambda found: found[1:])

    assert "I1" not in examine(unknown).broken
    assert "I1" not in examine(lost(unknown)).broken


def test_what_is_late_by_an_outage_is_not_late() -> None:
    _, late = FAULTS["a wait ended late"]
    outage = Outage(what="postgres", began=at(3), ended=at(4.2))

    assert "I5" not in examine(replace(late(sound()), outages=[outage])).broken


def test_who_opted_in_again_may_be_sent_something() -> None:
    again = [
        replace(op, began=at(0.6).timestamp(), ended=at(0.7).timestamp(), effects=(Effect(kind, "s-2/webhook"),))
        for kind, op in ((CONSENT, sound().ops[3]),)
    ]
    early = part("ops", 3, ended=at(0.5).timestamp())(sound())

    assert "I9" in examine(early).broken
    assert "I9" not in examine(replace(early, ops=[*early.ops, *again])).broken


def test_by_which_arm_somebody_had_to_go_who_was_forgotten_nobody_can_tell() -> None:
    def without_events(evidence: Evidence) -> Evidence:
        return rows("events", lambda found: [one for one in found if one.subject_no != 1])(evidence)

    gone = row("admissions", 0, subject_id=None)(row("executions", 0, subject_id=None)(without_events(sound())))

    assert "I4" in examine(without_events(sound())).broken
    assert "I4" not in examine(gone).broken


def test_a_provider_without_keys_may_take_as_many_as_there_were_tries() -> None:
    twice = also("receipts", receipt(BUYER, "s-1"))(replace(sound(), honours_keys=False))

    assert "I2" in examine(twice).broken
    assert "I2" not in examine(row("sends", 0, attempt=2)(twice)).broken


def test_a_send_of_another_channel_needs_no_receipt() -> None:
    logged = replace(send(OTHER, "s-2"), channel="log", key="of the log", seq=5)

    assert "I3" not in examine(rows("sends", lambda found: [*found, logged])(sound())).broken


def test_the_checker_reads_the_journey_and_not_what_the_product_makes_of_it() -> None:
    turned = {**JOURNEY, "steps": [*JOURNEY["steps"][1:], JOURNEY["steps"][0]]}

    assert "I4" in examine(with_ledger(sound(), versions={("default", "welcome", 1): turned})).broken


def test_how_late_a_wait_was_is_told_with_and_without_what_was_away() -> None:
    late = row("visits", 1, left_at=at(13.2))(sound())
    away = replace(late, outages=[Outage(what="postgres", began=at(4), ended=at(10))])

    assert [one.late for one in waits(sound())] == [timedelta(0)] * 2
    assert max(waits(late), key=lambda one: one.late).excess == timedelta(seconds=10)
    assert max(waits(away), key=lambda one: one.late).excess == timedelta(seconds=4)


def test_every_check_of_the_doctor_belongs_to_an_invariant() -> None:
    checks = {check.name for check in (*doctor_checks.CHECKS, *segment_checks.CHECKS)} | set(doctor.NAMES)

    assert checks == set(BROKEN_BY)
    assert set(BROKEN_BY.values()) <= set(INVARIANTS)


def test_an_operation_whose_end_was_not_written_down_is_one_that_nobody_knows(tmp_path: Path) -> None:
    log = OpLog(tmp_path / "ops.jsonl")
    done = log.invoke("ingest", [Effect(EVENT, "a")], request="r")
    log.invoke("opt out", [Effect(SILENCE, "s")])
    log.ok(done, "{}")

    first, second = log.ops()

    assert (first.state, first.answer, first.does(EVENT)) == (OK, "{}", [Effect(EVENT, "a")])
    assert (second.state, second.ended) == (INFO, None)
