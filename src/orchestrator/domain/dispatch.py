"""How much one call may work through of what waits to be acted on."""

from __future__ import annotations

from datetime import timedelta

#: Subjects of one call: named ones, and altogether.
MAX_NAMED = 1_000
DEFAULT_SUBJECTS, MAX_SUBJECTS = 1_000, 10_000
#: What is begun within it has ended, and been told, before the ten seconds of a call are over.
DEFAULT_TIME_LIMIT, MAX_TIME_LIMIT = timedelta(seconds=5), timedelta(seconds=8)
MIN_TIME_LIMIT = timedelta(milliseconds=1)
