"""What a webhook answers: a small JSON object is kept, for predicates and templates; anything else only has a name."""

from __future__ import annotations

import math
from typing import Any

import orjson

from orchestrator.domain.attributes import size_fault

#: Of the body, in bytes.
MAX_ANSWER_BYTES = 8 * 1024

#: Why the answer of a call that was taken is not kept.
TOO_LARGE, NO_OBJECT, UNUSABLE = "answer_too_large", "answer_no_object", "answer_unusable"


def read_answer(body: bytes) -> tuple[dict[str, Any] | None, str | None]:
    """The answer, and why there is none that can be kept. An empty body is no answer, and as good as any.

    Not kept is what is larger than MAX_ANSWER_BYTES, no JSON object, or unusable: deeper than attributes may be, with a
    NUL in a text or a number that is none.
    """
    if not body:
        return None, None
    if len(body) > MAX_ANSWER_BYTES:
        return None, TOO_LARGE
    try:
        document = orjson.loads(body)
    except ValueError:
        return None, NO_OBJECT
    if not isinstance(document, dict):
        return None, NO_OBJECT
    if size_fault(document, "") is not None or not _is_plain(document):
        return None, UNUSABLE
    return document, None


def _is_plain(value: Any) -> bool:
    """Whether it can be kept, and read again as the same. It is no deeper than attributes may be."""
    match value:
        case str():
            return "\x00" not in value
        case float():
            return math.isfinite(value)
        case dict():
            return all(_is_plain(name) and _is_plain(member) for name, member in value.items())
        case list():
            return all(map(_is_plain, value))
        case _:
            return True
