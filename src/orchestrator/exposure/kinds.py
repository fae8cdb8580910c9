"""One way in which a process is open, and the kinds there are."""

from __future__ import annotations

import typing
from dataclasses import dataclass

from orchestrator.settings import AcceptableExposure

GUESSABLE_SECRET = "guessable_secret"
SHARED_SECRET = "shared_secret"
ACCEPTABLE: tuple[str, ...] = typing.get_args(AcceptableExposure)
#: A better secret costs nothing, so nobody may go without.
KINDS = (GUESSABLE_SECRET, SHARED_SECRET, *ACCEPTABLE)


@dataclass(frozen=True, slots=True)
class Exposure:
    """One way in which a process is open. `kind` is one of KINDS; `said` and `remedy` are sentences for an operator."""

    kind: str
    said: str
    remedy: str
