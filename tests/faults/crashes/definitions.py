"""Scenarios of who works with journeys, keys and preferences."""

from __future__ import annotations

from tests.faults.checker import Effect
from tests.faults.checker.op_log import AUDIT, SILENCE
from tests.faults.crashes.ground import BYE, LONG, NAP, Ground, crowd


async def publishing(ground: Ground) -> None:
    """Executions come in meanwhile, each by a version that is whole."""
    await ground.journey("edited", NAP, BYE)

    async def turn(number: int) -> None:
        nap = {**NAP, "wait": {"duration": f"{1 + number % 3}s"}, "next": "again"}
        again = {"id": "again", "wait": {"duration": f"{1 + number}s"}, "next": "bye"}
        await ground.field.call("PATCH", "/v1/journeys/edited", {"steps": [nap, again, BYE]})
        await ground.publish("edited", number + 2)
        await ground.enroll("edited", crowd(f"reader-{number}", 2))

    await ground.turn_after_turn("publishing", turn)

    async def pointed_at() -> None:
        row = await ground.rows.fetchrow(
            "SELECT j.latest_version, max(v.version) AS newest, count(*) AS versions FROM journeys AS j"
            "  JOIN journey_versions AS v USING (project_no, journey_id) WHERE j.journey_id = 'edited' GROUP BY 1"
        )
        assert row is not None
        assert row["latest_version"] == row["newest"] == row["versions"]

    ground.checks.append(pointed_at)


async def keys(ground: Ground) -> None:
    made: list[str] = []

    async def turn(number: int) -> None:
        answer = await ground.field.call("POST", "/v1/apiKeys", {"name": f"Key {number}", "role": "viewer"})
        made.append(answer["apiKey"]["id"])
        await ground.field.call("POST", f"/v1/apiKeys/{made[-1]}:rotate", {"overlap": "1h"})

    await ground.turn_after_turn("keys", turn)

    async def rotated_once() -> None:
        rows = await ground.rows.fetch(
            "SELECT k.api_key_id, k.expires_at, count(n.api_key_id) AS successors, count(a.audit_no) AS entries"
            "  FROM api_keys AS k LEFT JOIN api_keys AS n ON n.rotated_from = k.api_key_id"
            "  LEFT JOIN audit_log AS a ON a.action = 'api_key_rotated' AND a.resource_id = n.api_key_id"
            " WHERE k.api_key_id = ANY ($1) GROUP BY 1, 2",
            made,
        )
        assert sorted(row["api_key_id"] for row in rows) == sorted(made)
        assert {(row["successors"], row["entries"]) for row in rows} == {(1, 1)}
        assert all(row["expires_at"] is not None for row in rows)

    ground.checks.append(rotated_once)


async def merging(ground: Ground) -> None:
    async def turn(number: int) -> None:
        visitor, known = f"visitor-{number}", f"known-{number}"
        await ground.people([visitor, known], {})
        await ground.enroll("plain", [visitor], stays=False)
        await ground.field.call("POST", f"/v1/subjects/{visitor}:merge", {"intoSubjectId": known})

    await ground.turn_after_turn("merging", turn)


async def preferences(ground: Ground) -> None:
    """Who wants nothing more is sent nothing more, though they are on their way to it."""

    async def turn(number: int) -> None:
        silent = f"silent-{2 * number}"
        await ground.field.sign_up([silent])
        change = {"changes": [{"channel": "webhook", "category": "marketing", "optedOut": True}]}
        await ground.field.call(
            "PATCH", f"/v1/subjects/{silent}/preferences", change, effects=[Effect(SILENCE, f"{silent}/webhook")]
        )

    await ground.turn_after_turn("preferences", turn)


async def archiving(ground: Ground) -> None:
    """One journey whose executions are to finish, and one whose executions are to end."""

    async def turn(number: int) -> None:
        for on_archive, step in (("finish", NAP), ("end", LONG)):
            journey_id = f"{on_archive}ed-{number}"
            await ground.journey(journey_id, step, BYE)
            await ground.enroll(journey_id, crowd(journey_id, 3))
            archived = [Effect(AUDIT, f"journey_archived journey/{journey_id}")]
            path = f"/v1/journeys/{journey_id}:archive"
            await ground.field.call("POST", path, {"onArchive": on_archive}, effects=archived)

    await ground.turn_after_turn("archiving", turn)

    async def ended() -> None:
        rows = await ground.rows.fetch(
            "SELECT DISTINCT journey_id LIKE 'ended-%' AS at_once, outcome FROM executions"
            " WHERE journey_id LIKE 'finished-%' OR journey_id LIKE 'ended-%'"
        )
        assert {tuple(row) for row in rows} == {(False, "completed"), (True, "canceled")}

    ground.checks.append(ended)


async def canceling(ground: Ground) -> None:
    async def turn(number: int) -> None:
        journey_id = f"stopped-{number}"
        await ground.journey(journey_id, LONG, BYE)
        await ground.enroll(journey_id, crowd(journey_id, 4))
        asked = [Effect(AUDIT, f"executions_cancel_requested journey/{journey_id}")]
        asked.append(Effect(AUDIT, f"executions_canceled journey/{journey_id}"))
        body = {"filter": {"all": True}, "atMost": 4}
        await ground.field.call("POST", f"/v1/journeys/{journey_id}/executions:cancel", body, effects=asked)

    await ground.turn_after_turn("canceling", turn)

    async def canceled() -> None:
        rows = await ground.rows.fetch("SELECT DISTINCT outcome FROM executions WHERE journey_id LIKE 'stopped-%'")
        assert [row["outcome"] for row in rows] == ["canceled"]
        rows = await ground.rows.fetch("SELECT DISTINCT matched, canceled FROM cancellations")
        assert [tuple(row) for row in rows] == [(4, 4)]

    ground.checks.append(canceled)
