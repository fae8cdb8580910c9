"""Errors one could make in a statement: for each operator and window, and for what SQL is known to surprise with."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from orchestrator.predicates.sql.query import Query

_CONSTANT = r"(\(\$\d+::\w+\[\]\)\[\d+\])"


@dataclass(frozen=True, slots=True)
class Misprint:
    """A change of a statement's text, wherever the pattern stands in it."""

    name: str
    pattern: str
    becomes: str

    def print(self, query: Query) -> Query:
        text, places = re.subn(self.pattern, self.becomes, query.text)
        assert places, f"{self.pattern} is nowhere in the statement"
        return replace(query, text=text)


def _orders(column: str, start: str = "", end: str = r"\) IS TRUE") -> list[Misprint]:
    """An edge that belongs to the other side, for each of the four."""
    wrong = {">": ">=", ">=": ">", "<": "<=", "<=": "<"}
    return [
        Misprint(
            f"{column} {symbol} is {other}",
            rf"({start}\w*{column}) {symbol} ({_CONSTANT}(?:::numeric)?{end})",
            rf"\1 {other} \2",
        )
        for symbol, other in wrong.items()
    ]


MISPRINTS = [
    Misprint("null exists", r"jsonb_typeof\((\w+)\) <> 'null'", r"\1 IS NOT NULL"),
    Misprint("texts are folded", rf"(\w+_text) = {_CONSTANT}", r"lower(\1) = lower(\2)"),
    Misprint("numbers are doubles", rf"(\w+_number) = {_CONSTANT}::numeric", r"\1::float8 = \2::float8"),
    Misprint("equals is contains", rf"(field_\d+) = {_CONSTANT}::jsonb", r"\1 @> \2::jsonb"),
    Misprint("in forgets its first item", r"\)\[(\d+):(\d+)\]", r")[\1 + 1:\2]"),
    Misprint("in compares texts", r"(field_\d+) = ANY", r"to_jsonb(\1 #>> '{}') = ANY"),
    Misprint(
        "a text is as good as a number",
        r"jsonb_typeof\((\w+)\) = 'number' THEN \1::",
        r"\1 #>> '{}' ~ '^[0-9.]+$' THEN (\1 #>> '{}')::",
    ),
    *_orders("_number"),
    *_orders("_instant"),
    *_orders("created_at"),
    *_orders("last_at", start=r"CASE WHEN t\.", end=r" THEN \d"),
    Misprint("within has a closed start", rf"_instant > {_CONSTANT} AND", r"_instant >= \1 AND"),
    Misprint("within has an open end", rf"AND (\w+_instant) <= {_CONSTANT}", r"AND \1 < \2"),
    Misprint("known within has a closed start", rf"created_at > {_CONSTANT} AND", r"created_at >= \1 AND"),
    Misprint("known within has an open end", rf"AND created_at <= {_CONSTANT}", r"AND created_at < \1"),
    Misprint("the last event within has a closed start", rf"t.last_at > {_CONSTANT} AND", r"t.last_at >= \1 AND"),
    Misprint("the last event within has an open end", rf"AND t.last_at <= {_CONSTANT}", r"AND t.last_at < \1"),
    Misprint("contains starts at the second character", r"(strpos\([^)]*\)\[\d+\]\)) > 0", r"\1 > 1"),
    Misprint("contains is LIKE", rf"strpos\((\w+ #>> '{{}}'), {_CONSTANT}\) > 0", r"\1 LIKE '%' || \2 || '%'"),
    Misprint("an element contains", r"item = ", "item @> "),
    Misprint("texts have no elements", r"ELSE field_\d+ @> \S+ END", "ELSE false END"),
    Misprint("contains is the other way round", rf"(field_\d+) @> {_CONSTANT}::jsonb", r"\1 <@ \2::jsonb"),
    Misprint("paths walk arrays", rf" -> {_CONSTANT}\)(?!::)", r" #> ARRAY[\1])"),
    Misprint("unknown is not false", r" IS TRUE", ""),
    Misprint("not is nothing", r"\(NOT ", "("),
    Misprint("or is and", r"\) OR \(", ") AND ("),
    Misprint("and is or", r"\) AND \(", ") OR ("),
    Misprint("ever needs one more", r"t.total >= ", "t.total > "),
    Misprint("bits are of another leaf", r"& 2::bigint", "& 4::bigint"),
    Misprint(
        "lists are turned around", r"CASE WHEN true THEN (\S+) ELSE (\S+) END", r"CASE WHEN true THEN \2 ELSE \1 END"
    ),
    Misprint("n events are one more", r"d.upto >= w.n", "d.upto > w.n"),
    Misprint("days are counted from the first", r"ORDER BY t.day DESC", "ORDER BY t.day"),
    Misprint("the n-th is the first of its day", r"THEN d.last_at", "THEN d.first_at"),
    Misprint("the n-th is the last of its day", r"THEN d.first_at", "THEN d.last_at"),
    Misprint("the day of the cutoff is too old", r"t.day >= date", "t.day > date"),
    Misprint("the cutoff cuts no day", r"WHEN d.last_at > w.cut THEN \(", "WHEN false THEN ("),
    Misprint("raw events are one more", r"OFFSET w.n - 1", "OFFSET w.n"),
    Misprint("raw events are counted from the first", r"ORDER BY e.occurred_at DESC", "ORDER BY e.occurred_at"),
    Misprint("raw events are of the day before", r"\(d.day \+ 1\)", "d.day"),
    Misprint("days end at the session's midnight", r"::timestamp AT TIME ZONE 'UTC'", "::timestamptz"),
    Misprint("the window of n is closed", r"nth_at > cut THEN (bits_\d+)", r"nth_at >= cut THEN \1"),
    Misprint("the last change is waited for", r"min\(due\)", "max(due)"),
    Misprint("the n-th leaves late", r"nth_at \+ length", "nth_at + length + interval '1 microsecond'"),
    Misprint("an instant comes unnoticed", r"WHEN (\w+_instant) > \S+ THEN \1 WHEN", "WHEN false THEN 0 WHEN"),
    Misprint("an instant leaves late", rf"(THEN \w+_instant \+ {_CONSTANT})", r"\1 + 1"),
    Misprint(
        "the known come unnoticed", r"WHEN created_at > \S+ THEN created_at WHEN", "WHEN false THEN created_at WHEN"
    ),
    Misprint("the known are new for too long", r"THEN created_at \+", "THEN created_at + interval '1 microsecond' +"),
    Misprint("the last event is new for too long", r"THEN t.last_at \+", "THEN t.last_at + interval '1 microsecond' +"),
    Misprint("somebody is left out", r"BETWEEN \$2::smallint AND", "BETWEEN $2::smallint + 1 AND"),
]
