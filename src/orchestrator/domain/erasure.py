"""Forgetting somebody: what an erasure is, its phases, and what remains as its receipt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum


class Phase(Enum):
    """What an erasure is at; the values stand in the API. In this order, each begun when the one before has ended."""

    #: The ids are refused from here on, and nothing finds the subject any more: with the answer to the request.
    TOMBSTONE = "tombstone"
    #: Outside of Postgres it is written down that this is to be erased again after a restore.
    LEDGER = "ledger"
    #: Executions have ended.
    EXECUTIONS = "executions"
    #: Their runs are gone from Temporal: every run of each, looked for until there is none.
    RUNS = "runs"
    #: Rows are gone, or say no more whose they are.
    ROWS = "rows"
    #: Stored answers to earlier requests are gone.
    ANSWERS = "answers"
    DONE = "done"

    @property
    def after(self) -> Phase:
        """The phase that follows."""
        phases = list(Phase)
        return phases[phases.index(self) + 1]


class Origin(Enum):
    """Who wanted it: somebody who asked, or the ledger, after a restore."""

    REQUEST = "request"
    REPLAY = "replay"


@dataclass(frozen=True, slots=True, kw_only=True)
class Passed:
    """What a phase has done so far, by what was counted; `ended_at` None: it is under way."""

    ended_at: datetime | None = None
    counts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Erasure:
    """How far it has come, and, in the end, the receipt: no personal data.

    `phase` is the one that is under way, or DONE; `phases` holds those that were begun. `ids` is how many ids the
    person had. `refused` is how often one of them has come back since, `refused_at` when that was last.
    """

    erasure_id: str
    subject_ref: str
    origin: Origin
    ids: int
    phase: Phase
    phases: Mapping[Phase, Passed]
    requested_at: datetime
    ended_at: datetime | None = None
    lifted_at: datetime | None = None
    refused: int = 0
    refused_at: datetime | None = None
