"""The verbs that all kinds have in common."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any

import typer
from google.protobuf.message import Message

from orchestrator.api.json_encode import encode
from orchestrator.cli.connection import call
from orchestrator.cli.kinds import Kind
from orchestrator.cli.output import Output, OutputOption, print_list, print_one

Limit = Annotated[int, typer.Option(help="At most so many, newest first.", min=1)]
Id = Annotated[str, typer.Argument(metavar="ID", help="Which.")]


def noun(kind: Kind) -> typer.Typer:
    """The commands of a noun that is written by `apply`: list, get, delete."""
    app = reading(kind)

    @app.command(help=f"Delete one of the {kind.plural}.")
    def delete(resource_id: Id) -> None:
        call(lambda client: kind.delete(client, resource_id))
        typer.echo(f"Deleted {kind.word} {resource_id}.", err=True)

    return app


def reading(kind: Kind) -> typer.Typer:
    """The same without delete."""
    app = typer.Typer(help=f"Look at {kind.plural}, or delete them; `apply` writes them.", no_args_is_help=True)
    add_get(app, kind)

    @app.command("list", help=f"List {kind.plural}, newest first.")
    def list_(limit: Limit = 100, output: OutputOption = Output.TABLE) -> None:
        found = call(lambda client: first(kind.each(client, page_size=page_size(limit)), limit))
        print_list(found, kind.columns, output)

    return app


def add_get(app: typer.Typer, kind: Kind) -> None:
    @app.command(help=f"Show one of the {kind.plural}, whole.")
    def get(resource_id: Id, output: OutputOption = Output.TABLE) -> None:
        print_one(encode(call(lambda client: kind.find(client, resource_id))), output)


async def first(resources: AsyncIterator[Message], limit: int) -> list[dict[str, Any]]:
    """The documents of the first `limit`."""
    found: list[dict[str, Any]] = []
    async for resource in resources:
        found.append(encode(resource))
        if len(found) == limit:
            break
    return found


def page_size(limit: int) -> int:
    """How many to ask for at once of who wants so many."""
    return min(limit, 1000)
