"""A check of the doctor: a query for what is wrong.

The queries return one column, `example`: what an operator looks for next, never a value of a subject's. `$1` is the
database's clock. Queries that are divided look at the project `$2` and the buckets from `$3` up to, but not, `$4`; a
query that takes a sample begins at the bucket `$5`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """`remedy` is what to do, for whoever finds something. `sampled` implies `divided`."""

    name: str
    remedy: str
    sql: str
    divided: bool = False
    sampled: bool = False
