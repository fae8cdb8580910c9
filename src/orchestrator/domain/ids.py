"""What things are called: ids that callers choose or the server makes, and the names people read."""

from __future__ import annotations

import re
from uuid import UUID

from uuid_utils.compat import uuid7

from orchestrator.predicates.faults import Fault

MAX_ID_LENGTH = 128
MAX_NAME_LENGTH = 255
MAX_DESCRIPTION_LENGTH = 2_000

#: The characters of every id that callers choose, and how many there may be.
ID = re.compile(rf"[A-Za-z0-9_.:-]{{1,{MAX_ID_LENGTH}}}")

# Whatever stands between a caller and the server makes another path of these.
_PATHS = frozenset({".", ".."})


def new_uuid() -> UUID:
    """A new UUID of version 7: those made later by this process sort after those made earlier."""
    return uuid7()


def new_id(prefix: str) -> str:
    """A new id such as `aud-01a1fbaf…`, in the form callers may choose too; ids made later sort after earlier ones."""
    return f"{prefix}-{new_uuid().hex}"


def id_fault(chosen: str, path: str) -> Fault | None:
    """What is wrong with an id a caller chose; None when nothing is. `path` is where it was written."""
    if not chosen:
        return Fault(path=path, reason="REQUIRED", message="an id is required")
    if len(chosen) > MAX_ID_LENGTH:
        return Fault(path=path, reason="TOO_LONG", message=f"an id has at most {MAX_ID_LENGTH} characters")
    if ID.fullmatch(chosen) is None or chosen in _PATHS:
        return Fault(path=path, reason="INVALID_ID", message="an id consists of A-Z a-z 0-9 _ . : - and is not . or ..")
    return None


def name_faults(name: str, path: str) -> list[Fault]:
    """What is wrong with the name people read; every resource has one."""
    if not name.strip():
        return [Fault(path=path, reason="REQUIRED", message="a name is required")]
    return text_faults(name, path, MAX_NAME_LENGTH)


def description_faults(description: str, path: str) -> list[Fault]:
    return text_faults(description, path, MAX_DESCRIPTION_LENGTH)


def text_faults(text: str, path: str, at_most: int) -> list[Fault]:
    """TOO_LONG if the text has more than `at_most` characters."""
    if len(text) > at_most:
        return [Fault(path=path, reason="TOO_LONG", message=f"has at most {at_most} characters")]
    return []
