"""docs/performance.md: a record as a page. The same record gives the same page, to the byte."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain

from bench.paths import PATHS, Path
from bench.profiles import Profile, Share
from bench.record import Record, Run
from bench.rows import Row

#: From this part of a core or of the machine on, it is what bounds.
FULL = 0.85

_HEAD = """\
# Performance

Made by `make bench` from [bench/latest.json](../bench/latest.json), and by nothing else. Ratios are to the barest thing
that does the same, measured in turns and in one run, so that they mean something on other machines too; times and
rates are those of this one. Where the time goes is looked at in a round behind those that are measured
([how](adr/0046-performance-page.md)).
"""

_GUARD = """\
`make bench-guard` measures again and fails where a ratio has become worse by more than it differs by itself; it never
looks at times.
"""


def page(record: Record) -> str:
    """Raises KeyError for a row on a path that there is none of."""
    rows = list(chain.from_iterable(record.rows.values()))
    unknown = {row.path for row in rows} - PATHS.keys()
    if unknown:
        raise KeyError(f"no paths: {', '.join(sorted(unknown))}")
    paths = chain.from_iterable(_path(path, record) for path in PATHS.values())
    return "\n".join([_HEAD, *_summary(rows), _GUARD, *paths])


def _summary(rows: Sequence[Row]) -> Iterator[str]:
    with_target = [row for row in rows if row.holds is not None]
    missed = [row for row in with_target if not row.holds]
    met = f"Targets that are met: {len(with_target) - len(missed)} of {len(with_target)}."
    yield f"{met} Those that are not:\n" if missed else f"{met}\n"
    if missed:
        yield from _table(
            ("what", "value", "target", "path"),
            ((row.name, _value(row), row.target or "", _link(PATHS[row.path])) for row in missed),
        )


def _path(path: Path, record: Record) -> Iterator[str]:
    yield f"## {path.title}\n"
    yield f"{path.about}\n"
    found = {bench: [row for row in rows if row.path == path.name] for bench, rows in record.rows.items()}
    found = {bench: rows for bench, rows in found.items() if rows}
    if not found:
        yield "Not measured yet.\n"
        return
    yield _when({bench: record.runs[bench] for bench in found})
    rows = list(chain.from_iterable(found.values()))
    yield from _table(
        ("what", "value", "target", "holds", "against"),
        ((row.name, _value(row), row.target or "", _holds(row), row.against) for row in rows),
    )
    noted = [(row.name, said) for row in rows if (said := _said(row))]
    if noted:
        yield "".join(f"- {name}: {said}\n" for name, said in noted)
    profiles = [one for some in record.profiles.values() for one in some if one.path == path.name]
    yield "### Where the time goes\n"
    if not profiles:
        yield "No profile was taken when this was measured.\n"
    for profile in profiles:
        cores = max(record.runs[bench].cores for bench in found)
        yield from _profile(profile, cores)


def _when(runs: Mapping[str, Run]) -> str:
    """In one sentence for all that were measured together."""
    by_run: dict[str, list[str]] = {}
    for bench, run in runs.items():
        by_run.setdefault(_told(run), []).append(f"`{bench}`")
    return "".join(f"{', '.join(benches)}: {told}.\n" for told, benches in by_run.items())


def _told(run: Run) -> str:
    at = run.measured_at.replace("T", " ").removesuffix("Z")[:16]
    of = f" of commit {run.commit}" if run.commit else ""
    load = f", load {run.load[0]:g}" if run.load else ""
    return f"{at} UTC{of}, {run.cores} cores{load}"


def _profile(profile: Profile, cores: int) -> Iterator[str]:
    yield f"While this goes on: {profile.of}; {profile.seconds:g} s.\n"
    yield f"**{_bound(profile, cores)}**\n"
    yield from _table(
        ("process", "cores it kept busy"),
        ((name, f"{busy:.2f}") for name, busy in sorted(profile.cores.items(), key=lambda each: -each[1])),
    )
    for process, functions in profile.functions.items():
        if functions:
            yield from _shares(f"Python functions of `{process}`", "of its core time", functions)
    if profile.statements:
        served = f"{profile.busy:g} at once"
        yield from _shares("statement", f"of the time that connections are served ({served})", profile.statements)
    if profile.waits:
        yield from _shares("a connection that is in a transaction waits for", "of the time", profile.waits)


def _bound(profile: Profile, cores: int) -> str:
    """What would have to be more, or cost less, for this to be faster."""
    total = sum(profile.cores.values())
    if not total:
        return "Nothing kept a core busy."
    largest, busy = max(profile.cores.items(), key=lambda each: each[1])
    if total >= FULL * cores:
        return (
            f"Bound by cores: {total:.2f} of {cores} were busy, and {100 * busy / total:.0f} % of that was {largest}."
        )
    # Postgres and Temporal use as many cores as there are; a process of Python little more than one.
    if largest not in ("postgres", "temporal") and busy >= FULL:
        return f"Bound by the one core that {largest} can use ({busy:.2f}); {total:.2f} of {cores} were busy."
    waits = [share for share in profile.waits if not share.name.startswith("nothing")]
    said = f"Not bound by cores: {total:.2f} of {cores} were busy, most of it {largest} ({busy:.2f})."
    if not waits:
        return said
    return f"{said} Connections in a transaction mostly wait for: {waits[0].name} ({waits[0].percent:g} %)."


def _shares(what: str, of: str, shares: Sequence[Share]) -> Iterator[str]:
    rest = 100 - sum(share.percent for share in shares)
    listed = [(f"`{share.name}`", f"{share.percent:.0f} %") for share in shares]
    yield from _table((what, of), [*listed, *([("all else", f"{rest:.0f} %")] if rest >= 1 else [])])


def _table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> Iterator[str]:
    cells = [head, ["---"] * len(head), *lines]
    yield "".join(f"| {' | '.join(cell.replace('|', '∣') for cell in line)} |\n" for line in cells)


def _value(row: Row) -> str:
    if math.isinf(row.value):
        return "never"
    return f"{row.value:,g} {row.unit}".rstrip()


def _holds(row: Row) -> str:
    return "" if row.holds is None else "yes" if row.holds else "**no**"


def _said(row: Row) -> str:
    """The note, and what the rounds' ratios were."""
    rounds = f"ratios of the rounds {' '.join(f'{one:g}' for one in row.rounds)}" if row.rounds else ""
    return "; ".join(filter(None, (row.note, rounds)))


def _link(path: Path) -> str:
    anchor = "".join(letter for letter in path.title.lower().replace(" ", "-") if letter.isalnum() or letter == "-")
    return f"[{path.title}](#{anchor})"
