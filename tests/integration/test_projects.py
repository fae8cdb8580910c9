"""Projects and their keys over the API: the operator makes them, owners change them, nobody sees another's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
import pytest

from orchestrator.api.handlers.api_keys import ApiKeyHandlers
from orchestrator.api.handlers.projects import ProjectHandlers
from orchestrator.application.api_keys import ApiKeys
from orchestrator.domain.scope import Role
from orchestrator.storage import instance
from tests.integration.projects import make_project
from tests.integration.served import OPERATOR_KEY, Refused, Served

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record

#: Of a new project.
NONE: dict[str, Any] = {"frequencyCaps": [], "channelRates": [], "shownFields": []}


@pytest.fixture
async def served(api_pool: Pool[Record], owner: Connection[Record]) -> Served:
    api_keys = ApiKeys(await instance.read_secret(owner))
    return await Served.open(api_pool, ProjectHandlers(api_keys), ApiKeyHandlers(api_keys))


async def create(served: Served, **project: Any) -> dict[str, Any]:
    return await served.call(OPERATOR_KEY, "CreateProject", project={"name": "Acme", **project})


async def test_the_operator_makes_a_project_and_its_first_owner_key(served: Served) -> None:
    made = await create(served, id="acme")

    assert made["project"]["id"] == "acme"
    assert made["project"]["settings"] == {
        "timeZone": "UTC",
        "goalWindow": "1w",
        **NONE,
    }
    assert made["apiKey"]["role"] == "owner"
    own = await served.call(made["secret"], "GetProject", projectId="acme")
    assert own["project"] == made["project"]


async def test_a_project_can_go_without_an_id_of_its_own(served: Served) -> None:
    made = await create(served)

    assert made["project"]["id"].startswith("prj-")
    assert (await served.call(made["secret"], "GetProject", projectId=made["project"]["id"]))["project"]


async def test_the_first_key_is_shown_once(served: Served, owner: Connection[Record]) -> None:
    first = await served.call(OPERATOR_KEY, "CreateProject", project={"id": "acme", "name": "A"}, requestId="r1")
    again = await served.call(OPERATOR_KEY, "CreateProject", project={"id": "acme", "name": "A"}, requestId="r1")

    assert first["secret"]
    assert {**first, "secret": ""} == {**again, "secret": again.get("secret", "")}
    kept = await owner.fetchval("SELECT response FROM idempotency")
    assert first["secret"].encode() not in kept


@pytest.mark.parametrize(
    ("project", "faults"),
    [
        ({"id": "Acme"}, [("id", "INVALID_ID")]),
        ({"id": "operator"}, [("id", "INVALID_ID")]),
        ({"id": "x" * 64}, [("id", "TOO_LONG")]),
        ({"name": ""}, [("name", "REQUIRED")]),
        ({"settings": {"timeZone": "Berlin"}}, [("settings.timeZone", "INVALID_VALUE")]),
        ({"settings": {"timeZone": "localtime"}}, [("settings.timeZone", "INVALID_VALUE")]),
        ({"settings": {"goalWindow": "0s"}}, [("settings.goalWindow", "OUT_OF_RANGE")]),
        ({"settings": {"maxJourneys": -1}}, [("settings.maxJourneys", "OUT_OF_RANGE")]),
        ({"settings": {"eventRetention": "23h"}}, [("settings.eventRetention", "OUT_OF_RANGE")]),
        ({"settings": {"eventRetention": "36501d"}}, [("settings.eventRetention", "OUT_OF_RANGE")]),
        ({"settings": {"louderHours": {}}}, [("settings.louderHours", "UNKNOWN_FIELD")]),
        (
            {"settings": {"shownFields": ["plan", "a..b", "", "plan", "$entry"]}},
            [
                ("settings.shownFields[1]", "INVALID_VALUE"),
                ("settings.shownFields[2]", "REQUIRED"),
                ("settings.shownFields[3]", "INVALID_VALUE"),
                ("settings.shownFields[4]", "INVALID_VALUE"),
            ],
        ),
        ({"settings": {"shownFields": ["x" * 501]}}, [("settings.shownFields[0]", "TOO_LONG")]),
        ({"settings": {"shownFields": [f"f{n}" for n in range(101)]}}, [("settings.shownFields", "TOO_LARGE")]),
        (
            {"settings": {"timeZone": "Berlin", "goalWindow": "366d"}},
            [("settings.timeZone", "INVALID_VALUE"), ("settings.goalWindow", "OUT_OF_RANGE")],
        ),
    ],
)
async def test_faults_are_named_with_their_paths(
    served: Served, project: dict[str, Any], faults: list[tuple[str, str]]
) -> None:
    with pytest.raises(Refused) as refused:
        await create(served, **project)

    assert refused.value.faults == faults
    assert (await served.call(OPERATOR_KEY, "ListProjects")).get("projects", []) == []


async def test_an_id_is_taken_once(served: Served) -> None:
    await create(served, id="acme")

    with pytest.raises(Refused, match="ALREADY_EXISTS ALREADY_EXISTS"):
        await create(served, id="acme", name="Other")


async def test_an_owner_changes_settings_and_leaves_the_others_as_they_are(served: Served) -> None:
    key = (await create(served, id="acme", settings={"maxJourneys": 3, "goalWindow": "3d"}))["secret"]

    async def update(**project: Any) -> dict[str, Any]:
        changed = await served.call(key, "UpdateProject", project={"id": "acme", **project})
        result: dict[str, Any] = changed["project"]
        return result

    zoned = await update(settings={"timeZone": "Europe/Berlin"})
    named = await update(name="Acme Ltd")
    reset = await update(settings={"maxJourneys": None, "goalWindow": None})

    assert zoned["settings"] == {
        "timeZone": "Europe/Berlin",
        "goalWindow": "3d",
        "maxJourneys": 3,
        **NONE,
    }
    assert (named["name"], named["settings"]) == ("Acme Ltd", zoned["settings"])
    assert reset["settings"] == {
        "timeZone": "Europe/Berlin",
        "goalWindow": "1w",
        **NONE,
    }
    assert await served.call(key, "GetProject", projectId="acme") == {"project": reset}


async def test_events_are_kept_for_ever_unless_an_owner_says_otherwise(
    served: Served, owner: Connection[Record]
) -> None:
    key = (await create(served, id="acme", settings={"eventRetention": "90d"}))["secret"]
    counting = {
        "kind": "event_fired", "eventName": "buy", "atLeast": 2, "window": {"type": "last_n_days", "days": 60},
    }  # fmt: skip
    await owner.execute(
        "INSERT INTO audiences (project_no, audience_id, name, predicate, created_at, updated_at)"
        " SELECT project_no, 'often', 'A', $1::text::jsonb, now(), now() FROM projects",
        orjson.dumps(counting).decode(),
    )

    async def update(retention: str | None) -> dict[str, Any]:
        changed = await served.call(
            key, "UpdateProject", project={"id": "acme", "settings": {"eventRetention": retention}}
        )
        settings: dict[str, Any] = changed["project"]["settings"]
        return settings

    with pytest.raises(Refused, match="FAILED_PRECONDITION EVENT_RETENTION_TOO_SHORT") as refused:
        await update("59d")
    assert refused.value.faults == [("settings.eventRetention", "EVENT_RETENTION_TOO_SHORT")]
    assert (await update("60d"))["eventRetention"] == "60d"
    assert "eventRetention" not in await update(None)


async def test_a_mask_names_the_settings_to_change_too(served: Served) -> None:
    key = (await create(served, id="acme", settings={"maxJourneys": 3}))["secret"]
    project = {"id": "acme", "settings": {"timeZone": "Europe/Berlin", "maxJourneys": 5}}

    one = await served.call(key, "UpdateProject", project=project, updateMask="settings.timeZone")
    whole = await served.call(key, "UpdateProject", project={"id": "acme"}, updateMask="settings")

    assert one["project"]["settings"] == {
        "timeZone": "Europe/Berlin",
        "goalWindow": "1w",
        "maxJourneys": 3,
        **NONE,
    }
    assert whole["project"]["settings"] == {
        "timeZone": "UTC",
        "goalWindow": "1w",
        **NONE,
    }


async def test_an_owner_says_which_fields_are_not_personal_and_takes_it_back(
    served: Served, owner: Connection[Record]
) -> None:
    key = (await create(served, id="acme", settings={"maxJourneys": 3}))["secret"]

    async def update(**settings: Any) -> dict[str, Any]:
        changed = await served.call(key, "UpdateProject", project={"id": "acme", "settings": settings})
        told: dict[str, Any] = changed["project"]["settings"]
        return told

    marked = await update(shownFields=["plan", "a\\.b", "$entry.amount"])
    later = await update(timeZone="Europe/Berlin")
    taken_back = await update(shownFields=[])

    assert (marked["shownFields"], marked["maxJourneys"]) == (["plan", "a\\.b", "$entry.amount"], 3)
    assert later["shownFields"] == marked["shownFields"]
    assert taken_back["shownFields"] == []
    noted = await owner.fetch(
        "SELECT metadata->>'fields' FROM audit_log WHERE action = 'project_updated' ORDER BY audit_no"
    )
    assert [row[0] for row in noted] == ["shownFields", "timeZone", "shownFields"]


async def test_a_change_that_is_refused_leaves_everything_as_it_was(served: Served) -> None:
    made = await create(served, id="acme")
    key = made["secret"]

    with pytest.raises(Refused) as refused:
        await served.call(key, "UpdateProject", project={"id": "acme", "name": "B", "settings": {"timeZone": "Berlin"}})
    assert refused.value.faults == [("settings.timeZone", "INVALID_VALUE")]
    changed = await served.call(key, "UpdateProject", project={"id": "acme", "name": "B"})
    with pytest.raises(Refused, match="ABORTED ETAG_MISMATCH"):
        await served.call(key, "UpdateProject", project={"id": "acme", "name": "C", "etag": made["project"]["etag"]})

    assert await served.call(key, "GetProject", projectId="acme") == changed


async def test_nobody_sees_or_changes_another_project(served: Served) -> None:
    key = (await create(served, id="acme"))["secret"]
    await create(served, id="other")

    for rpc, request in (
        ("GetProject", {"projectId": "other"}),
        ("UpdateProject", {"project": {"id": "other", "name": "Mine"}}),
        ("GetProject", {"projectId": "gone"}),
    ):
        with pytest.raises(Refused, match="NOT_FOUND PROJECT_NOT_FOUND"):
            await served.call(key, rpc, **request)


async def test_the_operator_sees_all_projects_newest_first_and_changes_none(served: Served) -> None:
    for number in range(3):
        await create(served, id=f"p{number}")

    first = await served.call(OPERATOR_KEY, "ListProjects", pageSize=2)
    rest = await served.call(OPERATOR_KEY, "ListProjects", pageSize=2, pageToken=first["nextPageToken"])

    assert [project["id"] for project in first["projects"] + rest["projects"]] == ["p2", "p1", "p0"]
    assert (await served.call(OPERATOR_KEY, "GetProject", projectId="p1"))["project"]["id"] == "p1"
    with pytest.raises(Refused, match="ROLE_TOO_LOW"):
        await served.call(OPERATOR_KEY, "UpdateProject", project={"id": "p1", "name": "Mine"})


async def test_only_owners_change_a_project_and_only_the_operator_makes_one(
    served: Served, api_pool: Pool[Record]
) -> None:
    scope = await make_project(api_pool)

    for role in (Role.VIEWER, Role.EDITOR, Role.ADMIN):
        key = await served.admit(scope, role)
        for rpc, request in (
            ("UpdateProject", {"project": {"id": "default", "name": "B"}}),
            ("CreateProject", {"project": {"name": "B"}}),
            ("ListProjects", {}),
        ):
            with pytest.raises(Refused, match="ROLE_TOO_LOW"):
                await served.call(key, rpc, **request)
    owner_key = await served.admit(scope, Role.OWNER)
    await served.call(owner_key, "UpdateProject", project={"id": "default", "name": "B"})


async def test_a_change_is_recorded_and_announced(served: Served, owner: Connection[Record]) -> None:
    key = (await create(served, id="acme"))["secret"]
    before = await owner.fetchval("SELECT definitions_version FROM projects")

    await served.call(key, "UpdateProject", project={"id": "acme", "settings": {"maxJourneys": 2}})

    rows = await owner.fetch("SELECT project_no, action, resource_id, metadata::text FROM audit_log ORDER BY audit_no")
    assert [tuple(row)[1:] for row in rows] == [
        ("project_created", "acme", "{}"),
        ("project_updated", "acme", '{"fields": "maxJourneys"}'),
    ]
    assert rows[0]["project_no"] == 0
    assert await owner.fetchval("SELECT definitions_version FROM projects") > before


async def test_keys_are_made_rotated_and_revoked(served: Served) -> None:
    owner_key = (await create(served, id="acme"))["secret"]

    made = await served.call(owner_key, "CreateApiKey", apiKey={"name": "CI", "role": "editor"})
    rotated = await served.call(owner_key, "RotateApiKey", apiKeyId=made["apiKey"]["id"], overlap="1h")
    revoked = await served.call(owner_key, "RevokeApiKey", apiKeyId=rotated["apiKey"]["id"])
    listed = (await served.call(owner_key, "ListApiKeys"))["apiKeys"]

    assert made["apiKey"]["role"] == "editor"
    assert made["secret"].startswith(made["apiKey"]["prefix"])
    assert (rotated["apiKey"]["rotatedFrom"], rotated["apiKey"]["name"]) == (made["apiKey"]["id"], "CI")
    assert revoked["apiKey"]["revokedAt"]
    assert {key["id"] for key in listed} >= {made["apiKey"]["id"], rotated["apiKey"]["id"]}
    assert next(key for key in listed if key["id"] == made["apiKey"]["id"])["expiresAt"]
    assert (await served.call(made["secret"], "GetProject", projectId="acme"))["project"]["id"] == "acme"


async def test_nobody_makes_a_key_above_their_own(served: Served, api_pool: Pool[Record]) -> None:
    admin_key = await served.admit(await make_project(api_pool), Role.ADMIN)

    with pytest.raises(Refused, match="PERMISSION_DENIED ROLE_TOO_LOW"):
        await served.call(admin_key, "CreateApiKey", apiKey={"name": "Mine", "role": "owner"})
    with pytest.raises(Refused) as refused:
        await served.call(admin_key, "CreateApiKey", apiKey={"name": "", "expiresAt": "2020-01-01T00:00:00Z"})
    assert ("role", "REQUIRED") in refused.value.faults
