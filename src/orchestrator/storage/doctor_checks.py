"""What must hold between the tables, and for how long something may lie: every check that is one statement."""

from __future__ import annotations

from orchestrator.storage import (
    backlog_checks,
    definition_checks,
    ledger_checks,
    protection_checks,
    standstill_checks,
    way_checks,
)
from orchestrator.storage.doctor_check import Check

CHECKS: tuple[Check, ...] = (
    *backlog_checks.CHECKS,
    *standstill_checks.CHECKS,
    *ledger_checks.CHECKS,
    *way_checks.CHECKS,
    *definition_checks.CHECKS,
    *protection_checks.CHECKS,
)
