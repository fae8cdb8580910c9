"""I7 and I8: Postgres and Temporal have the same under way, and nothing is left that somebody still had to do."""

from __future__ import annotations

from tests.faults.checker.evidence import Evidence
from tests.faults.checker.verdicts import Verdict


def both_have_the_same_under_way(evidence: Evidence, verdict: Verdict) -> None:
    """I7: what runs in Postgres is open in Temporal, and the other way round."""
    running = {execution.execution_id: execution for execution in evidence.ledger.executions if not execution.outcome}
    open_there = {workflow.execution_id: workflow for workflow in evidence.workflows if workflow.status == "RUNNING"}
    verdict.look(len(evidence.ledger.executions))
    for execution_id, execution in running.items():
        if execution_id not in open_there:
            verdict.find(f"execution {execution_id}", f"runs at step {execution.step_id}, and has no workflow")
    for whose, workflow in open_there.items():
        if whose not in running:
            verdict.find(f"workflow {workflow.workflow_id}", "runs, and its execution does not")
    verdict.look(len(evidence.workflows))


def nothing_is_left_to_do(evidence: Evidence, verdict: Verdict) -> None:
    """I8: outbox and inbox are empty, nothing was set aside, nobody holds anything, and every send is settled."""
    for what, rows in evidence.ledger.waiting.items():
        verdict.look()
        if rows:
            verdict.find(what, f"{rows} rows at rest")
    parked = {execution.execution_id for execution in evidence.ledger.executions if execution.parked}
    for send in evidence.ledger.sends:
        verdict.look()
        if send.state == "dispatching" and send.execution_id not in parked:
            verdict.find(send.which, f"begun {send.reserved_at} and not settled")
