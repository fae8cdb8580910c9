"""One text for all ways to write the same JSON."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any


def canonical(value: object, *, ascii_only: bool = False) -> str:
    """JSON text that is unchanged by a value being kept in a database: keys sorted, whole floats as the integers that
    their digits are (1e17 is 100000000000000000). 1 and true stay two things. Raises ValueError for what is not JSON:
    NaN and infinities.
    """
    return json.dumps(_whole(value), sort_keys=True, separators=(",", ":"), ensure_ascii=ascii_only, allow_nan=False)


def _whole(value: Any) -> Any:
    match value:
        case dict():
            return {name: _whole(member) for name, member in value.items()}
        case list():
            return [_whole(element) for element in value]
        case float() if value.is_integer():
            return int(Decimal(repr(value)))
        case _:
            return value
