"""What a document's client is told when a call fails."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from grpc import StatusCode

from orchestrator.api.errors import HTTP_STATUS, Failure
from orchestrator.predicates.faults import Fault

#: The database, or what it runs on, did not do what was asked.
_OF_THE_STORE = (StatusCode.INTERNAL, StatusCode.UNAVAILABLE, StatusCode.DEADLINE_EXCEEDED)


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorForm:
    """How one document spells what goes wrong. The bodies of all are of one shape.

    `named` are the reasons that the document names: of several, one of them is the body's code. `instead` has its own
    words for some reasons. `of_input` is its one code for everything that is wrong with a request; empty: the reason.
    """

    named: frozenset[str] = frozenset()
    instead: Mapping[str, str] = field(default_factory=dict)
    of_input: str = ""
    in_capitals: bool = False

    def tell(self, failure: Failure, call_id: str, *, store_failed: str = "") -> tuple[int, dict[str, Any]]:
        """The status of HTTP, and the body."""
        status, code = self._status(failure), self._code(failure)
        if store_failed and failure.code in _OF_THE_STORE:
            status, code = 500, store_failed
        error: dict[str, Any] = {"code": code, "message": self._message(failure), "requestId": call_id}
        if failure.faults:
            error["details"] = [
                {"path": fault.path, "code": self.spelled(fault.reason), "message": fault.message}
                for fault in failure.faults
            ]
        # Paths stand with the faults, as the document spells them.
        if metadata := {name: text for name, text in failure.metadata.items() if name != "field"}:
            error["metadata"] = metadata
        return status, {"error": error}

    def _status(self, failure: Failure) -> int:
        if failure.code is StatusCode.INVALID_ARGUMENT:
            return 400  # However large: no document knows another one.
        return failure.http_status or HTTP_STATUS[failure.code]

    def _code(self, failure: Failure) -> str:
        if self.of_input and failure.code is StatusCode.INVALID_ARGUMENT:
            return self.of_input
        told = self._foremost(failure)
        return self.spelled(failure.reason if told is None else told.reason)

    def _foremost(self, failure: Failure) -> Fault | None:
        """The fault that the code and the message are of; None: they are of the failure."""
        for fault in failure.faults:
            if fault.reason in self.named:
                return fault
        # Who publishes is told of a fault, and not that there are any.
        is_of_faults = failure.code is StatusCode.INVALID_ARGUMENT or failure.reason == "INVALID_DEFINITION"
        return failure.faults[0] if is_of_faults and failure.faults else None

    def _message(self, failure: Failure) -> str:
        told = self._foremost(failure)
        if told is None:
            return failure.message
        more = f" (and {len(failure.faults) - 1} more)" if len(failure.faults) > 1 else ""
        return f"{_one(told)}{more}"

    def spelled(self, reason: str) -> str:
        """A reason in the words of the document."""
        word = self.instead.get(reason, reason)
        return word if self.in_capitals else word.lower()


def _one(fault: Fault) -> str:
    return f"{fault.path}: {fault.message}" if fault.path else fault.message
