"""What people send who mean harm, and what harms by accident: lists of texts, by what they are after."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

_HERE = Path(__file__).parent


@cache
def hostile(name: str) -> tuple[str, ...]:
    """All texts of `{name}.json`, in its order: injections, forbidden_urls, good_urls, template_escapes, texts."""
    groups: dict[str, list[str]] = json.loads((_HERE / f"{name}.json").read_text(encoding="ascii"))
    return tuple(text for group in groups.values() for text in group)
