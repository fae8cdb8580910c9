"""What the demo prints at its end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from urllib.parse import quote

from rich.console import Console
from rich.table import Table

from orchestrator.cli.demo_ledger import Difference, Ledger
from orchestrator.cli.output import plain_table

#: More would not tell more.
_DIFFERENCES_SHOWN = 25

_RESULTS = ("executed", "skipped", "failed")


def show_ledger(
    console: Console, ledger: Ledger, *, steps: Sequence[str], seconds: float, where_to_look: Sequence[str]
) -> None:
    """The counts that the ledgers add up to. `steps` are the journey's, in order."""
    travels = [travel for of_subject in ledger.travels.values() for travel in of_subject]
    visits = Counter((visit[0], visit[1]) for travel in travels for visit in travel.visits)
    by_step = plain_table("visits by step", *_RESULTS)
    for step in steps:
        by_step.add_row(step, *(str(visits[step, result]) for result in _RESULTS))
    console.print(_counts("executions by outcome", Counter(travel.outcome for travel in travels)), "")
    console.print(_right(by_step), "")
    console.print(_counts("sends by outcome", Counter(send[2] for travel in travels for send in travel.sends)), "")
    console.print(_counts("refused by reason", Counter(ledger.refused)), "")
    console.print(f"wall time {seconds:.1f} s, from the first event to the end of the last execution")
    for line in where_to_look:
        console.print(line, soft_wrap=True)


def show_verdict(console: Console, differences: Sequence[Difference], *, people: int, entries: int) -> None:
    """Whether the ledgers are what they must be."""
    if not differences:
        console.print(
            f"The ledgers equal the recount: {people} people, each step and message of theirs, "
            f"and {entries} refused entries.",
            soft_wrap=True,
        )
        return
    table = plain_table("of", "what", "must be", "is in the ledger")
    for difference in differences[:_DIFFERENCES_SHOWN]:
        table.add_row(difference.of, difference.what, difference.expected, difference.found)
    console.print(f"The ledgers differ from the recount in {len(differences)} places:", "", table, sep="\n")
    if len(differences) > _DIFFERENCES_SHOWN:
        console.print(f"… and {len(differences) - _DIFFERENCES_SHOWN} more")


def page_of(temporal_ui: str, namespace: str, workflow_id: str) -> str:
    """The address of a workflow in Temporal's pages."""
    return f"{temporal_ui}/namespaces/{quote(namespace, safe='')}/workflows/{quote(workflow_id, safe='')}"


def _counts(title: str, counts: Counter[str]) -> Table:
    table = plain_table(title, "")
    for name, total in counts.most_common():
        table.add_row(name, str(total))
    return _right(table)


def _right(table: Table) -> Table:
    """Numbers, all but the first column, under each other."""
    for column in table.columns[1:]:
        column.justify = "right"
    return table
