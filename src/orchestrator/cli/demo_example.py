"""The example that comes with the product, and where its files are."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orchestrator
from orchestrator.cli.documents import Document, read_documents
from orchestrator.cli.kinds import JOURNEY, TRIGGER_CONTRACT, Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """Definitions to apply, people, and what happens to them, in order.

    A person has `id` and `attributes`, and may have `optOut` and `suppressed`: before anything happens, or `after` they
    have passed a step. An event is as the API has it.
    """

    documents: Sequence[Document]
    people: Sequence[dict[str, Any]]
    events: Sequence[dict[str, Any]]

    @property
    def journey_id(self) -> str:
        return self._only(JOURNEY).id

    @property
    def steps(self) -> list[str]:
        """The journey's, in order."""
        return [step.id for step in self._only(JOURNEY).resource.definition.steps]

    @property
    def trigger(self) -> str:
        """The name of the event that lets people in."""
        name: str = self._only(TRIGGER_CONTRACT).resource.event_name
        return name

    @property
    def subject_ids(self) -> frozenset[str]:
        return frozenset(person["id"] for person in self.people)

    def again(self, number: int) -> Example:
        """The same with other people, for the `number`-th time that it is run in one place.

        The second time `u001` is `u001.2`, and so on: their history would count, and an event is accepted once.
        """
        if number == 1:
            return self
        return Example(
            documents=self.documents,
            people=[{**person, "id": f"{person['id']}.{number}"} for person in self.people],
            events=[
                {**event, "eventId": f"{event['eventId']}.{number}", "subjectId": f"{event['subjectId']}.{number}"}
                for event in self.events
            ],
        )

    def _only(self, kind: Kind) -> Document:
        (document,) = (document for document in self.documents if document.kind is kind)
        return document


def read_example(directory: Path | None = None) -> Example:
    """The example in a directory; without one, that which comes with the product. Raises CommandFailure."""
    directory = directory or _welcome()
    return Example(
        documents=read_documents([directory]),
        people=list(_lines(directory / "subjects.jsonl")),
        events=list(_lines(directory / "events.jsonl")),
    )


def _welcome() -> Path:
    """In the installed package, else in the source tree."""
    package = Path(orchestrator.__file__).parent
    installed = package / "examples" / "welcome"
    return installed if installed.is_dir() else package.parent.parent / "examples" / "welcome"


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)
