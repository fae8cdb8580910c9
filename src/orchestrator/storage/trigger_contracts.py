"""Trigger contracts in Postgres, as authors write them. Who listens to what is asked of catalog.py."""

from __future__ import annotations

from orchestrator.domain.trigger_contract import Contract
from orchestrator.storage.resources import Table

trigger_contracts = Table("trigger_contracts", id_column="trigger_contract_id", content=Contract)
