"""`journeys arms`: how the arms of adaptive branches do, drawn; `journeys choices`: who was chosen for, and why."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

import typer
from rich.text import Text

from orchestrator.api.json_encode import encode
from orchestrator.cli.charts import BLANK, interval, percent, right, spark, width_of
from orchestrator.cli.connection import call
from orchestrator.cli.output import Output, OutputOption, console, plain_table, print_json, print_list, text_of
from orchestrator.cli.resources import Id, Limit, first, page_size
from orchestrator.client import each, messages

Json = dict[str, Any]

#: Cells in which an interval is drawn at most, those that the rest of its line takes; changes of shares that are drawn.
WIDTH, REST, TIMES = 31, 88, 24

_STATES = {
    "learning": "learning: too little is known, or the arms are too close",
    "leading": "leading: one arm is the best with 95 %, for one look. That is no proof",
    "converged": "converged: little can be gained by going on",
    "stalled": "stalled: nobody has come for 14 days",
}


def arms(
    journey_id: Id,
    goal_revision: Annotated[
        int | None, typer.Option(min=1, help="Only of choices measured by this revision of the goal.")
    ] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show how the arms of the journey's adaptive branches do, and how sure that is."""
    request = messages.GetBranchPerformanceRequest(journey_id=journey_id, goal_revision=goal_revision)
    branches = encode(call(lambda client: client.impacts.GetBranchPerformance(request)))["branches"]
    if output is Output.JSON:
        print_json(branches)
        return
    if not branches:
        _say(f"{journey_id} has no adaptive branch.")
    for branch in branches:
        _draw(branch)


def choices(
    journey_id: Id,
    step_id: Annotated[str, typer.Argument(metavar="STEP_ID", help="At which branch.")],
    subject: Annotated[str, typer.Option(metavar="ID", help="Only this one's.")] = "",
    limit: Limit = 100,
    output: OutputOption = Output.TABLE,
) -> None:
    """List choices of arms as they were recorded, newest first: by which probability, and why."""
    request = messages.ListArmChoicesRequest(
        journey_id=journey_id, step_id=step_id, subject_id=subject, page_size=page_size(limit)
    )
    found = call(lambda client: first(each(client.impacts.ListArmChoices, request), limit))
    columns = ("chosenAt", "subjectId", "armId", "propensityPpm", "reason", "policyVersion", "convertedAt")
    print_list(found, columns, output)


def _draw(branch: Json) -> None:
    policy = f"policy {branch['policyVersion']}" if branch["policyVersion"] else "no policy yet: arms are alike"
    kind = branch.get("stepKind", "not in the newest version")
    _say(f"\n{branch['stepId']} ({kind}), {policy}")
    state: str = branch["state"]
    _say(_STATES.get(state, state))
    found = branch["arms"]
    ends = [end for arm in found for end in arm["maturedInterval95"]]
    scale = (0.0, max(ends)) if ends else None
    drawn = f"95 % of the matured rate, 0 to {percent(scale[1])}" if scale is not None else ""
    table = plain_table(
        "arm", "share", "reached", "converted", "so far", "matured", "converted", "rate", drawn, "best", title=""
    )
    right(table, "share", "reached", "converted", "so far", "matured", "rate", "best")
    for arm in found:
        table.add_row(*_cells(arm, scale))
    console().print(table)
    _shares(branch)
    for note in _notes(branch):
        _say(note)


def _cells(arm: Json, scale: tuple[float, float] | None) -> Iterable[Text]:
    if arm["maturedInterval95"] and scale is not None:
        low, high = arm["maturedInterval95"]
        drawn = interval(low, high, arm["maturedRate"], scale=scale, width=width_of(WIDTH, REST))
    else:
        drawn = f"too few to tell: {arm['maturedSubjects']:,} of 200"
    share = f"{arm['currentShare']:.1%}" if "currentShare" in arm else "–"
    return map(
        text_of,
        (
            arm["armId"],
            share if arm["running"] else "stopped",
            f"{arm['subjectsReached']:,}",
            f"{arm['goalEvents']:,}",
            percent(arm.get("rate")),
            f"{arm['maturedSubjects']:,}",
            f"{arm['maturedGoalEvents']:,}",
            percent(arm.get("maturedRate")),
            drawn,
            f"{arm['probBest']:.0%}" if "probBest" in arm else BLANK,
        ),
    )


def _shares(branch: Json) -> None:
    history = branch["shareHistory"]
    if len(history) < 2:
        return
    step = max(len(history) / TIMES, 1.0)
    shown = [history[min(int(place * step), len(history) - 1)] for place in range(min(TIMES, len(history)))]
    shown[-1] = history[-1]
    since = f"shares since {history[0]['since'][:10]}, at {len(shown)} of {len(history)} changes"
    table = plain_table("", since, "now", title="")
    for arm_id in sorted({arm_id for shares in history for arm_id in shares["shares"]}):
        values = [shares["shares"].get(arm_id) for shares in shown]
        table.add_row(text_of(arm_id), Text(spark(values, highest=1.0)), percent(values[-1]))
    console().print(table)


def _notes(branch: Json) -> Iterable[str]:
    pending = sum(arm["pendingSubjects"] for arm in branch["arms"])
    if pending:
        yield f"the windows of {pending:,} are open: compare arms by the matured rate, not by the one so far"
    if len(branch["goalRevisions"]) > 1:
        yield "the goal was changed: each choice is measured by the one its enrollment came in under"
    if branch["lateConversions"]:
        yield f"{branch['lateConversions']:,} converted by events that came in late, which count"
    if "improvementOverEqual" in branch:
        yield f"conversions beyond those of equal shares: {branch['improvementOverEqual']:+,.1f}"
    if branch.get("sampleRatio", {}).get("alarm"):
        p_value = branch["sampleRatio"]["pValue"]
        yield f"ALARM: arms were not given out as the propensities say (p = {p_value:.1g}). Trust nothing here."


def _say(line: str) -> None:
    console().print(text_of(line), soft_wrap=True)
