"""Journeys in files, and what `apply` says of them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

WELCOME = Path(__file__).parents[2] / "examples" / "welcome"

GREETING = """
kind: communication
id: hello
name: Hello
channel: log
category: marketing
subject: Hello
body: There you are.
---
kind: journey
id: greeting
name: Greeting
steps:
  - {id: hello, send: {communicationId: hello}, next: done}
  - {id: done, exit: {reason: greeted}}
"""

TRYING = """
kind: journey
id: trying
name: Trying
goal: {eventName: purchase}
steps:
  - {id: pick, adaptiveBranch: {arms: [{id: a, next: done}, {id: b, next: done}]}}
  - {id: done, exit: {reason: tried}}
"""


def done_with(changes: list[dict[str, Any]]) -> dict[str, str]:
    return {f"{change['kind']} {change['id']}": change["action"] for change in changes}


_EXAMPLES = re.findall(
    r"```yaml\n(.*?)```",
    (Path(__file__).parents[2] / "docs" / "journeys.md").read_text(encoding="utf-8"),
    re.DOTALL,
)
#: With each kind of wait, a split, and exit rules; and one with steps that do something besides sending.
RENEWAL = next(block for block in _EXAMPLES if "exitRules" in block)
CHECK = next(block for block in _EXAMPLES if "emitEvent" in block)


def _communications(*names: str) -> str:
    return "".join(
        f"kind: communication\nid: {name}\nname: {name}\nchannel: log\ncategory: marketing\nsubject: S\nbody: B\n---\n"
        for name in names
    )


REMINDERS = _communications("renewal", "discount")
#: With steps that learn.
WIN_BACK = _communications("discount", "video", "article") + next(
    block for block in _EXAMPLES if "adaptiveBranch" in block
)
