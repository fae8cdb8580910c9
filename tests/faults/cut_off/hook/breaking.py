"""Breaks the connections of functions that write: what tests/faults/test_cut_off_statements.py plants into the product.

`BROKEN_STATEMENTS` names a directory. Its `writers.json` has the functions by their modules, and how a statement that
writes is known. Below it `armed/{module}.{function} {when}` says that one call of it is to meet that, in whichever
process: `before` its statement is sent, or `after` the commit, of which nobody hears then. What was met is renamed into
`struck`, which one process alone can do. Statements that write outside of all these functions are noted in `outside`.

Besides, what asks Temporal for something can be told now and then that it is away.
"""

import functools
import itertools
import json
import os
import re
import sys
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

BEFORE, AFTER = "before", "after"

_DIRECTORY = Path(os.environ["BROKEN_STATEMENTS"])
_WITH_TEXT = ("execute", "executemany", "fetch", "fetchval", "fetchrow", "fetchmany")
_COPYING = ("copy_records_to_table", "copy_to_table")

_asking = itertools.count(1)

#: The functions that are at work, the innermost last.
_at_work: ContextVar[tuple[str, ...]] = ContextVar("at_work", default=())
#: What was done in the transactions of connections that is to be cut off after the commit.
_uncommitted: dict[Any, list[str]] = {}


class Wrapping(Loader):
    """Loads a module, and puts something around some of its functions before anybody else sees them."""

    def __init__(self, loader: Any, names: list[str], writes: re.Pattern[str]) -> None:
        self._loader = loader
        self._names = names
        self._writes = writes

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        created: ModuleType | None = self._loader.create_module(spec)
        return created

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        for name in self._names:
            *classes, own = name.split(".")
            owner: Any = module
            for one in classes:
                owner = getattr(owner, one)
            setattr(owner, own, _known(getattr(owner, own), f"{module.__name__}.{name}"))
        _watch_connections(self._writes)


class Finder(MetaPathFinder):
    def __init__(self, functions: dict[str, list[str]], writes: str) -> None:
        self._functions = functions
        self._writes = re.compile(writes, re.IGNORECASE)

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if fullname not in self._functions:
            return None
        # Others may have something to change in it.
        others = (finder for finder in sys.meta_path if finder is not self)
        spec = next(filter(None, (finder.find_spec(fullname, path, target) for finder in others)), None)
        if spec is not None:
            spec.loader = Wrapping(spec.loader, self._functions[fullname], self._writes)
        return spec


def _known(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    """The same, and what it sends is known to be its own."""

    @functools.wraps(function)
    async def known(*arguments: Any, **keywords: Any) -> Any:
        token = _at_work.set((*_at_work.get(), name))
        try:
            return await function(*arguments, **keywords)
        finally:
            _at_work.reset(token)

    return known


@functools.cache
def _watch_connections(writes: re.Pattern[str]) -> None:
    from asyncpg import Connection

    @functools.lru_cache(maxsize=4096)
    def says_so(text: str) -> bool:
        return writes.search(text) is not None

    for name in _WITH_TEXT:
        setattr(Connection, name, _breakable(getattr(Connection, name), says_so))
    for name in _COPYING:
        setattr(Connection, name, _breakable(getattr(Connection, name), lambda table: True))


def _breakable(send: Callable[..., Any], writes: Callable[[str], bool]) -> Callable[..., Any]:
    @functools.wraps(send)
    async def sent(conn: Any, text: str, *arguments: Any, **keywords: Any) -> Any:
        if not writes(text):
            answer = await send(conn, text, *arguments, **keywords)
            if text in ("COMMIT;", "ROLLBACK;"):
                done = _uncommitted.pop(conn, [])
                if text == "COMMIT;" and any(map(_strike, done)):
                    raise _cut_off(conn)
            return answer
        names = _at_work.get()[::-1]
        if not names:
            _note_outside(text)
        # One of them: the others are met another time.
        if any(_strike(f"{name} {BEFORE}") for name in names):
            conn.terminate()  # of which the driver tells as soon as something is to be sent
        answer = await send(conn, text, *arguments, **keywords)
        written = _has_written(answer)
        done = [f"{name} {AFTER}" for name in names if written or _may_be_idle(f"{name} {AFTER}")]
        if conn.is_in_transaction():
            _uncommitted.setdefault(conn, []).extend(done)
        elif any(map(_strike, done)):
            raise _cut_off(conn)
        return answer

    return sent


def _has_written(answer: Any) -> bool:
    """Whether this is not the answer of a statement that found nothing to do."""
    return answer is not None and answer != [] and not (isinstance(answer, str) and answer.endswith(" 0"))


def _cut_off(conn: Any) -> Exception:
    from asyncpg import ConnectionDoesNotExistError

    conn.terminate()
    return ConnectionDoesNotExistError("connection was closed in the middle of operation")


def _may_be_idle(name: str) -> bool:
    """Whether it is to be met also where it finds nothing to do."""
    try:
        return (_DIRECTORY / "armed" / name).stat().st_size > 0
    except FileNotFoundError:
        return False


def _strike(name: str) -> bool:
    try:
        (_DIRECTORY / "armed" / name).rename(_DIRECTORY / "struck" / name)
    except FileNotFoundError:
        return False
    return True


def _note_outside(text: str) -> None:
    with (_DIRECTORY / "outside").open("a") as file:
        file.write(json.dumps(" ".join(text.split())) + "\n")


async def now_and_then_away(asked: Coroutine[Any, Any, Any], one_in: int) -> Any:
    """What was asked of Temporal, or, one time in so many, that it is not there. Raises RPCError then."""
    if next(_asking) % one_in:
        return await asked
    from temporalio.service import RPCError, RPCStatusCode

    asked.close()
    raise RPCError("away for a moment", RPCStatusCode.UNAVAILABLE, b"")


def plant() -> None:
    """From here on."""
    said = json.loads((_DIRECTORY / "writers.json").read_text())
    sys.meta_path.insert(0, Finder(said["functions"], said["writes"]))
