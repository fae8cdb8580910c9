"""On whose behalf something is done."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

#: The project number of the instance itself, which is no project.
INSTANCE = 0


class Role(IntEnum):
    """Each role may do what the ones before it may. `operator` and `internal` stand outside that order:
    the policy table names them.
    """

    VIEWER = 1
    EDITOR = 2
    ADMIN = 3
    OWNER = 4
    OPERATOR = 10
    INTERNAL = 11


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """The project a call acts in and who calls.

    `project_no` is INSTANCE in operator calls. `actor` goes into the audit log: `key:<api_key_id>`,
    `operator`, `internal` or `runtime`. `principal` is whose requests these are, also with the key that took over from
    an older one; None: the actor's.
    """

    project_no: int
    project_id: str
    actor: str
    role: Role
    principal: str | None = None


class SubjectKey(NamedTuple):
    """A subject as the database knows it, in lock order. A tuple, since there are many of them at once."""

    project_no: int
    bucket: int
    subject_no: int
