from __future__ import annotations

from datetime import UTC, datetime
from enum import Enum
from typing import Annotated, Any

import typer

from orchestrator.api.json_encode import encode
from orchestrator.api.json_values import read_duration
from orchestrator.cli.connection import call
from orchestrator.cli.failure import FAILED, USAGE, CommandFailure
from orchestrator.cli.key_scan import Found, Unread
from orchestrator.cli.key_scan import scan as keys_in
from orchestrator.cli.output import Output, OutputOption, print_list, print_one
from orchestrator.cli.resources import Id, Limit, first, page_size
from orchestrator.client import each, messages
from orchestrator.predicates.faults import Wrong

app = typer.Typer(help="Make API keys of the project, and take them back.", no_args_is_help=True)

_COLUMNS = ("id", "name", "role", "prefix", "createdAt", "expiresAt", "revokedAt", "lastUsedAt")


class Role(Enum):
    VIEWER = "viewer"
    EDITOR = "editor"
    ADMIN = "admin"
    OWNER = "owner"


@app.command()
def create(
    name: Annotated[str, typer.Option(help="What it is for.")],
    role: Annotated[Role, typer.Option(help="What it may do.")] = Role.EDITOR,
    expires_in: Annotated[str, typer.Option(help="Such as 90d; without it, never.", metavar="DURATION")] = "",
    output: OutputOption = Output.TABLE,
) -> None:
    """Make a key. It is shown this once."""
    api_key = messages.ApiKey(name=name, role=messages.Role.Value(f"ROLE_{role.name}"))
    if expires_in:
        api_key.expire_time.FromDatetime(datetime.now(UTC) + _duration("--expires-in", expires_in))
    request = messages.CreateApiKeyRequest(api_key=api_key)
    made = call(lambda client: client.api_keys.CreateApiKey(request))
    print_one(_shown(made.api_key, made.secret), output)


@app.command("list")
def list_(limit: Limit = 100, output: OutputOption = Output.TABLE) -> None:
    """List keys, newest first, without what they consist of."""
    request = messages.ListApiKeysRequest(page_size=page_size(limit))
    found = call(lambda client: first(each(client.api_keys.ListApiKeys, request), limit))
    print_list(found, _COLUMNS, output)


@app.command()
def rotate(
    key_id: Id,
    overlap: Annotated[
        str, typer.Option(help="How long the old one stays valid, such as 1d.", metavar="DURATION")
    ] = "",
    output: OutputOption = Output.TABLE,
) -> None:
    """Make a key that takes over from another. It is shown this once."""
    request = messages.RotateApiKeyRequest(api_key_id=key_id)
    if overlap:
        request.overlap.FromTimedelta(_duration("--overlap", overlap))
    made = call(lambda client: client.api_keys.RotateApiKey(request))
    print_one(_shown(made.api_key, made.secret), output)


@app.command()
def revoke(key_id: Id) -> None:
    """Make a key invalid for ever, within seconds."""
    call(lambda client: client.api_keys.RevokeApiKey(messages.RevokeApiKeyRequest(api_key_id=key_id)))
    typer.echo(f"Revoked {key_id}.", err=True)


@app.command()
def scan(
    paths: Annotated[list[str], typer.Argument(help="Files, directories, or - for stdin.", metavar="PATH…")],
    output: OutputOption = Output.TABLE,
) -> None:
    """Look for keys that somebody has left in files. Asks no server; ends with 1 if there are any.

    Of the history of a repository: `git log -p | orchestrator keys scan -`.
    """
    found, unread = [], []
    for path in paths:
        for one in keys_in(path):
            match one:
                case Found():
                    found.append({"path": one.path, "line": one.line, "prefix": one.prefix})
                case Unread():
                    unread.append(one)
    print_list(found, ("path", "line", "prefix"), output)
    for one in unread:
        typer.echo(f"{one.path} cannot be looked at ({one.why}).", err=True)
    if found:
        typer.echo(f"{len(found)} keys: revoke each (`orchestrator keys list` has its id by the prefix).", err=True)
    if found or unread:
        raise typer.Exit(FAILED)


def _shown(api_key: messages.ApiKey, secret: str) -> dict[str, Any]:
    return {"secret": secret, **encode(api_key)}


def _duration(option: str, text: str) -> Any:
    try:
        return read_duration(text, option)
    except Wrong as wrong:
        raise CommandFailure(f"{option}: {wrong.fault.message}.", USAGE) from None
