"""Calls that mean the same over gRPC, `/v1` and at a documented path, in the order in which they are made.

Everything is written down here as callers write it: the request of the RPC in JSON (gRPC gets the message, `/v1` its
verb, URL and body), and the documented call. Answers are not: the surfaces are compared with each other.
"""

from __future__ import annotations

from tests.acceptance.contract_cases import audiences, internal, journeys, journeys_v1, segments
from tests.acceptance.contract_cases.case import Case

CASES: tuple[Case, ...] = (
    *audiences.CASES,
    *segments.CASES,
    *journeys.CASES,
    *journeys_v1.CASES,
    *internal.CASES,
)
