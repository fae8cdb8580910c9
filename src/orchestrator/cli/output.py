"""What commands print on stdout: tables for people, JSON for programs."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Annotated, Any

import orjson
import typer
import yaml
from rich.console import Console
from rich.table import Table
from rich.text import Text


class Output(Enum):
    TABLE = "table"
    JSON = "json"


OutputOption = Annotated[Output, typer.Option("--output", "-o", help="For people, or for programs.")]

#: Wide enough for every table: what is read by programs is not cut.
_UNLIMITED = 10_000


def print_list(documents: Iterable[dict[str, Any]], columns: Sequence[str], output: Output) -> None:
    """Several resources: `columns` of them, by their JSON names, or all that there is."""
    if output is Output.JSON:
        print_json(list(documents))
    else:
        print_table(documents, columns)


def print_table(documents: Iterable[dict[str, Any]], columns: Sequence[str], *, title: str | None = None) -> None:
    table = plain_table(*columns, title=title)
    for document in documents:
        table.add_row(*(text_of(document.get(column)) for column in columns))
    console().print(table)


def print_one(document: dict[str, Any], output: Output) -> None:
    """One resource, whole."""
    if output is Output.JSON:
        print_json(document)
        return
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in document.items():
        table.add_row(name, text_of(value, whole=True))
    console().print(table)


def print_json(document: Any) -> None:
    typer.echo(orjson.dumps(document, option=orjson.OPT_INDENT_2))


def plain_table(*columns: str, title: str | None = None) -> Table:
    table = Table(*columns, box=None, pad_edge=False, title=title, title_justify="left", header_style="bold")
    for column in table.columns:
        column.overflow = "fold"
    return table


def console() -> Console:
    return Console(highlight=False, width=None if sys.stdout.isatty() else _UNLIMITED)


def text_of(value: Any, *, whole: bool = False) -> Text:
    """A JSON value for people; objects and lists as YAML if they are to be shown whole."""
    match value:
        case None:
            text = ""
        case bool():
            text = "yes" if value else "no"
        case str() | int() | float():
            text = str(value)
        case _ if whole:
            text = yaml.safe_dump(value, sort_keys=False, allow_unicode=True).rstrip() if value else ""
        case _:
            text = orjson.dumps(value).decode()
    # What callers have stored must not steer the terminal.
    return Text("".join(c if c.isprintable() or c == "\n" else f"\\x{ord(c):02x}" for c in text))
