"""I13: no process has met anything that it did not know how to take."""

from __future__ import annotations

from tests.faults.checker.evidence import Evidence
from tests.faults.checker.verdicts import Verdict

#: A task of a workflow that was tried so often is stuck: the pauses between two tries have grown to a minute and more.
STUCK = 8
#: Memory may grow by this part.
GROWTH = 0.2
_UNHANDLED = frozenset({"error", "critical"})


def processes_are_well(evidence: Evidence, verdict: Verdict) -> None:
    """I13: no task of a workflow is stuck or has failed, logs have no errors, and memory does not grow."""
    for workflow in evidence.workflows:
        verdict.look()
        if workflow.task_attempt >= STUCK:
            verdict.find(f"workflow {workflow.workflow_id}", f"its task was tried {workflow.task_attempt} times")
        for failure in workflow.failures or ():
            verdict.find(f"workflow {workflow.workflow_id}, run {workflow.run_id}", f"a task has failed: {failure}")
    for line in evidence.logs:
        verdict.look()
        if line.level in _UNHANDLED or (not line.level and _is_crash(line.message)):
            verdict.find(line.part, f"{line.level or 'not of the log'}: {line.message} {line.error}".rstrip())
    for process, (before, after) in evidence.memory.items():
        verdict.look()
        if after > before * (1 + GROWTH):
            verdict.find(process, f"has grown from {before >> 20} to {after >> 20} MiB")


def _is_crash(text: str) -> bool:
    return "Traceback (most recent call last)" in text or "panicked at" in text
