"""The stored histories: one file each, in the directory of the release whose workers wrote it. None is ever removed.

Those that lie beside the directories were stored one by one before there were releases.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from temporalio.client import WorkflowHistory

HISTORIES = Path(__file__).parent / "histories"

#: What is recorded now belongs to it.
RELEASE = version("orchestrator")

#: The directory, within that of a release, of histories that are encrypted; and the Temporal namespace in which all of
#: them lived, since each key is for one workflow of one namespace.
ENCRYPTED = "encrypted"
ENCRYPTED_NAMESPACE = "encrypted-histories"


@cache
def stored() -> Mapping[str, WorkflowHistory]:
    """Those that are not encrypted, by their files' names."""
    return dict(_read(encrypted=False))


@cache
def stored_encrypted() -> Mapping[str, WorkflowHistory]:
    """Those that are, each under the id of its workflow, for which its key is."""
    return dict(_read(encrypted=True))


def _read(*, encrypted: bool) -> Iterator[tuple[str, WorkflowHistory]]:
    for file in sorted(HISTORIES.rglob("*.json")):
        if (file.parent.name == ENCRYPTED or file.name in _ENCRYPTED_BEFORE) is encrypted:
            text, name = file.read_text(), str(file.relative_to(HISTORIES).with_suffix(""))
            history = WorkflowHistory.from_json(name, text)
            yield name, WorkflowHistory(started_id(history), history.events) if encrypted else history


#: Stored before there were releases: in which namespace.
_ENCRYPTED_BEFORE: Mapping[str, str] = {
    "encrypted-subject-changed.1.json": "test-25f2c8f86b9044e48a30ece0c175322e",
    "encrypted-waited-for-in-vain.1.json": "test-d607c76e99c54ff0890e986981ebcaff",
}


def namespace_of(name: str) -> str:
    """Where a history that is encrypted lived."""
    return _ENCRYPTED_BEFORE.get(f"{name}.json", ENCRYPTED_NAMESPACE)


def started_id(history: WorkflowHistory) -> str:
    return history.events[0].workflow_execution_started_event_attributes.workflow_id


def type_of(history: WorkflowHistory) -> str:
    """The name of its workflow."""
    return history.events[0].workflow_execution_started_event_attributes.workflow_type.name


def keep(name: str, history: WorkflowHistory, *, encrypted: bool = False) -> None:
    """Store a history of today, unless this release has one of the name: what is stored stays.

    Without stack traces, which replay does not need and which say where somebody's checkout is.
    """
    directory = HISTORIES / RELEASE / (ENCRYPTED if encrypted else "")
    file = directory / f"{name}.json"
    if file.exists():
        return
    directory.mkdir(parents=True, exist_ok=True)
    document = json.loads(history.to_json(), object_hook=_without_stack_trace)
    file.write_text(json.dumps(document, indent=1) + "\n")


def _without_stack_trace(members: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in members.items() if key != "stackTrace"}
