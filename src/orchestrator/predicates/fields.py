"""Reading the members of one JSON object that a caller wrote. A null member is as good as an absent one."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from orchestrator.predicates.faults import Fault, Wrong, under

#: The longest text, in bytes of UTF-8: names, paths, ids, and texts within values.
MAX_TEXT_BYTES = 8192

_EXACT_INTEGERS = 2**53
#: Of one object. More would tell nobody anything, and who sends a million is not answered with a million.
_UNKNOWN_FIELDS_TOLD = 20
_NAME_TOLD = 100


def unknown_fields(document: dict[Any, Any], known: Collection[str], path: str) -> list[Fault]:
    """A fault for each member that has no meaning here."""
    message = f"allowed here: {', '.join(known)}"
    unknown = [str(name)[:_NAME_TOLD] for name in document if name not in known]
    return [
        Fault(path=under(path, name), reason="UNKNOWN_FIELD", message=message)
        for name in unknown[:_UNKNOWN_FIELDS_TOLD]
    ]


def whole_number(value: object) -> int | None:
    """The integer; `7.0` is one too, since some writers of JSON know no other numbers. Never a boolean."""
    if isinstance(value, bool):
        return None
    if isinstance(value, float) and value.is_integer() and abs(value) <= _EXACT_INTEGERS:
        return int(value)
    return value if isinstance(value, int) else None


def is_too_long(text: str) -> bool:
    """More than `MAX_TEXT_BYTES`."""
    return len(text) > MAX_TEXT_BYTES or len(text.encode("utf-8", "surrogatepass")) > MAX_TEXT_BYTES


def read_text(document: dict[Any, Any], name: str, path: str, absent: str) -> str:
    """A text that has to be there; `absent` is the reason where it is missing or blank. Raises Wrong."""
    value = document.get(name)
    at = under(path, name)
    if value is None or (isinstance(value, str) and not value.strip()):
        raise Wrong(at, absent, f"{name} is required")
    if not isinstance(value, str):
        raise Wrong(at, "INVALID_VALUE", f"{name} is a string")
    if is_too_long(value):
        raise Wrong(at, "TOO_LARGE", f"at most {MAX_TEXT_BYTES} bytes")
    return value
