"""What a translation says of what it did not, or not exactly, translate."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import Enum
from typing import Any

from orchestrator.domain.refusals import InvalidArgument
from orchestrator.predicates.faults import Fault

#: More would be read by nobody; who has so many translates fewer files at once.
MAX_FINDINGS = 10_000
#: Of a value, how much is said back.
VALUE_TOLD = 200
#: Of a request that is wrong, like everywhere.
_FAULTS_TOLD = 1_000


class FindingKind(Enum):
    """How what stands in the export, and what was made of it, are apart."""

    #: There is nothing here that it could become.
    NO_COUNTERPART = "no_counterpart"
    #: It was translated, and behaves otherwise in a way that the message says.
    DIFFERS = "differs"
    #: It names, or needs, something that the export does not contain.
    MISSING = "missing"
    #: Pinpoint's API has no such member.
    UNKNOWN = "unknown"
    #: Pinpoint's own records (ids, dates, tags); nothing that runs depends on it.
    RECORD = "record"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """`path` leads to the member from the request's root; `value` is JSON text, cut; `message` says what follows."""

    kind: FindingKind
    path: str
    value: str
    message: str


class Discoveries:
    """Findings and faults, as they come to light. Of faults of one reason at one place the first is kept."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self._faults: dict[tuple[str, str], Fault] = {}

    def find(self, kind: FindingKind, path: str, value: Any, message: str) -> None:
        if len(self.findings) == MAX_FINDINGS:
            self.fault("exports", "TOO_LARGE", f"more than {MAX_FINDINGS} findings: translate fewer files at once")
        else:
            self.findings.append(
                Finding(kind=kind, path=_clean(path), value=_clean(told(value)), message=_clean(message))
            )

    def fault(self, path: str, reason: str, message: str) -> None:
        if len(self._faults) < _FAULTS_TOLD:
            fault = Fault(path=_clean(path), reason=reason, message=_clean(message))
            self._faults.setdefault((path, reason), fault)

    @property
    def is_faulty(self) -> bool:
        return bool(self._faults)

    def refuse_faulty(self) -> None:
        """Raises InvalidArgument if there was a fault."""
        if self._faults:
            raise InvalidArgument(self._faults.values())


def told(value: Any) -> str:
    """A value as JSON text, cut to VALUE_TOLD characters."""
    try:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    except (RecursionError, ValueError, TypeError):  # deeper, or longer numbers, than anybody has a use for
        return "…"
    return text if len(text) <= VALUE_TOLD else f"{text[: VALUE_TOLD - 1]}…"


def _clean(text: str) -> str:
    """The text without halves of surrogate pairs, which nothing can be encoded with."""
    return text if text.isascii() else text.encode(errors="replace").decode()
