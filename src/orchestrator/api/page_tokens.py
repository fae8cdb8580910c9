"""Pages of lists: how many, and where one ended.

A token holds the sort key of the last element that was shown and stands for one list with one set of arguments. It is
opaque to callers and grants nothing: every page is authorised and filtered afresh.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from google.protobuf.message import Message

from orchestrator.api.descriptors import fields_of
from orchestrator.domain.refusals import InvalidArgument

DEFAULT_PAGE_SIZE = 50
MAX_PAGE_SIZE = 1000

_VERSION = 1
_DIGEST_BYTES = 8
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_MAX_INTEGER = 2**63 - 1

#: What lists are sorted by. Times are aware and exact to the microsecond.
Key = str | int | datetime


class ListRequest(Protocol):
    """A request for a page."""

    page_size: int
    page_token: str


def page_limit(request: ListRequest, *, default: int = DEFAULT_PAGE_SIZE) -> int:
    """How many elements to show: what was asked for, 1 to MAX_PAGE_SIZE; `default` if nothing was."""
    return min(request.page_size, MAX_PAGE_SIZE) or default


def page_token(request: Message, *last: Key) -> str:
    """The token of the page after the one that ends with this sort key, for the same request."""
    key = _pack([[_letter(part), _plain(part)] for part in last])
    return base64.urlsafe_b64encode(bytes([_VERSION]) + _digest(request, key) + key).rstrip(b"=").decode()


def page_start(request: Message, *kinds: type[Key]) -> tuple[Any, ...] | None:
    """The sort key after which the page begins, with parts of these types; None for the first page.

    Raises InvalidArgument (PAGE_TOKEN_INVALID) for anything that `page_token` did not make for this list with these
    arguments; the page size may change from page to page.
    """
    token: str = fields_of(request).page_token
    if not token:
        return None
    try:
        content = base64.b64decode(token.encode("ascii") + b"=" * (-len(token) % 4), altchars=b"-_", validate=True)
        digest, key = content[1 : 1 + _DIGEST_BYTES], content[1 + _DIGEST_BYTES :]
        if content[0] != _VERSION or not hmac.compare_digest(digest, _digest(request, key)):
            raise ValueError("made for something else")
        return _parts(json.loads(key), kinds)
    except (ValueError, IndexError, RecursionError, binascii.Error):
        message = "not a token that this list gave for these arguments: start from the first page"
        raise InvalidArgument.of("pageToken", "PAGE_TOKEN_INVALID", message) from None


def _digest(request: Message, key: bytes) -> bytes:
    """Ties a key to the list and to all arguments that decide what is in it."""
    arguments = type(request)()
    arguments.CopyFrom(request)
    arguments.ClearField("page_size")
    arguments.ClearField("page_token")
    name = request.DESCRIPTOR.full_name.encode()
    text = b"\n".join((name, arguments.SerializeToString(deterministic=True).hex().encode(), key))
    return hashlib.sha256(text).digest()[:_DIGEST_BYTES]


def _pack(parts: Sequence[Any]) -> bytes:
    return json.dumps(parts, separators=(",", ":")).encode()


def _letter(part: Key) -> str:
    match part:
        case datetime():
            return "t"
        case int():
            return "i"
        case str():
            return "s"


def _plain(part: Key) -> str | int:
    return (part - _EPOCH) // _MICROSECOND if isinstance(part, datetime) else part


def _parts(packed: Any, kinds: tuple[type[Key], ...]) -> tuple[Key, ...]:
    """Raises ValueError unless the parts are of these kinds."""
    if not isinstance(packed, list) or len(packed) != len(kinds):
        raise ValueError("another number of parts")
    return tuple(_part(part, kind) for part, kind in zip(packed, kinds, strict=True))


def _part(packed: Any, kind: type[Key]) -> Key:
    match packed:
        case [_, bool()]:  # Python takes it for a number; the database does not
            pass
        case ["t", int(microseconds)] if kind is datetime:
            try:
                return _EPOCH + microseconds * _MICROSECOND
            except OverflowError:
                raise ValueError("no time that can be kept") from None
        case ["i", int(number)] if kind is int and abs(number) <= _MAX_INTEGER:
            return number
        case ["s", str(text)] if kind is str and text.isprintable():
            return text
    raise ValueError("a part of another kind")
