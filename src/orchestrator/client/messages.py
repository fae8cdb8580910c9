# ruff: noqa: F403  # all of them, on purpose
"""Every message and enum of the contract, by its name alone."""

from orchestrator.v1.api_key_pb2 import *
from orchestrator.v1.api_key_service_pb2 import *
from orchestrator.v1.audience_pb2 import *
from orchestrator.v1.audience_service_pb2 import *
from orchestrator.v1.audit_pb2 import *
from orchestrator.v1.audit_service_pb2 import *
from orchestrator.v1.communication_pb2 import *
from orchestrator.v1.communication_service_pb2 import *
from orchestrator.v1.enrollment_job_pb2 import *
from orchestrator.v1.enrollment_job_service_pb2 import *
from orchestrator.v1.error_reason_pb2 import *
from orchestrator.v1.event_pb2 import *
from orchestrator.v1.event_service_pb2 import *
from orchestrator.v1.execution_pb2 import *
from orchestrator.v1.execution_service_pb2 import *
from orchestrator.v1.explanation_pb2 import *
from orchestrator.v1.journey_pb2 import *
from orchestrator.v1.journey_service_pb2 import *
from orchestrator.v1.journey_stats_pb2 import *
from orchestrator.v1.predicate_pb2 import *
from orchestrator.v1.preferences_pb2 import *
from orchestrator.v1.project_pb2 import *
from orchestrator.v1.project_service_pb2 import *
from orchestrator.v1.segment_pb2 import *
from orchestrator.v1.segment_service_pb2 import *
from orchestrator.v1.subject_pb2 import *
from orchestrator.v1.subject_service_pb2 import *
from orchestrator.v1.suppression_pb2 import *
from orchestrator.v1.trigger_contract_pb2 import *
from orchestrator.v1.trigger_contract_service_pb2 import *
from orchestrator.v1.violation_pb2 import *
