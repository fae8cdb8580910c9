"""`journeys diff`: what `apply` would change, field by field."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from rich.text import Text

from orchestrator.api.field_masks import json_path, paths_of_message
from orchestrator.cli.changes import Change, Prospect, find_changes
from orchestrator.cli.connection import call
from orchestrator.cli.differences import ABSENT, Difference, differences
from orchestrator.cli.documents import Document, read_documents
from orchestrator.cli.failure import DIFFERS
from orchestrator.cli.files import Files
from orchestrator.cli.kinds import JOURNEY
from orchestrator.cli.output import Output, OutputOption, console, print_json, text_of
from orchestrator.cli.publication import Publication, find_publication, newest_version
from orchestrator.cli.written import written
from orchestrator.cli.yaml_text import write_value
from orchestrator.client import OrchestratorClient, each, messages

_CREATE, _UPDATE, _NONE = "create", "update", "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What would become of one document. `untouched`: members of the definition of which it does not speak."""

    change: Change
    differences: Sequence[Difference]
    publication: Publication | None
    published: Sequence[Difference]
    draft_of: int | None
    untouched: Sequence[str]

    @property
    def action(self) -> str:
        return _CREATE if self.change.found is None else _UPDATE if self.change.paths else _NONE

    @property
    def differs(self) -> bool:
        return self.action != _NONE or self.publication is not None

    def told(self) -> dict[str, Any]:
        document = self.change.document
        told: dict[str, Any] = {"kind": document.kind.word, "id": document.id, "place": document.place}
        told |= {"action": self.action, "differences": [one.told() for one in self.differences]}
        if self.draft_of is not None:
            told["draftOfVersion"] = self.draft_of
        if self.publication is not None:
            newest = self.publication.newest
            told["publish"] = {
                "newestVersion": newest.version if newest is not None else None,
                "differences": [one.told() for one in self.published],
                "communications": {
                    one: {"old": old, "new": new} for one, (old, new) in self.publication.communications.items()
                },
            }
        return told


def diff(
    files: Files,
    publish: Annotated[bool, typer.Option(help="Count what is not published, as `apply` would publish it.")] = True,
    everything: Annotated[
        bool, typer.Option("--all", help="Mention also what is only on the server, and what no file speaks of.")
    ] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show what `apply` would change, field by field, and change nothing; exit code 6 if it would change anything.

    A journey differs also when it is not published as it stands: a draft is left, or what it sends has a new text.
    """
    documents = read_documents(files)

    async def look(client: OrchestratorClient) -> tuple[list[Outlook], list[str]]:
        outlooks = await _outlooks(client, documents, publish=publish)
        return outlooks, await _only_there(client, documents) if everything else []

    outlooks, only_there = call(look)
    differing = [outlook for outlook in outlooks if outlook.differs]
    if output is Output.JSON:
        told = [o.told() | ({"untouched": list(o.untouched)} if everything else {}) for o in outlooks]
        print_json([*told, *({"kind": JOURNEY.word, "id": one, "action": "unmanaged"} for one in only_there)])
    else:
        for outlook in differing:
            _print(outlook)
        for outlook in outlooks if everything else ():
            if outlook.untouched:
                members = ", ".join(outlook.untouched)
                _print_line("  ", f"{outlook.change.document} does not speak of: {members}", "dim")
        for one in only_there:
            _print_line("  ", f"journey {one} is only on the server", "dim")
    typer.echo(f"{len(differing)} of {len(outlooks)} differ." if differing else "Nothing differs.", err=True)
    raise typer.Exit(DIFFERS if differing else 0)


async def _outlooks(client: OrchestratorClient, documents: Sequence[Document], *, publish: bool) -> list[Outlook]:
    changes = await find_changes(client, documents)
    prospect = Prospect(client, changes)
    return [await _outlook(client, prospect, change, publish=publish) for change in changes]


async def _outlook(client: OrchestratorClient, prospect: Prospect, change: Change, *, publish: bool) -> Outlook:
    kind, found, after = change.document.kind, change.found, change.after
    publication, published, draft_of, untouched = None, list[Difference](), None, list[str]()
    if kind is JOURNEY:
        if publish:
            publication = await find_publication(client, prospect, after)
        if publication is not None and publication.newest is not None:
            published = _definitions(publication.newest.definition, after.definition)
        if found is not None:
            newest = await newest_version(client, found) if found.has_draft else None
            if newest is not None and newest.definition != found.definition:
                draft_of = newest.version
            paths = (path for path in paths_of_message(found) if path.startswith("definition."))
            untouched = [json_path(found.DESCRIPTOR, path) for path in paths if path not in change.document.paths]
    before = {} if found is None else written(kind, found)
    new = written(kind, after)
    if found is None:
        del new["id"]
    return Outlook(
        change=change,
        differences=list(differences(before, new)),
        publication=publication,
        published=published,
        draft_of=draft_of,
        untouched=untouched,
    )


def _definitions(old: messages.JourneyDefinition, new: messages.JourneyDefinition) -> list[Difference]:
    before, after = (written(JOURNEY, messages.Journey(definition=one)) for one in (old, new))
    return list(differences(before, after))


async def _only_there(client: OrchestratorClient, documents: Sequence[Document]) -> list[str]:
    """The journeys of which no document speaks, archived ones left out."""
    spoken_of = {document.id for document in documents if document.kind is JOURNEY}
    there = [
        journey.id
        async for journey in each(client.journeys.ListJourneys, messages.ListJourneysRequest(page_size=1000))
        if journey.status != messages.Journey.STATUS_ARCHIVED
    ]
    return sorted(one for one in there if one not in spoken_of)


def _print(outlook: Outlook) -> None:
    sign, style = {_CREATE: ("+ ", "green"), _UPDATE: ("~ ", "yellow"), _NONE: ("~ ", "yellow")}[outlook.action]
    _print_line(sign, str(outlook.change.document), f"bold {style}")
    if outlook.draft_of is not None:
        _print_line("    ", f"on the server is a draft that is not version {outlook.draft_of}", "dim")
    for difference in outlook.differences:
        _print_difference(difference, "    ")
    publication = outlook.publication
    if publication is None:
        return
    if publication.newest is None:
        _print_line("  > ", "is published for the first time", "cyan")
        return
    _print_line("  > ", f"is published after version {publication.newest.version}", "cyan")
    # Without a draft, the difference to the newest version is the one above.
    for difference in outlook.published if outlook.draft_of is not None else ():
        _print_difference(difference, "      ")
    for one, (old, new) in publication.communications.items():
        _print_line("      ", f"communication {one}: revision {old} -> {new}")


def _print_difference(difference: Difference, indent: str) -> None:
    old, new = difference.old, difference.new
    if isinstance(old, str) and isinstance(new, str) and "\n" in old + new:
        _print_line(indent, f"{difference.path}:")
        lines = list(difflib.unified_diff(old.splitlines(), new.splitlines(), lineterm="", n=1))[2:]
        for line in lines:
            _print_line(f"{indent}  ", line, {"+": "green", "-": "red"}.get(line[0], "dim"))
        if not lines:  # they differ in how they end
            _print_line(f"{indent}  ", f"{write_value(old)} -> {write_value(new)}")
        return
    values = Text()
    if old is not ABSENT:
        values.append_text(_value(old, "red"))
        values.append(" -> " if new is not ABSENT else " (removed)")
    if new is not ABSENT:
        values.append_text(_value(new, "green"))
    console().print(Text.assemble(indent, text_of(difference.path), ": ", values), soft_wrap=True)


def _value(value: Any, style: str) -> Text:
    text = text_of(write_value(value))
    text.stylize(style)
    return text


def _print_line(indent: str, line: str, style: str = "") -> None:
    text = text_of(line)
    text.stylize(style)
    console().print(Text.assemble(indent, text), soft_wrap=True)
