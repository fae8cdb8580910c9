"""By which arm of a step that learns somebody goes, read from its JSON. Imports nothing of ours."""

from __future__ import annotations

import hashlib
from fractions import Fraction

from tests.core.oracle_json import Json
from tests.core.world import Entered

LEARNING = {"adaptiveBranch": "adaptive_branch", "nbaDecision": "nba_decision"}
WHOLE = 1_000_000


class Chosen:
    """What was chosen so far, for whom and for which of their visits."""

    def __init__(self) -> None:
        #: By step and whom it holds for, the arms in the order in which they were chosen.
        self.before: dict[tuple[str, str, str], list[str]] = {}
        self.again = self.another = 0

    def arm(self, step: Json, policy: dict[str, int] | None, entered: Entered) -> Json:
        body = next(step[kind] for kind in LEARNING if kind in step)
        there = {arm["id"]: arm for arm in body["arms"] if not arm.get("paused")}
        of_visit = body["stickiness"] == "visit"
        before = self.before.setdefault((step["id"], entered.subject_id, entered.execution if of_visit else ""), [])
        if before and before[-1] in there:
            self.again += 1
            return there[before[-1]]
        self.another += bool(before)
        who = entered.subject_id + (f"/{entered.key}" if of_visit else "") + (f"#{len(before)}" if before else "")
        salt = f"arm\0{body['salt']}" if body.get("salt") else f"arm/p/{entered.journey_id}/{step['id']}"
        before.append(_drawn(_shares(there, policy or {}), salt, who))
        return there[before[-1]]


def _shares(there: dict[str, Json], policy: dict[str, int]) -> dict[str, int]:
    """In millionths; what is over goes to those whose shares were cut off most."""
    shares = {name: round(arm["share"] * WHOLE) for name, arm in there.items() if "share" in arm}
    left = WHOLE - sum(shares.values())
    learning = sorted(there.keys() - shares.keys())
    known = {name: policy[name] for name in learning if name in policy}
    parts = {name: Fraction(left, len(learning)) for name in learning}
    if sum(known.values()):
        of_known = left * Fraction(len(known), len(learning))
        parts |= {name: of_known * Fraction(ppm, sum(known.values())) for name, ppm in known.items()}
    whole = {name: int(part) for name, part in parts.items()}
    cut = sorted(learning, key=lambda name: (whole[name] - parts[name], name))
    for name in cut[: left - sum(whole.values())]:
        whole[name] += 1
    return shares | whole


def _drawn(shares: dict[str, int], salt: str, who: str) -> str:
    digest = hashlib.sha256(salt.encode() + b"\0" + who.encode()).hexdigest()
    place, reached = int(digest[:16], 16) * WHOLE, 0
    for name in sorted(shares):
        reached += shares[name]
        if place < reached * 2**64:
            return name
    raise AssertionError
