"""`journeys impact`: what a journey changed, drawn; `journeys plan-impact`: how long until that can be seen."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.text import Text

from orchestrator.api.json_encode import encode
from orchestrator.cli.charts import BLANK, interval, percent, right, signed, spark, width_of
from orchestrator.cli.connection import call
from orchestrator.cli.output import Output, OutputOption, console, plain_table, print_json, text_of
from orchestrator.cli.resources import Id
from orchestrator.client import messages

Json = dict[str, Any]

#: Cells in which an interval is drawn at most, and those that the rest of its line takes.
WIDTH, REST = 41, 66

_NO_LIFT = {
    "no_goal": "the journey has no goal",
    "nobody_exposed": "nobody was exposed",
    "nobody_held_out": "nobody was held out",
    "holdout_rate_zero": "nobody of those held out converted",
    "sample_ratio_mismatch": "withheld: the sides are not as large as the holdout's share says",
    "holdout_unknown": "withheld: by which share they were held out was not recorded then",
    "holdout_changed": "withheld: the holdout was changed, and subjects changed sides within their window",
}

_FEW = {
    "few_subjects": "fewer than 100 subjects on a side: this says next to nothing",
    "few_conversions": "fewer than 10 conversions on a side: this says little",
}


def impact(
    journey_id: Id,
    goal_revision: Annotated[
        int | None, typer.Option(min=1, help="Only of those measured by this revision of the goal.")
    ] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show what the journey changed: who was exposed to it against who was held out, and how sure that is."""
    request = messages.GetCalibratedImpactRequest(journey_id=journey_id, goal_revision=goal_revision)
    told = encode(call(lambda client: client.impacts.GetCalibratedImpact(request)).impact)
    if output is Output.JSON:
        print_json(told)
        return
    goals = ", or ".join(f"{goal['eventName']} within {goal['window']}" for goal in told["goals"])
    nobody = "no goal" if told.get("noLiftReason") == "no_goal" else "nobody was triggered yet"
    _say(f"{told['journeyId']}: {goals or nobody}; counted at {told['countedAt']}")
    if len(told["goals"]) > 1:
        _say("the goal was changed: each subject is measured by the one it came in under (--goal-revision for one)")
    _sides(told)
    _lift(told)
    _trend(told["dailyTrend"])
    _apart(told)


def plan(
    base_rate: Annotated[float, typer.Option(help="The part of those held out that converts, as 0.05.")],
    lift: Annotated[float, typer.Option(help="By which part more of the exposed do, as 0.1.")],
    holdout_percent: Annotated[int, typer.Option(min=1, max=99, help="Held out, of a hundred.")],
    weekly_volume: Annotated[float, typer.Option(help="Subjects triggered for the first time in a week.")],
    power: Annotated[float, typer.Option(help="In which part of cases it is to be seen.")] = 0.8,
    output: OutputOption = Output.TABLE,
) -> None:
    """Say how long it takes until a lift can be seen."""
    request = messages.PlanImpactRequest(
        base_rate=base_rate, lift=lift, holdout_percent=holdout_percent, weekly_volume=weekly_volume, power=power
    )
    told = encode(call(lambda client: client.impacts.PlanImpact(request)).plan)
    if output is Output.JSON:
        print_json(told)
        return
    table = plain_table("looked at", "subjects", "weeks")
    right(table, "subjects", "weeks")
    table.add_row("once, at the end", f"{told['subjects']:,}", f"{told['weeks']:.1f}")
    table.add_row("as often as you like", f"{told['alwaysValidSubjects']:,}", f"{told['alwaysValidWeeks']:.1f}")
    console().print(table)
    _say(f"{told['heldOut']:,} of the {told['subjects']:,} are held out; weeks are until the last ones have matured")


def _sides(told: Json) -> None:
    matured = told["matured"]
    through = f"matured, to {matured['throughDay']}" if "throughDay" in matured else "matured: nobody yet"
    table = plain_table("", "triggered", "converted", "rate so far", through, "converted", "rate", title="")
    right(table, *(str(column.header) for column in table.columns[1:]))
    for side, name in (("exposed", "exposureRate"), ("holdout", "holdoutRate")):
        cells = [
            "exposed" if side == "exposed" else "held out",
            f"{told['triggered'][side]:,}",
            f"{told['converted'][side]:,}",
            percent(told.get(name)),
            f"{matured['triggered'][side]:,}",
            f"{matured['converted'][side]:,}",
            percent(matured["estimate"].get(name)),
        ]
        table.add_row(*map(text_of, cells))
    console().print(table)
    if told["lateConversions"]:
        _say(f"{told['lateConversions']:,} converted by events that came in late, which count")
    _strata(matured["strata"])


def _strata(strata: list[Json]) -> None:
    """Nothing, where all came by one share and count."""
    if len(strata) < 2 and all(one["compared"] and not one["leftOut"] for one in strata):
        return
    if not any(sum(one["triggered"].values()) or one["leftOut"] for one in strata):
        return
    columns = ("exposed, matured", "held out, matured", "left out")
    table = plain_table("held out", "from", "to", *columns, "compared", title="")
    right(table, *columns)
    for one in strata:
        cells = [
            percent(one["holdoutShare"]) if "holdoutShare" in one else "not recorded",
            one["firstDay"],
            one["lastDay"],
            f"{one['triggered']['exposed']:,}",
            f"{one['triggered']['holdout']:,}",
            f"{one['leftOut']:,}",
            "yes" if one["compared"] else "no",
        ]
        table.add_row(*map(text_of, cells))
    console().print(table)
    if len(strata) > 1:
        _say("the holdout was changed: the lift compares within each of its shares, and puts these together")


def _lift(told: Json) -> None:
    estimate = told["matured"]["estimate"]
    if "lift" not in estimate:
        reason = told.get("noLiftReason") if told.get("noLiftReason") == "no_goal" else estimate.get("noLiftReason")
        _say(f"\nno lift of those that have matured: {_NO_LIFT.get(reason or '', reason)}")
    else:
        _say(f"\nlift {signed(estimate['lift'])} of those that have matured")
        ends = [*estimate["interval95"], *estimate["alwaysValid95"], 0.0, estimate["lift"]]
        scale = min(ends), max(ends)
        table = plain_table("95 %", "● the lift  ┊ none", "from", "to", "holds")
        right(table, "from", "to")
        for name, title, holds in (
            ("alwaysValid95", "always valid", "however often you look"),
            ("interval95", "one look", "for one look at a time set before"),
        ):
            low, high = estimate[name]
            drawn = interval(low, high, estimate["lift"], scale=scale, width=width_of(WIDTH, REST), mark=0.0)
            table.add_row(title, Text(drawn), signed(low), signed(high), holds)
        console().print(table)
        _say("significant: 0 is outside of what always holds" if estimate["significant"] else "not significant")
        low, high = estimate["incrementalInterval95"]
        incremental = estimate["incrementalConversions"]
        _say(f"conversions that would not have been: {incremental:,.0f} ({low:,.0f} to {high:,.0f})")
    if "mde80" in estimate:
        _say(f"the smallest lift that such numbers show in four of five cases: {signed(estimate['mde80'])}")
    if "underpoweredReason" in estimate:
        _say(_FEW.get(estimate["underpoweredReason"], estimate["underpoweredReason"]))
    if told.get("sampleRatio", {}).get("alarm"):
        p_value = told["sampleRatio"]["pValue"]
        _say(f"ALARM: the sides are not as large as the holdout's share says (p = {p_value:.1g}). Trust nothing here.")


def _trend(days: list[Json]) -> None:
    exposed = [day.get("exposureRate") for day in days]
    held_out = [day.get("holdoutRate") for day in days]
    known = [rate for rate in (*exposed, *held_out) if rate is not None]
    triggered = [day["triggered"]["exposed"] + day["triggered"]["holdout"] for day in days]
    if not any(triggered):
        return
    highest = max(known, default=0.0)
    table = plain_table("30 days", f"{days[0]['day']} to {days[-1]['day']}", "highest", title="")
    table.add_row("triggered", Text(spark(triggered, highest=max(triggered))), text_of(f"{max(triggered):,}"))
    for name, rates in (("rate, exposed", exposed), ("rate, held out", held_out)):
        top = max((rate for rate in rates if rate is not None), default=None)
        table.add_row(name, Text(spark(rates, highest=highest)), text_of(percent(top)))
    console().print(table)
    if any(not day["mature"] and sum(day["triggered"].values()) for day in days):
        _say(f"{BLANK}: not matured, so no rate is told, or nobody came")


def _apart(told: Json) -> None:
    if "globalHoldout" not in told:
        return
    apart = told["globalHoldout"]
    lift = apart["estimate"].get("lift")
    against = f"; exposed against these, matured: {signed(lift)}" if lift is not None else ""
    if lift is not None:
        low, high = apart["estimate"]["alwaysValid95"]
        against += f" ({signed(low)} to {signed(high)})"
    triggered, converted = apart["triggered"], apart["converted"]
    _say(f"\nheld out by the project: {triggered:,}, of whom {converted:,} converted{against}")
    if lift is None:
        reason = apart["estimate"].get("noLiftReason", "")
        _say(f"no lift against these: {_NO_LIFT.get(reason, reason)}")
    _strata(apart["strata"])


def _say(line: str) -> None:
    console().print(text_of(line), soft_wrap=True)
