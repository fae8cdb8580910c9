"""Work in a thread ends for whoever waits for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from orchestrator.application.threads import in_thread


def _nothing_left(numbers: Iterator[int]) -> int:
    return next(numbers)


async def test_what_it_comes_to_is_told() -> None:
    assert await in_thread(divmod, 7, 2) == (3, 1)


async def test_what_it_raises_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        await in_thread(divmod, 7, 0)


async def test_an_iterator_without_an_end_of_its_own_does_not_keep_anybody_waiting() -> None:
    with pytest.raises(RuntimeError) as raised:
        await in_thread(_nothing_left, iter(()))

    assert isinstance(raised.value.__cause__, StopIteration)
