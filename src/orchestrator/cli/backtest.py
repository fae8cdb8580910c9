"""`journeys backtest`: what a journey would have done lately, day by day, and why that may be wrong."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from orchestrator.api.json_encode import encode
from orchestrator.cli.connection import call
from orchestrator.cli.output import Output, OutputOption, console, plain_table, print_json, print_table, text_of
from orchestrator.cli.resources import Id
from orchestrator.client import messages

Json = dict[str, Any]


def backtest(
    journey_id: Id,
    days: Annotated[int, typer.Option(min=1, max=365, help="How far back; whole weeks forecast best.")] = 28,
    output: OutputOption = Output.TABLE,
) -> None:
    """Say what the journey would have done within the last days: the events of real subjects are replayed.

    If the next days are like them, that is what it will do. Nobody is sent anything.
    """
    request = messages.BacktestJourneyRequest(journey_id=journey_id, days=days)
    told = encode(call(lambda client: client.journeys.BacktestJourney(request)).backtest)
    if output is Output.JSON:
        print_json(told)
        return
    which = f"version {told['version']}" if told["version"] else "the draft"
    _say(f"{told['journeyId']}, {which}, from {told['since']} to {told['until']}")
    _say(f"{_forecast(told['entries'])} entries, {told['heldOut']} of them held out; {_forecast(told['sends'])} sends")
    _days(told["days"])
    for name, title in (("refused", "entries refused"), ("stopped", "sends stopped"), ("outcomes", "ends")):
        if told[name] or name == "outcomes":
            under_way = f", {told['underWay']} under way" if name == "outcomes" else ""
            counts = ", ".join(f"{reason} {count}" for reason, count in told[name].items())
            _say(f"{title}: {counts or 'none'}{under_way}")
    if told["ways"]:
        print_table(told["ways"], ("stepId", "reason", "count"), title="\nways")
    _say("\nthis may be wrong, for")
    for bias in told["biases"]:
        _say(f"  {bias['bias']}: {bias['message']}")


def _days(days: list[Json]) -> None:
    channels = sorted({channel for day in days for channel in (*day["sends"], *day["capped"])})
    table = plain_table("day", "entries", *channels, *(f"{channel}, capped" for channel in channels), title="")
    for day in days:
        cells = [day["since"][:10], day["entries"]]
        cells += [day[counted].get(channel, 0) for counted in ("sends", "capped") for channel in channels]
        table.add_row(*map(text_of, cells))
    console().print(table)


def _forecast(forecast: Json) -> str:
    if forecast["low"] == forecast["high"]:
        return str(forecast["count"])
    return f"about {forecast['count']} ({forecast['low']} to {forecast['high']})"


def _say(line: str) -> None:
    console().print(text_of(line), soft_wrap=True)
