"""What Temporal's own log lines call an execution: by its id, not by the workflow's, which holds the subject's."""

from __future__ import annotations

import logging
from collections import OrderedDict
from threading import Lock
from typing import Any

from temporalio import activity, workflow
from temporalio.worker import (
    ActivityInboundInterceptor,
    ExecuteActivityInput,
    ExecuteWorkflowInput,
    Interceptor,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
)

from orchestrator.temporal.contract import ExecutionInput, Question

#: More executions than a process works on within the time that a line is about.
REMEMBERED = 10_000


class ExecutionNames(logging.Filter):
    """Adds `execution_id` to the lines that Temporal's SDK writes of workflows and activities.

    It is told of executions by `NamingInterceptor`, from the threads that run workflows, too.
    """

    def __init__(self) -> None:
        super().__init__()
        self._names: OrderedDict[str, str] = OrderedDict()
        self._lock = Lock()

    def learn(self, workflow_id: str, execution_id: str) -> None:
        with self._lock:
            self._names[workflow_id] = execution_id
            self._names.move_to_end(workflow_id)
            if len(self._names) > REMEMBERED:
                self._names.popitem(last=False)

    def filter(self, record: logging.LogRecord) -> bool:
        fields = vars(record)
        about = fields.get("temporal_activity") or fields.get("temporal_workflow")
        if about is not None:
            execution_id = self._names.get(about.get("workflow_id"))
            if execution_id is not None:
                record.execution_id = execution_id
        return True

    def take_over(self) -> None:
        """Keep the SDK from appending what it knows, workflow ids included, to every message of this process."""
        activity.logger.activity_info_on_message = False
        workflow.logger.workflow_info_on_message = False


class NamingInterceptor(Interceptor):
    """Tells which execution each workflow and activity of a worker is about."""

    def __init__(self, names: ExecutionNames) -> None:
        self._names = names

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        return _NamedActivity(next, self._names)

    def workflow_interceptor_class(self, input: WorkflowInterceptorClassInput) -> type[WorkflowInboundInterceptor]:
        names = self._names

        class NamedWorkflow(WorkflowInboundInterceptor):
            async def execute_workflow(self, input: ExecuteWorkflowInput) -> Any:
                match input.args:
                    case [ExecutionInput(execution_id=execution_id), *_]:
                        names.learn(workflow.info().workflow_id, execution_id)
                return await super().execute_workflow(input)

        return NamedWorkflow


class _NamedActivity(ActivityInboundInterceptor):
    def __init__(self, next: ActivityInboundInterceptor, names: ExecutionNames) -> None:
        super().__init__(next)
        self._names = names

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        workflow_id = activity.info().workflow_id
        match input.args:
            case [Question(execution_id=execution_id), *_] if workflow_id is not None:
                self._names.learn(workflow_id, execution_id)
        return await super().execute_activity(input)
