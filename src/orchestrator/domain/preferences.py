"""What a subject does not want to be sent, and what must not be sent to them. `domain/gates.py` says what follows."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from orchestrator.domain.gates import ANY
from orchestrator.predicates.faults import Fault

MAX_REASON_LENGTH = 255
MAX_CHANGES = 100
MAX_CHANNEL_LENGTH = 64

# Channels that are not there yet, or no longer, can be refused as well.
_CHANNEL = re.compile(rf"[a-z][a-z0-9_-]{{0,{MAX_CHANNEL_LENGTH - 1}}}|\*")


@dataclass(frozen=True, slots=True, kw_only=True)
class OptOut:
    """`channel` and `category` may be ANY."""

    channel: str
    category: str
    opted_out_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class PreferenceChange:
    """An opt-out of exactly this channel and category, each of which may be ANY; or the end of that opt-out."""

    channel: str
    category: str
    opted_out: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Suppression:
    """`channel` may be ANY. `reason` is for people."""

    channel: str
    reason: str
    suppressed_at: datetime


def channel_fault(channel: str, path: str) -> Fault | None:
    """What is wrong with the name of a channel, or with ANY; None when nothing is."""
    if _CHANNEL.fullmatch(channel):
        return None
    return Fault(
        path=path,
        reason="INVALID_VALUE",
        message=f"a channel consists of a-z 0-9 _ -, at most {MAX_CHANNEL_LENGTH}; {ANY} is any channel",
    )


def reason_fault(reason: str, path: str) -> Fault | None:
    """What is wrong with the reason of a suppression; None when nothing is."""
    if not reason.strip():
        return Fault(path=path, reason="REQUIRED", message="a reason is required")
    if len(reason) > MAX_REASON_LENGTH:
        return Fault(path=path, reason="TOO_LONG", message=f"has at most {MAX_REASON_LENGTH} characters")
    return None


def after(opt_outs: Iterable[tuple[str, str]], changes: Iterable[PreferenceChange]) -> set[tuple[str, str]]:
    """The (channel, category) pairs opted out of after these changes, made in order."""
    pairs = set(opt_outs)
    for change in changes:
        pair = (change.channel, change.category)
        if change.opted_out:
            pairs.add(pair)
        else:
            pairs.discard(pair)
    return pairs
