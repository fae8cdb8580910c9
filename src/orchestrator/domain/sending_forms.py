"""What holds off sends, and whom nothing is sent at all, as people write it; the same in journeys and in settings."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import time, timedelta
from typing import Any

from orchestrator.domain.channel_rate import ChannelRate
from orchestrator.domain.channels import CHANNELS
from orchestrator.domain.communication import CATEGORIES
from orchestrator.domain.condition_forms import WEEKDAYS, read_clock, read_weekdays
from orchestrator.domain.draw import MAX_SALT
from orchestrator.domain.durations import format_duration
from orchestrator.domain.form_reader import FormReader
from orchestrator.domain.gates import ANY, FrequencyCap
from orchestrator.domain.holdout import Holdout
from orchestrator.domain.hours import Hours, QuietHours
from orchestrator.domain.preferences import MAX_CHANNEL_LENGTH, channel_fault
from orchestrator.predicates.faults import under

MAX_CAPS = 20
MAX_CAP_LIMIT = 10_000
MAX_CAP_WINDOW = timedelta(days=365)
MAX_QUIET_CHANNELS = 20
MAX_HOLDOUT_PERCENT = 99
MAX_CHANNEL_RATES = 20
MIN_RATE, MAX_RATE = 0.001, 10_000
MAX_BURST = 10_000


def read_hours(form: FormReader, value: object, path: str) -> Hours | None:
    """Hours of the day, on some days of the week or on all."""
    if value is None:
        return None
    body = form.members(value, path, ("start", "end", "weekdays"))
    if body is None:
        return None
    start = read_clock(form, body.get("start"), under(path, "start"))
    end = read_clock(form, body.get("end"), under(path, "end"))
    weekdays = read_weekdays(form, body.get("weekdays"), under(path, "weekdays"))
    if start is None or end is None:
        return None
    if start == end:
        form.fault(under(path, "end"), "INVALID_VALUE", "hours end at another time than they start")
    return Hours(start=start, end=end, weekdays=weekdays)


def read_quiet_hours(form: FormReader, value: object, path: str) -> QuietHours | None:
    if value is None:
        return None
    body = form.members(value, path, ("start", "end", "channels"))
    if body is None:
        return None
    hours = read_hours(form, {name: body.get(name) for name in ("start", "end")}, path)
    channels: set[str] = set()
    for at, element in form.elements(body.get("channels"), under(path, "channels"), MAX_QUIET_CHANNELS):
        if (channel := _channel(form, element, at)) is not None:
            if channel in channels:
                form.fault(at, "INVALID_VALUE", f"{channel} stands here twice")
            channels.add(channel)
    if ANY in channels:
        form.fault(under(path, "channels"), "INVALID_VALUE", "without channels they hold for all")
    return QuietHours(hours=hours, channels=frozenset(channels)) if hours is not None else None


def read_caps(form: FormReader, value: object, path: str) -> tuple[FrequencyCap, ...]:
    caps: list[FrequencyCap] = []
    for at, element in form.elements(value, path, MAX_CAPS):
        body = form.members(element, at, ("channel", "category", "limit", "window"))
        if body is None:
            continue
        for name in ("limit", "window"):
            if body.get(name) is None:
                form.required(under(at, name), f"a cap has a {name}")
        channel = _channel(form, body.get("channel") or ANY, under(at, "channel"))
        category = form.choice(body.get("category") or ANY, under(at, "category"), _CATEGORIES)
        limit = form.number(body.get("limit"), under(at, "limit"), MAX_CAP_LIMIT)
        window = form.duration(body.get("window"), under(at, "window"), MAX_CAP_WINDOW)
        if channel is None or category is None or limit is None or window is None:
            continue
        cap = FrequencyCap(channel=channel, category=category, limit=limit, window=window)
        if any((c.channel, c.category, c.window) == (channel, category, window) for c in caps):
            form.fault(at, "INVALID_VALUE", "there is another cap for the same messages and the same window")
        caps.append(cap)
    return tuple(caps)


def read_channel_rates(form: FormReader, value: object, path: str) -> tuple[ChannelRate, ...]:
    rates: list[ChannelRate] = []
    for at, element in form.elements(value, path, MAX_CHANNEL_RATES):
        body = form.members(element, at, ("channel", "ratePerSecond", "burst"))
        if body is None:
            continue
        if body.get("ratePerSecond") is None:
            form.required(under(at, "ratePerSecond"), "a rate says how many messages go out in a second")
        channel = _channel(form, body.get("channel"), under(at, "channel"))
        per_second = form.decimal(body.get("ratePerSecond"), under(at, "ratePerSecond"), MIN_RATE, MAX_RATE)
        burst = form.number(body.get("burst"), under(at, "burst"), MAX_BURST)
        if channel is None:
            continue
        if channel not in CHANNELS:
            form.fault(under(at, "channel"), "INVALID_VALUE", f"the channels are {', '.join(sorted(CHANNELS))}")
        elif any(rate.channel == channel for rate in rates):
            form.fault(under(at, "channel"), "INVALID_VALUE", f"there is another rate for {channel}")
        elif per_second is not None:
            rates.append(ChannelRate(channel=channel, per_second=per_second, burst=burst or 1))
    return tuple(rates)


def read_holdout(form: FormReader, value: object, path: str) -> Holdout | None:
    if value is None:
        return None
    body = form.members(value, path, ("percent", "salt"))
    if body is None:
        return None
    salt = form.text(body.get("salt"), under(path, "salt"), MAX_SALT)
    at = under(path, "percent")
    if body.get("percent") is None:
        form.required(at, "a holdout has a share")
    percent = form.number(body.get("percent"), at, MAX_HOLDOUT_PERCENT, " percent")
    return Holdout(percent=percent, salt=salt) if percent is not None else None


def hours_document(hours: Hours) -> dict[str, Any]:
    document: dict[str, Any] = {"start": _written(hours.start), "end": _written(hours.end)}
    if hours.weekdays:
        document["weekdays"] = [WEEKDAYS[day] for day in sorted(hours.weekdays)]
    return document


def quiet_hours_document(quiet: QuietHours) -> dict[str, Any]:
    return {**hours_document(quiet.hours), "channels": sorted(quiet.channels)}


def caps_document(caps: Iterable[FrequencyCap]) -> list[dict[str, Any]]:
    return [
        {
            "channel": cap.channel,
            "category": cap.category,
            "limit": cap.limit,
            "window": format_duration(cap.window),
        }
        for cap in caps
    ]


def channel_rates_document(rates: Iterable[ChannelRate]) -> list[dict[str, Any]]:
    return [{"channel": rate.channel, "ratePerSecond": rate.per_second, "burst": rate.burst} for rate in rates]


def holdout_document(holdout: Holdout) -> dict[str, Any]:
    return {"percent": holdout.percent, "salt": holdout.salt}


_CATEGORIES = {category: category for category in (*CATEGORIES, ANY)}


def _channel(form: FormReader, value: object, path: str) -> str | None:
    if value is None or value == "":
        form.required(path, "a channel is required")
    elif not isinstance(value, str):
        form.fault(path, "INVALID_TYPE", "must be text")
    elif len(value) > MAX_CHANNEL_LENGTH:
        form.fault(path, "TOO_LONG", f"has at most {MAX_CHANNEL_LENGTH} characters")
    elif (fault := channel_fault(value, path)) is not None:
        form.faults.append(fault)
    else:
        return value
    return None


def _written(clock: time) -> str:
    return clock.isoformat("seconds" if clock.second else "minutes")
