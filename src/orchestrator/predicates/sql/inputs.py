"""Whose rows a statement reads: its parameters 1 to 3."""

from __future__ import annotations

from enum import Enum


class Among(Enum):
    #: $1 project_no int, $2 and $3 smallint: the first and the last bucket.
    BUCKETS = "buckets"
    #: $1 project_no int, $2 smallint[] and $3 bigint[]: bucket and subject_no of each subject, none of them twice.
    SUBJECTS = "subjects"


#: The parameters that every statement has.
INPUTS = 3


def rows_of(table: str, alias: str, among: Among, condition: str | None = None) -> str:
    """FROM and WHERE for the rows of these subjects that meet the condition."""
    if among is Among.BUCKETS:
        source = table + f" AS {alias}"
        scope = f"{alias}.project_no = $1::int AND {alias}.bucket BETWEEN $2::smallint AND $3::smallint"
    else:
        # A join on the whole key, so that each subject costs one probe of the index, however far apart they are.
        source = (
            f"unnest($2::smallint[], $3::bigint[]) AS asked (bucket, subject_no)\n JOIN {table} AS {alias}"
            f" ON {alias}.project_no = $1::int AND {alias}.bucket = asked.bucket"
            f" AND {alias}.subject_no = asked.subject_no"
        )
        scope = "true"
    return f"FROM {source}\nWHERE {scope}" + (f" AND {condition}" if condition else "")
