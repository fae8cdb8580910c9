"""What the server's role may do with what happened: add to it, and change what deleting or merging subjects changes."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from orchestrator.domain.delivery import Kind
from orchestrator.storage.pool import API_ROLE

if TYPE_CHECKING:
    from asyncpg import Connection, Record

#: A merge gives rows of one subject to another.
#: It tells executions to end, which their workers do.
CANCELED = {"UPDATE(cancel_reason)", "UPDATE(cancel_asked_at)"}
GIVEN = {"UPDATE(bucket)", "UPDATE(subject_no)"}

MAY = {
    "erasures": {"SELECT", "INSERT", "UPDATE(lifted_at)"},
    "tombstones": {"SELECT", "INSERT", "UPDATE", "DELETE"},
    "audit_log": {"SELECT", "INSERT"},
    "audit_seals": {"SELECT"},
    "audit_unsealed": {"SELECT"},
    "audit_anchors": {"SELECT"},
    "journey_versions": {"SELECT", "INSERT"},
    "journey_goals": {"SELECT", "INSERT"},
    "communication_revisions": {"SELECT", "INSERT"},
    "enrollments": {"SELECT", "INSERT", "UPDATE(entry)", "UPDATE(entry_key)"} | GIVEN,
    "executions": {"SELECT", "INSERT", "UPDATE(workflow_id)"} | CANCELED | GIVEN,
    "cancellations": {"SELECT", "INSERT"},
    "carries": {"SELECT", "INSERT"},
    "visits": {"SELECT", "INSERT"} | GIVEN,
    "conversions": {"SELECT", "INSERT", "UPDATE(occurred_at)", "UPDATE(received_at)"} | GIVEN,
    "sends": {"SELECT", "UPDATE(provider_id)", *(f"UPDATE({kind.column})" for kind in Kind)} | GIVEN,
    "webhook_calls": {"SELECT", "UPDATE(answer)"} | GIVEN,
    "arm_choices": {"SELECT", "UPDATE(unit)", "UPDATE(draw)", "UPDATE(context)"} | GIVEN,
    "policy_versions": {"SELECT"},
    "policy_requests": {"SELECT", "INSERT", "UPDATE"},
    "log_messages": {"SELECT", "DELETE"} | GIVEN,
    "refusal_counts": {"SELECT", "INSERT", "UPDATE"},
    "refused_entries": {"SELECT", "DELETE"} | GIVEN,
    "entry_replays": {"SELECT", "INSERT", "UPDATE(ended_at)", "UPDATE(end_reason)"},
    "channel_turns": {"SELECT", "INSERT"},
    "waiting_sends": {"SELECT", "INSERT"},
    "send_tallies": {"SELECT", "INSERT", "UPDATE", "DELETE"},
    "test_sends": {"SELECT", "INSERT", "DELETE"} | GIVEN,
    "journey_closings": {"SELECT", "INSERT"}
    | {f"UPDATE({column})" for column in ("bucket", "subject_no", "execution_id", "requested_at")},
    "topic_pokes": {"SELECT", "INSERT", "UPDATE(topics)", "UPDATE(next_topics)"},
    "enrollment_jobs": {
        *("SELECT", "INSERT", "UPDATE(state)", "UPDATE(reason)", "UPDATE(paced_to)", "UPDATE(next_at)"),
        *("UPDATE(revision)", "UPDATE(updated_at)", "UPDATE(ended_at)"),
    },
    "held_entries": {"SELECT", "DELETE"} | GIVEN,
    "journey_schedules": {"SELECT", "INSERT", "UPDATE(revision)", "UPDATE(changed_at)"},
    "outbox": {"SELECT", "INSERT", "DELETE"} | GIVEN,
    "outbox_dead": {"SELECT", "DELETE"} | GIVEN,
    "inbox_dead": {"SELECT", "DELETE", "UPDATE(transition_nos)"} | GIVEN,
}


async def test_the_server_may_add_to_ledgers_and_not_rewrite_them(owner: Connection[Record]) -> None:
    whole = await owner.fetch(
        "SELECT table_name, privilege_type FROM information_schema.role_table_grants WHERE grantee = $1", API_ROLE
    )
    columns = await owner.fetch(
        "SELECT table_name, privilege_type, column_name FROM information_schema.role_column_grants WHERE grantee = $1",
        API_ROLE,
    )

    may: defaultdict[str, set[str]] = defaultdict(set)
    for row in whole:
        may[row["table_name"]].add(row["privilege_type"])
    for row in columns:
        if row["privilege_type"] not in may[row["table_name"]]:
            may[row["table_name"]].add(f"{row['privilege_type']}({row['column_name']})")
    assert {table: may[table] for table in MAY} == MAY
