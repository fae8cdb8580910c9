"""What those who watch our health are told."""

from __future__ import annotations

import asyncio

from orchestrator.api.health_service import HealthService, Status


async def test_every_service_and_the_server_itself_have_the_status_that_was_told() -> None:
    service = HealthService(["a.A"])
    assert service.statuses == {"": Status.NOT_SERVING, "a.A": Status.NOT_SERVING}

    service.tell(Status.SERVING)

    assert service.statuses == {"": Status.SERVING, "a.A": Status.SERVING}


async def test_who_watches_is_told_now_and_when_it_changes_and_at_the_end_let_go() -> None:
    service = HealthService(["a.A"])
    watch = service.watch("a.A")

    assert await anext(watch) == Status.NOT_SERVING
    after = asyncio.ensure_future(anext(watch))
    service.tell(Status.NOT_SERVING)
    service.tell(Status.SERVING)
    assert await after == Status.SERVING
    service.end()
    assert [status async for status in watch] == []


async def test_who_is_slow_is_told_the_latest_and_holds_up_nobody() -> None:
    service = HealthService(["a.A"])
    slow = service.watch("a.A")
    assert await anext(slow) == Status.NOT_SERVING

    for _ in range(3):
        service.tell(Status.SERVING)
        service.tell(Status.NOT_SERVING)
    service.tell(Status.SERVING)

    assert await anext(slow) == Status.SERVING


async def test_a_service_that_nobody_knows_is_told_as_such() -> None:
    watch = HealthService([]).watch("nobody.Knows")

    assert await anext(watch) == Status.SERVICE_UNKNOWN
