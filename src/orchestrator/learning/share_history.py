"""How the shares of a branch came to be what they are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class SharesSince:
    """The shares of a policy version, in millionths, and when it was published."""

    version: int
    since: datetime
    ppm: tuple[tuple[str, int], ...]


def share_history(versions: Iterable[SharesSince], *, at_most: int = 200) -> tuple[SharesSince, ...]:
    """Versions in their order, of which those that changed no share are left out. When there are more than `at_most`,
    time is cut into equal parts and the last version of each is told; the first is told in any case.
    """
    changes: list[SharesSince] = []
    for version in sorted(versions, key=lambda each: each.version):
        if not changes or changes[-1].ppm != version.ppm:
            changes.append(version)
    if len(changes) <= at_most:
        return tuple(changes)
    begin, parts = changes[0].since, max(at_most - 1, 1)
    whole = (changes[-1].since - begin).total_seconds() or 1.0
    last_of_part = {
        min(int((change.since - begin).total_seconds() / whole * parts), parts - 1): change for change in changes[1:]
    }
    return (changes[0], *last_of_part.values())
