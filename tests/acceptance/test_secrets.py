"""A thousand keys are issued and used: what the server keeps and says holds none of them."""

from __future__ import annotations

import asyncio
import logging
import random
import re
import zlib
from asyncio.subprocess import PIPE
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Sequence
from typing import Any

import pytest

from orchestrator import logs
from orchestrator.devstack.postgres import EmbeddedPostgres, binaries
from orchestrator.domain.api_key import is_possible
from orchestrator.v1 import api_key_service_pb2 as api_keys
from orchestrator.v1 import impact_service_pb2 as impact
from orchestrator.v1 import project_service_pb2 as projects
from orchestrator.v1.api_key_pb2 import ROLE_VIEWER
from tests.acceptance.ground import Ground, Project, served_ground
from tests.integration.api.callers import Refused
from tests.integration.api.conftest import OPERATOR_KEY

CREATED, ROTATED, WITH_PROJECTS = 600, 300, 100
ISSUED = CREATED + ROTATED + WITH_PROJECTS

_PLAN = impact.PlanImpactRequest(base_rate=0.05, lift=0.1, holdout_percent=10, weekly_volume=1000)
_SECRET = re.compile(r"orc_[0-9A-Za-z]{8}_([0-9A-Za-z]{43})_[0-9a-f]{8}")


class Lines:
    """What is logged."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str, /) -> None:
        self.text += text

    def flush(self) -> None:
        pass


@pytest.fixture
async def lines() -> AsyncIterator[Lines]:
    """All that is logged, however little it matters."""
    root, said = logging.getLogger(), Lines()
    handlers, level = root.handlers, root.level
    root.handlers = []
    logs.configure("debug", "json", said)
    yield said
    for handler in root.handlers:
        handler.close()
    root.handlers = handlers
    root.setLevel(level)
    for name in ("orchestrator", "workers", "__main__"):
        logging.getLogger(name).setLevel(logging.NOTSET)


@pytest.fixture
async def ground(postgres: EmbeddedPostgres, template: str) -> AsyncIterator[Ground]:
    async with served_ground(postgres, template) as ground:
        yield ground


async def test_a_thousand_issued_keys_are_in_no_dump_and_in_no_log(ground: Ground, lines: Lines) -> None:
    project = await ground.project("acme", ())
    issued = await _issue(ground, project)
    assert len(set(issued)) == ISSUED
    answers = Counter(await _many(_outcome(ground, key) for key in issued))
    spoiled = [_tampered(key) for key in issued]
    refused = Counter(await _many(_outcome(ground, key) for key in spoiled))
    dump = await _dump(ground)

    for handler in logging.getLogger().handlers:
        handler.flush()
    assert answers == {"OK": ISSUED}
    assert refused == {"UNAUTHENTICATED": ISSUED}, "one character is another one"
    assert lines.text.count('"UNAUTHENTICATED"') >= ISSUED
    assert dump.count("key-") >= CREATED
    for text in (dump, lines.text):
        assert _found(text, [*issued, *spoiled]) == []
    # Else nothing would ever be found.
    assert _found(f"{dump} {issued[7]}", issued) == [issued[7]]
    assert _found(f"{dump} {issued[8].encode().hex()}", issued) == [issued[8]]


async def _issue(ground: Ground, project: Project) -> list[str]:
    """The keys that callers were shown, in every way in which they are."""
    owner = project.owner_key

    async def create(number: int) -> Any:
        key = api_keys.CreateApiKeyRequest(request_id=f"create-{number}")
        key.api_key.name, key.api_key.role = f"key-{number}", ROLE_VIEWER
        return await ground.grpc.call(key, key=owner)

    async def create_project(number: int) -> str:
        request = projects.CreateProjectRequest(request_id=f"project-{number}")
        request.project.name = f"Acme {number}"
        return str((await ground.grpc.call(request, key=OPERATOR_KEY)).secret)

    async def rotate(made: Any) -> str:
        request = api_keys.RotateApiKeyRequest(api_key_id=made.api_key.id, request_id=f"rotate-{made.api_key.id}")
        return str((await ground.grpc.call(request, key=owner)).secret)

    made = await _many(create(number) for number in range(CREATED))
    rotated = await _many(rotate(one) for one in made[:ROTATED])
    with_projects = await _many(create_project(number) for number in range(WITH_PROJECTS))
    return [*(str(one.secret) for one in made), *rotated, *with_projects]


async def _many(work: Any) -> list[Any]:
    """All of it, some at a time."""
    places = asyncio.Semaphore(16)

    async def one(each: Awaitable[Any]) -> Any:
        async with places:
            return await each

    return await asyncio.gather(*(one(each) for each in work))


async def _outcome(ground: Ground, key: str) -> str:
    """What comes of a call that any role may make."""
    try:
        await ground.grpc.call(_PLAN, key=key)
    except Refused as refused:
        return refused.code
    return "OK"


def _tampered(key: str) -> str:
    """One character of the secret is another one, and the checksum that of what came of it."""
    while True:
        at = random.randrange(13, 56)
        body = f"{key[:at]}{random.choice('0aA')}{key[at + 1 : -9]}"
        spoiled = f"{body}_{zlib.crc32(body.encode()):08x}"
        if spoiled != key:
            assert is_possible(spoiled)
            return spoiled


async def _dump(ground: Ground) -> str:
    """The database as `pg_dump` writes it."""
    process = await asyncio.create_subprocess_exec(
        f"{binaries()}/pg_dump", "--no-owner", ground.dsn, stdout=PIPE, env={"PATH": "/usr/bin:/bin"}
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    return out.decode()


def _found(text: str, keys: Sequence[str]) -> list[str]:
    """The keys whose secret is in the text: as it is, or in hexadecimal digits, as dumps have bytes."""
    secrets = {match[1]: key for key in keys if (match := _SECRET.fullmatch(key))}
    assert len(secrets) == len(set(keys))
    windows: dict[int, dict[str, str]] = {
        43: secrets,
        86: {secret.encode().hex(): key for secret, key in secrets.items()},
    }
    return [
        known[text[at : at + size]]
        for size, known in windows.items()
        for at in range(len(text) - size + 1)
        if text[at : at + size] in known
    ]
