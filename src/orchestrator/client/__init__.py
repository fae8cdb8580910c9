"""For programs that talk to the orchestrator. Needs nothing of the server."""

from orchestrator.client import messages
from orchestrator.client.channel import Tls
from orchestrator.client.client import OrchestratorClient
from orchestrator.client.errors import OrchestratorError, Violation
from orchestrator.client.paging import each, pages

__all__ = ["OrchestratorClient", "OrchestratorError", "Tls", "Violation", "each", "messages", "pages"]
