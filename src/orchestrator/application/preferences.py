"""What subjects do not want, and what must not be sent to them.

Every change is made under the subject's row lock, as is the reservation of every send: once a change is answered, no
send that it stands against begins.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from asyncpg import Connection, Record

from orchestrator.application.subjects import find, unknown
from orchestrator.domain import preferences as rules
from orchestrator.domain.audit import SUBJECT_SUPPRESSED, SUBJECT_UNSUPPRESSED, Action
from orchestrator.domain.preferences import OptOut, PreferenceChange, Suppression
from orchestrator.domain.refusals import NotFound
from orchestrator.domain.scope import Scope, SubjectKey
from orchestrator.domain.subject import subject_hash
from orchestrator.storage import audit, clock, inbox_entries, preferences, subjects


async def update(
    conn: Connection[Record], project_no: int, subject_id: str, changes: Sequence[PreferenceChange]
) -> list[OptOut]:
    """Make the changes in order; returns all the subject's opt-outs. An unknown subject is created."""
    key = await _hold(conn, project_no, subject_id)
    now = await clock.now(conn)
    before = {(kept.channel, kept.category) for kept in await preferences.opt_outs(conn, key)}
    after = rules.after(before, changes)
    if after != before:
        await preferences.opt_out(conn, key, after - before, now)
        await preferences.opt_in(conn, key, before - after)
        await inbox_entries.add(conn, [key], "preferences", now)
    return await preferences.opt_outs(conn, key)


async def opt_out(conn: Connection[Record], key: SubjectKey, channel: str, category: str) -> None:
    """Opt a subject out whose row the caller holds; nothing, if it has opted out of just that."""
    if any((kept.channel, kept.category) == (channel, category) for kept in await preferences.opt_outs(conn, key)):
        return
    now = await clock.now(conn)
    await preferences.opt_out(conn, key, {(channel, category)}, now)
    await inbox_entries.add(conn, [key], "preferences", now)


async def opt_outs(conn: Connection[Record], project_no: int, subject_id: str) -> list[OptOut]:
    """What the subject opted out of. Raises NotFound SUBJECT_NOT_FOUND."""
    key, _ = await find(conn, project_no, subject_id)
    return await preferences.opt_outs(conn, key)


async def suppressions(
    conn: Connection[Record], project_no: int, subject_id: str, *, after_channel: str, limit: int
) -> list[Suppression]:
    """At most `limit` suppressions, by channel, after this one (empty: from the first). Raises NotFound."""
    key, _ = await find(conn, project_no, subject_id)
    return await preferences.suppressions(conn, key, after_channel=after_channel, limit=limit)


async def suppress(
    conn: Connection[Record], scope: Scope, secret: bytes, subject_id: str, *, channel: str, reason: str
) -> Suppression:
    """Let nothing be sent by this channel. An unknown subject is created; a suppressed one gets the new reason."""
    key = await _hold(conn, scope.project_no, subject_id)
    now = await clock.now(conn)
    kept = await preferences.find_suppression(conn, key, channel)
    suppression = Suppression(channel=channel, reason=reason, suppressed_at=kept.suppressed_at if kept else now)
    if suppression == kept:
        return kept
    await preferences.suppress(conn, key, suppression)
    if kept is None:
        await inbox_entries.add(conn, [key], "preferences", now)
    await _record(conn, scope, secret, subject_id, SUBJECT_SUPPRESSED, channel, now)
    return suppression


async def suppress_held(
    conn: Connection[Record],
    scope: Scope,
    secret: bytes,
    subject_id: str,
    key: SubjectKey,
    *,
    channel: str,
    reason: str,
    now: datetime,
) -> None:
    """Suppress a channel of a subject whose row the caller holds. A suppression that is there stays as it is."""
    if await preferences.find_suppression(conn, key, channel) is not None:
        return
    await preferences.suppress(conn, key, Suppression(channel=channel, reason=reason, suppressed_at=now))
    await inbox_entries.add(conn, [key], "preferences", now)
    await _record(conn, scope, secret, subject_id, SUBJECT_SUPPRESSED, channel, now)


async def unsuppress(conn: Connection[Record], scope: Scope, secret: bytes, subject_id: str, *, channel: str) -> None:
    """Take a suppression away. Raises NotFound SUBJECT_NOT_FOUND, SUPPRESSION_NOT_FOUND."""
    key = (await subjects.find_locked(conn, scope.project_no, [subject_id])).get(subject_id)
    if key is None:
        raise unknown(subject_id)
    now = await clock.now(conn)
    if not await preferences.unsuppress(conn, key, channel):
        raise NotFound("SUPPRESSION_NOT_FOUND", f"{channel} is not suppressed", subjectId=subject_id, channel=channel)
    await inbox_entries.add(conn, [key], "preferences", now)
    await _record(conn, scope, secret, subject_id, SUBJECT_UNSUPPRESSED, channel, now)


async def _hold(conn: Connection[Record], project_no: int, subject_id: str) -> SubjectKey:
    """The subject, created if need be, whose row is held from here on."""
    keys, created = await subjects.ensure_locked(conn, project_no, [subject_id], await clock.now(conn))
    # Whoever keeps something about every subject hears of a new one.
    await inbox_entries.add(conn, [keys[subject_id] for subject_id in created], "attributes", await clock.now(conn))
    return keys[subject_id]


async def _record(
    conn: Connection[Record], scope: Scope, secret: bytes, subject_id: str, action: Action, channel: str, now: datetime
) -> None:
    await audit.append(
        conn,
        project_no=scope.project_no,
        at=now,
        actor=scope.actor,
        action=action,
        resource_id=subject_hash(secret, scope.project_id, subject_id),
        metadata={"channel": channel},
    )
