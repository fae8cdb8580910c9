"""`pinpoint`: what was exported from Amazon Pinpoint, for here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from orchestrator.api.json_encode import encode
from orchestrator.api.json_exports import export_faults, export_from_document
from orchestrator.api.json_text import parse_json
from orchestrator.cli.bundle_files import write_bundle
from orchestrator.cli.connection import call
from orchestrator.cli.documents import sentence_of
from orchestrator.cli.failure import USAGE, CommandFailure
from orchestrator.cli.files import STDIN, read_text
from orchestrator.cli.output import Output, print_list
from orchestrator.client import messages
from orchestrator.predicates.faults import Wrong

app = typer.Typer(no_args_is_help=True, help="Translate what was exported from Amazon Pinpoint.")

_COLUMNS = ("kind", "path", "value", "message")
_RECORD = "record"


@app.callback()
def _pinpoint() -> None:
    pass


@app.command()
def translate(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="EXPORT...",
            help="JSON as `aws pinpoint get-journey`, get-segment, get-segments, get-email-template … print it; a "
            "directory for all in it, - for stdin.",
        ),
    ],
    bundle: Annotated[
        Path,
        typer.Option(
            "--bundle", "-o", help="Write the bundle to this file: YAML, or JSON if it ends so.", metavar="FILE"
        ),
    ],
    sms_url: Annotated[str, typer.Option(help="Where text messages shall go: an https URL that takes webhooks.")] = "",
    push_url: Annotated[str, typer.Option(help="Where push notifications shall go, likewise.")] = "",
    records: Annotated[
        bool, typer.Option("--records", help="Tell also of ids, dates and tags, on which nothing depends.")
    ] = False,
    output: Annotated[Output, typer.Option("--output", help="Findings for people, or for programs.")] = Output.TABLE,
) -> None:
    """Translate an export into a bundle, and tell everything that has no counterpart or behaves otherwise.

    Nothing is changed on the server: `import` takes the bundle. Journeys in it are drafts.
    """
    if str(bundle) in {output.value for output in Output}:
        raise CommandFailure(f"-o names the file of the bundle: ./{bundle} for one of that name.", USAGE)
    exports = [placed for file in files for path in _files_of(file) for placed in _exports(path)]
    request = messages.TranslatePinpointRequest(
        exports=[export_from_document(document) for _, document in exports], sms_url=sms_url, push_url=push_url
    )
    answer = call(lambda client: client.pinpoint.TranslatePinpoint(request))
    write_bundle(answer.bundle, bundle)
    told = [_told(encode(finding), [place for place, _ in exports]) for finding in answer.findings]
    shown = [finding for finding in told if records or finding["kind"] != _RECORD]
    print_list(shown, _COLUMNS, output)
    made = ", ".join(
        f"{len(some)} {what}"
        for some, what in (
            (answer.bundle.segments, "segments"),
            (answer.bundle.audiences, "audiences"),
            (answer.bundle.communications, "communications"),
            (answer.bundle.journeys, "journeys"),
        )
    )
    left = f"; {len(told) - len(shown)} more on Pinpoint's own records (--records)" if len(told) > len(shown) else ""
    typer.echo(f"{made} are in {bundle}. {len(shown)} findings{left}.", err=True)


def _files_of(file: Path) -> list[Path]:
    if file == STDIN or not file.is_dir():
        return [file]
    found = sorted(path for path in file.rglob("*.json") if path.is_file())
    if not found:
        raise CommandFailure(f"There is no .json file in {file}.", USAGE)
    return found


def _exports(path: Path) -> list[tuple[str, Any]]:
    """The objects in a file, one or a list of them, each with its place. Raises CommandFailure if it cannot be read."""
    try:
        document = parse_json(read_text(path).encode())
    except (Wrong, json.JSONDecodeError, UnicodeEncodeError) as error:
        raise CommandFailure(f"{path}: {error}.", USAGE) from error
    listed = isinstance(document, list)
    placed = [
        (f"{path}[{index}]" if listed else str(path), one)
        for index, one in enumerate(document if listed else [document])
    ]
    faults = [(place, fault) for place, one in placed for fault in export_faults(one, "")]
    if faults:
        raise CommandFailure("\n".join(sentence_of(place, fault) for place, fault in faults), USAGE)
    return placed


def _told(finding: dict[str, Any], places: list[str]) -> dict[str, Any]:
    """With the file for its number among the exports."""
    number, _, rest = finding["path"].removeprefix("exports[").partition("]")
    if not number.isdigit():
        return finding
    return {**finding, "path": f"{places[int(number)]}: {rest.removeprefix('.')}"}
