"""All commands, and the one place where failures become sentences and exit codes.

A noun is a module with an `app = typer.Typer(...)` of its own, added here by `app.add_typer`; a verb alone is a
function, added by `app.command`. Commands raise; they neither print errors nor exit.
"""

from __future__ import annotations

import os
import sys
import traceback

import typer

from orchestrator.cli.failure import FAILED, UNAVAILABLE, USAGE, CommandFailure
from orchestrator.cli.migrate import migrate
from orchestrator.cli.serve import serve
from orchestrator.cli.up import up
from orchestrator.cli.worker import worker
from orchestrator.devstack.failure import StackFailure
from orchestrator.settings import InvalidSettings
from orchestrator.storage.migrations import SchemaRefused
from orchestrator.storage.reachability import DatabaseUnreachable

app = typer.Typer(
    name="orchestrator",
    help="A self-hosted journey orchestrator.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command()(up)
app.command()(serve)
app.command()(worker)
app.command()(migrate)


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
    try:
        app()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else FAILED
    except CommandFailure as failure:
        return _say(failure, failure.code)
    except InvalidSettings as failure:
        return _say(failure, USAGE)
    except DatabaseUnreachable as failure:
        return _say(failure, UNAVAILABLE)
    except (StackFailure, SchemaRefused) as failure:
        return _say(failure, FAILED)
    except KeyboardInterrupt:
        return 130
    except Exception:
        traceback.print_exc()
        return FAILED
    return 0


def _say(failure: Exception, code: int) -> int:
    typer.echo(f"orchestrator: {failure}", err=True)
    return code
