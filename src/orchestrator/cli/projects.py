from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from google.protobuf.field_mask_pb2 import FieldMask

from orchestrator.api.field_masks import paths_of_document
from orchestrator.api.json_decode import decode
from orchestrator.api.json_encode import encode
from orchestrator.cli.connection import call
from orchestrator.cli.documents import sentence_of
from orchestrator.cli.failure import USAGE, CommandFailure
from orchestrator.cli.files import read_text
from orchestrator.cli.output import Output, OutputOption, print_list, print_one
from orchestrator.cli.resources import Id, Limit, first, page_size
from orchestrator.cli.yaml_text import NotYaml, parse_documents
from orchestrator.client import each, messages
from orchestrator.predicates.faults import Fault

app = typer.Typer(help="Make projects, and change what holds for everything in one.", no_args_is_help=True)

_COLUMNS = ("id", "name", "createdAt", "updatedAt")

Settings = Annotated[
    str, typer.Option(help="A YAML or JSON object; members that it does not have stay as they are.", metavar="OBJECT")
]
SettingsFile = Annotated[
    Path | None, typer.Option("--file", "-f", help="The same in a file; - for stdin.", metavar="PATH")
]
ValidateOnly = Annotated[bool, typer.Option("--validate-only", help="Check it, and change nothing.")]


@app.command("list")
def list_(limit: Limit = 100, output: OutputOption = Output.TABLE) -> None:
    """List the projects of the instance, newest first. Asks with ORCHESTRATOR_OPERATOR_KEY, if it is set."""
    request = messages.ListProjectsRequest(page_size=page_size(limit))
    found = call(lambda client: first(each(client.projects.ListProjects, request), limit), as_operator=True)
    print_list(found, _COLUMNS, output)


@app.command()
def get(project_id: Id, output: OutputOption = Output.TABLE) -> None:
    """Show the project of the key, with its settings; with the operator's key, any."""
    request = messages.GetProjectRequest(project_id=project_id)
    print_one(encode(call(lambda client: client.projects.GetProject(request)).project), output)


@app.command()
def create(
    project_id: Annotated[str, typer.Argument(metavar="[ID]", help="Which; without it, the server makes one.")] = "",
    name: Annotated[str, typer.Option(help="For people.")] = "",
    settings: Settings = "",
    file: SettingsFile = None,
    validate_only: ValidateOnly = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Make a project and its owner's first key, which is shown this once. Asks with ORCHESTRATOR_OPERATOR_KEY, if it is
    set.
    """
    body = {"id": project_id, "name": name or project_id} | _given(settings, file)
    request = messages.CreateProjectRequest(project=_project(body), validate_only=validate_only)
    made = call(lambda client: client.projects.CreateProject(request), as_operator=True)
    if validate_only:
        typer.echo("Nothing is wrong with it; nothing was made.", err=True)
    else:
        print_one({"secret": made.secret, **encode(made.project)}, output)


@app.command()
def update(
    project_id: Id,
    name: Annotated[str, typer.Option(help="For people.")] = "",
    settings: Settings = "",
    file: SettingsFile = None,
    validate_only: ValidateOnly = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Change the name of the key's project, or settings of it: null takes one back. Needs an owner's key."""
    body = ({"name": name} if name else {}) | _given(settings, file)
    if not body:
        raise CommandFailure("Say what to change: --name, --settings or --file.", USAGE)
    mask = FieldMask(paths=paths_of_document(messages.Project.DESCRIPTOR, body))
    request = messages.UpdateProjectRequest(
        project=_project({"id": project_id, **body}), update_mask=mask, validate_only=validate_only
    )
    changed = call(lambda client: client.projects.UpdateProject(request)).project
    if validate_only:
        typer.echo("Nothing is wrong with it; nothing was changed.", err=True)
    else:
        print_one(encode(changed), output)


def _given(settings: str, file: Path | None) -> dict[str, Any]:
    """The settings as a member of a project, if there are any. Raises CommandFailure where they are no document."""
    if settings and file is not None:
        raise CommandFailure("Give --settings or --file, not both.", USAGE)
    if not settings and file is None:
        return {}
    place = "--settings" if file is None else str(file)
    try:
        found = list(parse_documents(settings if file is None else read_text(file)))
    except NotYaml as error:
        raise CommandFailure(f"{place}, {error}.", USAGE) from error
    if len(found) != 1:
        raise CommandFailure(f"{place} must be one object.", USAGE)
    return {"settings": found[0]}


def _project(body: dict[str, Any]) -> messages.Project:
    """Raises CommandFailure with everything that is wrong with the settings."""
    project, faults = decode(messages.Project, body)
    if faults:
        raise CommandFailure("\n".join(_sentence(fault) for fault in faults), USAGE)
    return project


def _sentence(fault: Fault) -> str:
    member, _, path = fault.path.partition(".")
    return sentence_of(f"--{member}", Fault(path=path, reason=fault.reason, message=fault.message))
