"""What a call is called, in logs, in errors and to its caller."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping

_GIVEN = re.compile(r"[A-Za-z0-9_.:-]{1,64}")


def call_id_of(headers: Mapping[str, str]) -> str:
    """The caller's own `x-request-id` if it is one that logs can hold, else a new id."""
    given = headers.get("x-request-id")
    if given is not None and _GIVEN.fullmatch(given):
        return given
    return f"{random.getrandbits(128):032x}"  # has to differ, not to be secret
