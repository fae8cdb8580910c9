"""The paths through the product of which docs/performance.md tells, in its order."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Path:
    """`about`: what is done, in a sentence or two, and beside what."""

    name: str
    title: str
    about: str


_ALL = (
    Path(
        name="journeys",
        title="Journeys",
        about="A whole journey: message, wait, branch, message, end. Beside it the same journey as an expert would "
        "write it as one Temporal workflow, with an activity for each step that writes the same rows, and none of "
        "what the product promises besides (`bench/bare_workflows.py`). Both leave the same rows; the bench "
        "compares them.",
    ),
    Path(
        name="ingest",
        title="Ingest",
        about="Events taken in, each with its aggregates and its row in the inbox, committed to the disk before the "
        "answer. Beside it a COPY of the same rows into a table of the same indexes, without any of that "
        "(`bench/ingest_process.py`).",
    ),
    Path(
        name="reads",
        title="Reads",
        about="`GetJourney` with a key, read from Postgres by every call. Beside it a `grpc.aio` handler that reads "
        "the same row for anybody (`bench/reads_bare.py`).",
    ),
    Path(
        name="starts",
        title="Starts",
        about="From the answer to an event until the workflow that it starts runs, at 20 events a second. Beside it a "
        "workflow that is started eagerly, with nothing written down before (`bench/bare_start.py`).",
    ),
    Path(
        name="wakes",
        title="Wakes",
        about="Executions that wait, woken by the clock, and by the event that they wait for.",
    ),
    Path(
        name="segments",
        title="Segments",
        about="Fifty segments of a million subjects with ten million events: whole passes, passes over those to whom "
        "something happened, and how soon a membership is true. Beside it fifty statements by somebody who knows "
        "the tables (`bench/segments_rules.py`), which keep the same members and transitions; the bench compares "
        "them.",
    ),
    Path(
        name="bulk",
        title="Bulk enrollment",
        about="A crowd that a job lets in, and what events that start journeys meanwhile feel of it. Beside it bare "
        "`start_workflow` calls of the same workflow (`bench/bulk_bare.py`).",
    ),
    Path(
        name="policies",
        title="Policies",
        about="A policy made of a million choices. Beside it one statement that counts who went by each arm and "
        "converted.",
    ),
    Path(
        name="http",
        title="HTTP",
        about="The same call over gRPC, under `/v1` and at a documented path, one at a time and in turns.",
    ),
    Path(
        name="encryption",
        title="Encryption",
        about="Whole journeys by a worker that encrypts histories, and by one that does not, in turns.",
    ),
    Path(
        name="tenancy",
        title="Tenancy, keys and audit",
        about="What keeps projects apart, tells nobody which half of a key was right, and lets nobody change what was "
        "written down: each beside the same without.",
    ),
    Path(
        name="overload",
        title="Overload",
        about="Three times as many calls as a server can serve, a key that floods, and calls whose time is over. "
        "Callers, server and Postgres share the cores.",
    ),
    Path(
        name="traces",
        title="Traces",
        about="Whole journeys by a worker that sends traces of everything, and by one that sends none, in turns.",
    ),
    Path(
        name="checker",
        title="The checker",
        about="Everything that is known of executions gathered and held against thirteen invariants, as after each "
        "fault test.",
    ),
    Path(
        name="growth",
        title="Growth",
        about="The same with more of it: executions that wait, subjects, processes.",
    ),
)

#: By name, in the page's order.
PATHS = {path.name: path for path in _ALL}
