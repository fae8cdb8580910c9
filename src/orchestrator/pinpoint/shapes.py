"""The shapes of Pinpoint's API: which members there are, and of which types. `shapes.json` says where it is from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

#: What requests and responses call otherwise, and what is the same.
ALIASES: Mapping[str, str] = {
    "JourneyResponse": "Journey",
    "WriteJourneyRequest": "Journey",
    "SegmentResponse": "Segment",
    "WriteSegmentRequest": "Segment",
    "EmailTemplateResponse": "EmailTemplate",
    "EmailTemplateRequest": "EmailTemplate",
    "SMSTemplateResponse": "SMSTemplate",
    "SMSTemplateRequest": "SMSTemplate",
    "PushNotificationTemplateResponse": "PushNotificationTemplate",
    "PushNotificationTemplateRequest": "PushNotificationTemplate",
}


@cache
def structures() -> Mapping[str, Mapping[str, Any]]:
    """Structure → member → type: `string`, `integer`, `double`, `boolean`, `timestamp`, the name of a structure, or an
    object with `list`, `map` (perhaps `keys`) or `enum`."""
    text = (files("orchestrator.pinpoint") / "shapes.json").read_text(encoding="utf-8")
    found: Mapping[str, Mapping[str, Any]] = json.loads(text)["structures"]
    return found


def plain_name(structure: str) -> str:
    """The name by which `notes.py` knows a structure."""
    return ALIASES.get(structure, structure)
