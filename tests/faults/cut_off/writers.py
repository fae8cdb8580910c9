"""The functions of `orchestrator.storage` that write, found by what they say to Postgres. None is named here."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections import defaultdict
from collections.abc import Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any

import orchestrator.storage

#: What a statement has that changes rows, or calls something that does.
WRITES = re.compile(
    r"\bINSERT INTO\b|\bUPDATE\s+\w+(\s+AS\s+\w+)?\s+SET\b|\bDELETE FROM\b|\bTRUNCATE\b|\bMERGE INTO\b"
    r"|\b(ensure|drop_empty)_events_months?\s*\(|\bprovision_\w+\s*\(",
    re.IGNORECASE,
)
#: How asyncpg is asked to write without a statement.
_COPIES = frozenset({"copy_records_to_table", "copy_to_table"})


def writers() -> dict[str, list[str]]:
    """By module, those that anybody may call with a connection first and that write, themselves or by others; methods
    as `Class.method`.
    """
    found: defaultdict[str, set[str]] = defaultdict(set)
    for module in _modules():
        for name, function in _functions(module):
            if _takes_connection(function, 0) and _writes(function):
                found[module.__name__].add(name)
        for value in vars(module).values():
            for function in _methods(type(value)):
                if _takes_connection(function, 1) and _has_statement(value, function):
                    found[function.__module__].add(function.__qualname__)
    return {name: sorted(names) for name, names in sorted(found.items())}


def _modules() -> Iterator[ModuleType]:
    for listed in pkgutil.iter_modules(orchestrator.storage.__path__, "orchestrator.storage."):
        yield importlib.import_module(listed.name)


def _functions(module: ModuleType) -> Iterator[tuple[str, FunctionType]]:
    """Its own coroutine functions that are not private."""
    for name, value in vars(module).items():
        is_own = inspect.iscoroutinefunction(value) and value.__module__ == module.__name__
        if is_own and not name.startswith("_"):
            yield name, value


def _methods(kind: type) -> Iterator[FunctionType]:
    """Coroutine methods of a class of these modules that are not private."""
    if kind.__module__.startswith(f"{orchestrator.storage.__name__}."):
        for name, function in inspect.getmembers(kind, inspect.iscoroutinefunction):
            if not name.startswith("_"):
                yield function


def _takes_connection(function: FunctionType, place: int) -> bool:
    return list(inspect.signature(function).parameters)[place : place + 1] == ["conn"]


def _has_statement(instance: Any, method: FunctionType) -> bool:
    """Whether a statement that this one keeps for the method writes."""
    kept = (getattr(instance, name, None) for name in method.__code__.co_names)
    return any(isinstance(text, str) and WRITES.search(text) is not None for text in kept)


def _writes(function: FunctionType, seen: frozenset[FunctionType] = frozenset()) -> bool:
    """Whether a statement of it writes, or of what it calls in these modules."""
    if function in seen:
        return False
    for code in _codes(function.__code__):
        names = set(code.co_names)
        if names & _COPIES or any(WRITES.search(text) for text in code.co_consts if isinstance(text, str)):
            return True
        for name in names & function.__globals__.keys():
            if _is_written_by(function.__globals__[name], names, seen | {function}):
                return True
    return False


def _is_written_by(value: Any, names: set[str], seen: frozenset[FunctionType]) -> bool:
    match value:
        case str():
            return WRITES.search(value) is not None
        case FunctionType():
            return value.__module__.startswith("orchestrator.storage.") and _writes(value, seen)
        case ModuleType() if value.__name__.startswith("orchestrator.storage."):
            called = [vars(value)[name] for name in names & vars(value).keys()]
            return any(_writes(one, seen) for one in called if isinstance(one, FunctionType))
        case list() | tuple() | dict():  # statements, and those by kind
            texts = value.values() if isinstance(value, dict) else value
            return any(isinstance(text, str) and WRITES.search(text) for text in texts)
    return False


def _codes(code: CodeType) -> Iterator[CodeType]:
    """It, and what is defined within."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)
