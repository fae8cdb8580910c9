"""Exit codes.

0 done, 1 refused or impossible, 2 wrong usage, 3 not found, 4 not allowed, 5 a part is away, 6 it differs.
"""

from __future__ import annotations

FAILED = 1
USAGE = 2
NOT_FOUND = 3
NOT_ALLOWED = 4
UNAVAILABLE = 5
DIFFERS = 6


class CommandFailure(Exception):
    """The command cannot be done. The message is one sentence for a person; `code` is the exit code."""

    def __init__(self, message: str, code: int = FAILED) -> None:
        super().__init__(message)
        self.code = code
