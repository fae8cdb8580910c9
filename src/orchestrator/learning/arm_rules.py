"""What authors say of the arms of a branch, and shares that keep to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.domain.apportionment import WHOLE, apportioned

# Shares are taken in billionths before they are apportioned, so that the last bits of a float decide nothing.
_FINE = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmRule:
    """An arm that the branch has. `fixed_ppm`: its share for ever (a control; a million pins the branch to it), so that
    it does not learn. `paused`: it gets nobody.
    """

    arm_id: str
    fixed_ppm: int | None = None
    paused: bool = False

    @property
    def learns(self) -> bool:
        return self.fixed_ppm is None and not self.paused


def checked(arm_rules: Sequence[ArmRule]) -> tuple[ArmRule, ...]:
    """In the order of their ids. Raises ValueError when they contradict each other."""
    names = [rule.arm_id for rule in arm_rules]
    if len(set(names)) != len(names):
        raise ValueError("an arm is named twice")
    running = [rule for rule in arm_rules if not rule.paused]
    if not any(rule.learns or rule.fixed_ppm for rule in running):
        raise ValueError("no arm gets anybody")
    fixed = [rule.fixed_ppm for rule in running if rule.fixed_ppm is not None]
    if any(ppm < 0 for ppm in fixed) or sum(fixed) > WHOLE:
        raise ValueError("fixed shares are not negative, and not more than there is")
    return tuple(sorted(arm_rules, key=lambda rule: rule.arm_id))


def in_millionths(arm_rules: Sequence[ArmRule], shares: Sequence[float]) -> dict[str, int]:
    """Fixed shares to the millionth, and what they leave, apportioned; where nobody learns, in their proportion."""
    ppm = {rule.arm_id: 0 for rule in arm_rules}
    fixed = {rule.arm_id: rule.fixed_ppm for rule in arm_rules if rule.fixed_ppm is not None and not rule.paused}
    learning = {
        rule.arm_id: round(share * _FINE) for rule, share in zip(arm_rules, shares, strict=False) if rule.learns
    }
    if not learning:
        return ppm | apportioned(fixed)
    left = WHOLE - sum(fixed.values())
    return ppm | fixed | (apportioned(learning, left) if left else {})
