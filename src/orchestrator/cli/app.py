"""All commands, and the one place where failures become sentences and exit codes.

A command is a module of its name (`import` is `import_`): a noun has an `app = typer.Typer(...)` with its verbs, a verb
alone is a function of the module's name. Commands raise; they neither print errors nor exit.
"""

from __future__ import annotations

import os
import sys
import traceback
from importlib import import_module
from keyword import iskeyword

import typer

from orchestrator.cli.failure import FAILED, UNAVAILABLE, USAGE, CommandFailure

#: In the order in which `--help` has them.
COMMANDS = (
    "up",
    "demo",
    "apply",
    "export",
    "import",
    "journeys",
    "executions",
    "jobs",
    "refusals",
    "subjects",
    "erasures",
    "events",
    "audiences",
    "segments",
    "communications",
    "trigger-contracts",
    "pinpoint",
    "sends",
    "projects",
    "keys",
    "audit",
    "doctor",
    "serve",
    "worker",
    "codec-server",
    "migrate",
    "settings",
)


def command_line(wanted: str | None = None) -> typer.Typer:
    """The application with the command that is wanted, or with all of them if it is not one.

    Importing all takes a second, most of it Temporal's SDK: too long for who only wants to look at something.
    """
    app = typer.Typer(
        name="orchestrator", no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode="markdown"
    )
    app.callback()(_orchestrator)
    for name in (wanted,) if wanted in COMMANDS else COMMANDS:
        assert name is not None
        module_name = f"{name}_" if iskeyword(name) else name.replace("-", "_")
        module = import_module(f"orchestrator.cli.{module_name}")
        if hasattr(module, "app"):
            app.add_typer(module.app, name=name)
        else:
            app.command(name)(getattr(module, module_name))
    return app


def _orchestrator() -> None:
    """A self-hosted journey orchestrator.

    Commands that talk to a server read ORCHESTRATOR_ADDRESS (host:port of gRPC, https:// before it for TLS) and
    ORCHESTRATOR_API_KEY; beside `orchestrator up` they need neither, but ORCHESTRATOR_DATA_DIR where that is not
    .orchestrator. `orchestrator settings` lists all there is.
    """


def main() -> None:
    """Runs the command line and ends the process."""
    code = _run()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            code = code or FAILED
    # Not sys.exit: native threads of Temporal's SDK may touch the interpreter while it is being torn down, which aborts
    # the process after all is done well. Nothing here waits for the teardown.
    os._exit(code)


def _run() -> int:
    # What gRPC's own library has to say about connections is not for who uses a command line.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    try:
        command_line(sys.argv[1] if len(sys.argv) > 1 else None)()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else FAILED
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read us has had enough, as `head` has. The interpreter must not try once more.
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115
        return FAILED
    except Exception as error:
        code = _code_of(error)
        if code is None:
            traceback.print_exc()
            return FAILED
        typer.echo(f"orchestrator: {error}", err=True)
        return code
    return 0


def _code_of(error: Exception) -> int | None:
    """The exit code for what a person can mend; None: it is a fault of ours."""
    if isinstance(error, CommandFailure):
        return error.code
    # Not for every command to wait for.
    from orchestrator.devstack.failure import StackFailure
    from orchestrator.settings import InvalidSettings
    from orchestrator.storage.migrations import SchemaRefused
    from orchestrator.storage.reachability import DatabaseUnreachable
    from orchestrator.storage.rights import RightsMissing

    match error:
        case InvalidSettings():
            return USAGE
        case DatabaseUnreachable():
            return UNAVAILABLE
        case StackFailure() | SchemaRefused() | RightsMissing():
            return FAILED
        case _:
            return None
