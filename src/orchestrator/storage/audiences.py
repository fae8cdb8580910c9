"""Audiences in Postgres."""

from __future__ import annotations

from orchestrator.domain.audience import Audience
from orchestrator.storage.resources import Table

audiences = Table("audiences", id_column="audience_id", content=Audience)
