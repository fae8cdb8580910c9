"""What a communication would say, without anybody being sent anything."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from asyncpg import Connection, Record

from orchestrator.application import communications, subjects
from orchestrator.domain.channels import HTML_TEMPLATES, Rules
from orchestrator.domain.communication import Communication, content_of, faults_in
from orchestrator.domain.fillings import Source
from orchestrator.domain.refusals import InvalidArgument, NotFound
from orchestrator.domain.scope import Scope
from orchestrator.domain.templates import TemplateFailed, render
from orchestrator.predicates.faults import Fault, under
from orchestrator.predicates.reveal import Reveal
from orchestrator.storage import communications as stored
from orchestrator.storage import projects

#: Renders at a time. One takes half a second of a core at most, and leaves the loop to others meanwhile.
_AT_ONCE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What to show, and to whom. `content_revision` 0: the newest. `attributes` None: those of the subject, if any."""

    communication_id: str
    content_revision: int
    content: Communication | None
    subject_id: str
    attributes: Mapping[str, Any] | None
    entry: Mapping[str, Any]
    show_values: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """A communication as it would be handed to its channel. `content_revision` 0: it was given, not stored."""

    channel: str
    category: str
    content_revision: int
    subject: str
    body: str
    settings: Mapping[str, Any]


def variables_of(source: Source) -> dict[str, Any]:
    """What templates read where nothing is sent: there is no link to unsubscribe by."""
    return {**source.variables, "unsubscribe_url": None}


def templates_in(content: Mapping[str, Any]) -> dict[str, tuple[str, bool]]:
    """The templates of a revision and whether each is HTML, by name."""
    templates = {"subject": (content["subject"], False), "body": (content["body"], False)}
    for name in HTML_TEMPLATES.get(content["channel"], ()):
        if content["settings"].get(name) is not None:
            templates[f"settings.{name}"] = (content["settings"][name], True)
    return templates


def put_together(content: Mapping[str, Any], revision: int, texts: Mapping[str, str]) -> Preview:
    """A revision with the texts that its templates gave."""
    settings = {name: texts.get(f"settings.{name}", value) for name, value in content["settings"].items()}
    return Preview(
        channel=content["channel"],
        category=content["category"],
        content_revision=revision,
        subject=texts["subject"],
        body=texts["body"],
        settings=settings,
    )


class Previews:
    """`rules` are what this instance allows channels."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def show(self, conn: Connection[Record], scope: Scope, asked: Asked) -> Preview:
        """Render it as a worker would. A real subject's values are masked unless they are asked for, or stand in the
        project's shown fields.

        Raises InvalidArgument with all faults, NotFound COMMUNICATION_NOT_FOUND, SUBJECT_NOT_FOUND.
        """
        if faults := self._faults(asked):
            raise InvalidArgument(faults)
        content, revision = await _content(conn, scope, asked)
        attributes: Mapping[str, Any] = asked.attributes or {}
        if asked.subject_id:
            attributes = (await subjects.find(conn, scope.project_no, asked.subject_id))[1].attributes
        variables = variables_of(Source(subject_id=asked.subject_id, attributes=attributes, entry=asked.entry))
        reveal: Reveal | None = None
        if asked.subject_id and not asked.show_values:
            reveal = (await projects.get(conn, scope.project_no)).settings.reveal
        path = "content" if asked.content is not None else ""
        texts = await self._rendered(templates_in(content), variables, reveal, path)
        return put_together(content, revision, texts)

    def _faults(self, asked: Asked) -> list[Fault]:
        faults = []
        if asked.content is None and not asked.communication_id:
            message = "either a stored communication is shown, or one that is given"
            faults.append(Fault(path="communicationId", reason="REQUIRED", message=message))
        if asked.content is not None:
            if asked.communication_id:
                message = "a stored communication is shown, or one that is given, not both"
                faults.append(Fault(path="communicationId", reason="INVALID_VALUE", message=message))
            faults += faults_in(asked.content, "content", self._rules)
        if asked.subject_id and asked.attributes is not None:
            message = "it is shown to a subject, or with given attributes, not both"
            faults.append(Fault(path="attributes", reason="INVALID_VALUE", message=message))
        return faults

    async def _rendered(
        self, templates: Mapping[str, tuple[str, bool]], variables: Mapping[str, Any], reveal: Reveal | None, path: str
    ) -> dict[str, str]:
        """The texts of these (template, whether it is HTML), by name. Raises InvalidArgument for those without."""
        texts, faults = {}, []
        async with self._turns:
            for name, (source, is_html) in templates.items():
                try:
                    texts[name] = await asyncio.to_thread(render, source, variables, escape_html=is_html, reveal=reveal)
                except TemplateFailed as failed:
                    faults.append(Fault(path=under(path, name), reason="TEMPLATE_FAILED", message=str(failed)))
        if faults:
            raise InvalidArgument(faults)
        return texts


async def _content(conn: Connection[Record], scope: Scope, asked: Asked) -> tuple[Mapping[str, Any], int]:
    """What is to be shown, and which revision it is. Raises NotFound."""
    if asked.content is not None:
        return content_of(asked.content), 0
    if not asked.content_revision:
        newest = (await communications.get(conn, scope, asked.communication_id)).content
        return content_of(newest), newest.content_revision
    found = await stored.revisions(
        conn, scope.project_no, asked.communication_id, before=asked.content_revision + 1, limit=1
    )
    if not found or found[0].content_revision != asked.content_revision:
        raise NotFound(
            "COMMUNICATION_NOT_FOUND",
            f"there is no revision {asked.content_revision} of this communication",
            communicationId=asked.communication_id,
        )
    return found[0].content, asked.content_revision
