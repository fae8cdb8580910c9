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


def done_with(changes: list[dict[str, Any]]) -> dict[str, str]:
    return {f"{change['kind']} {change['id']}": change["action"] for change in changes}


#: With every kind of step, each kind of wait, and exit rules.
RENEWAL = next(
    block
    for block in re.findall(
        r"```yaml\n(.*?)```",
        (Path(__file__).parents[2] / "docs" / "journeys.md").read_text(encoding="utf-8"),
        re.DOTALL,
    )
    if "exitRules" in block
)
REMINDERS = "".join(
    f"kind: communication\nid: {name}\nname: {name}\nchannel: log\ncategory: marketing\nsubject: S\nbody: B\n---\n"
    for name in ("renewal", "discount")
)
