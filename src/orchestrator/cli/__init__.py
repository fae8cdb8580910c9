"""The command line. Data goes to stdout, talk to stderr; what a person can mend is one sentence and an exit code."""

from orchestrator.cli.app import main

__all__ = ["main"]
