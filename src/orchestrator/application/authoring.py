"""What all nouns that people author have in common: create, get, list, change, delete. Callers own the transaction.

Paths of faults start at the resource, which is the body of such a request.

A change first takes the project's definitions, so that changes of one project happen one after the other; it leaves an
entry in the audit log.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from asyncpg import Connection, Record

from orchestrator.domain.audit import Action, Value
from orchestrator.domain.etag import Expected
from orchestrator.domain.ids import id_fault, new_id
from orchestrator.domain.refusals import AlreadyExists, InvalidArgument, NotFound
from orchestrator.domain.resource import Page, Place, Resource, changed, created, differ, member_of
from orchestrator.domain.scope import Scope
from orchestrator.predicates.faults import Fault
from orchestrator.storage import audit, clock, projects

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    Content = TypeVar("Content", bound=DataclassInstance)
else:
    Content = TypeVar("Content")


class Store(Protocol[Content]):
    """Where resources of one kind are kept: a storage.resources.Table, or a module with its functions."""

    async def insert(
        self, conn: Connection[Record], project_no: int, resource: Resource[Content], /
    ) -> Resource[Content] | None: ...

    async def update(self, conn: Connection[Record], project_no: int, resource: Resource[Content], /) -> None: ...

    async def delete(self, conn: Connection[Record], project_no: int, resource_id: str, /) -> bool: ...

    async def find(
        self, conn: Connection[Record], project_no: int, resource_id: str, /
    ) -> Resource[Content] | None: ...

    async def page(
        self, conn: Connection[Record], project_no: int, after: Place | None, limit: int, /
    ) -> Page[Content]: ...


#: Everything that is wrong with a content of which these fields are new (connection, project_no, content, fields).
Check = Callable[["Connection[Record]", int, Content, Collection[str]], Awaitable[list[Fault]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Noun(Generic[Content]):
    """`name` is the resource's in requests (`triggerContract`), `prefix` begins the ids the server makes."""

    name: str
    prefix: str
    store: Store[Content]
    created: Action
    updated: Action
    deleted: Action

    def named(self, resource_id: str) -> dict[str, str]:
        """How refusals name one of them: `{"audienceId": "aud-1"}`."""
        return {f"{self.name}Id": resource_id}

    def not_found(self, resource_id: str) -> NotFound:
        kind = self.created.resource_kind
        return NotFound(
            f"{kind.upper()}_NOT_FOUND", f"there is no {_words(kind)} {resource_id}", **self.named(resource_id)
        )


async def create(
    conn: Connection[Record],
    scope: Scope,
    noun: Noun[Content],
    chosen_id: str,
    content: Content,
    check: Check[Content],
) -> Resource[Content]:
    """Make a resource, under `chosen_id` if that is not empty.

    Raises InvalidArgument with all faults, and AlreadyExists.
    """
    await projects.touch_definitions(conn, scope.project_no)
    chosen = id_fault(chosen_id, "id") if chosen_id else None
    faults = [chosen] if chosen else []
    faults += await check(conn, scope.project_no, content, _names(content))
    if faults:
        raise InvalidArgument(faults)
    now = await clock.now(conn)
    resource = await noun.store.insert(conn, scope.project_no, created(chosen_id or new_id(noun.prefix), content, now))
    if resource is None:
        kind = noun.created.resource_kind
        raise AlreadyExists(
            "ALREADY_EXISTS", f"there is already {_article(kind)} {_words(kind)} {chosen_id}", **noun.named(chosen_id)
        )
    await _record(conn, scope, noun.created, resource)
    return resource


async def get(conn: Connection[Record], scope: Scope, noun: Noun[Content], resource_id: str) -> Resource[Content]:
    """Raises NotFound."""
    resource = await noun.store.find(conn, scope.project_no, resource_id)
    if resource is None:
        raise noun.not_found(resource_id)
    return resource


async def page(
    conn: Connection[Record], scope: Scope, noun: Noun[Content], after: Place | None, limit: int
) -> Page[Content]:
    """Newest first, at most `limit`, from where an earlier page ended."""
    return await noun.store.page(conn, scope.project_no, after, limit)


async def update(
    conn: Connection[Record],
    scope: Scope,
    noun: Noun[Content],
    resource_id: str,
    change: Callable[[Content], Content],
    expected: Expected,
    check: Check[Content],
    told: Callable[[Content], Mapping[str, Value]] = lambda content: {},
) -> Resource[Content]:
    """Put `change` of the content in its place; where that is the same, nothing is written.

    `told` is what the audit log says besides the fields that changed. Raises NotFound, Conflict, and InvalidArgument
    with all faults.
    """
    await projects.touch_definitions(conn, scope.project_no)
    before = await get(conn, scope, noun, resource_id)
    expected.require(revision=before.revision, updated_at=before.updated_at, **noun.named(resource_id))
    content = change(before.content)
    different = [name for name in _names(content) if differ(getattr(before.content, name), getattr(content, name))]
    if not different:
        return before
    if faults := await check(conn, scope.project_no, content, different):
        raise InvalidArgument(faults)
    resource = changed(before, content, await clock.now(conn))
    await noun.store.update(conn, scope.project_no, resource)
    members = [member_of(noun.updated.resource_kind, name) for name in different]
    await _record(conn, scope, noun.updated, resource, fields=",".join(members), **told(content))
    return resource


async def delete(
    conn: Connection[Record],
    scope: Scope,
    noun: Noun[Content],
    resource_id: str,
    expected: Expected,
    before: Callable[[Resource[Content]], Awaitable[None]] | None = None,
) -> None:
    """Remove a resource, once `before` has removed what depends on it or has refused. Raises NotFound, Conflict."""
    await projects.touch_definitions(conn, scope.project_no)
    resource = await get(conn, scope, noun, resource_id)
    expected.require(revision=resource.revision, updated_at=resource.updated_at, **noun.named(resource_id))
    if before is not None:
        await before(resource)
    await noun.store.delete(conn, scope.project_no, resource_id)
    await audit.append(
        conn,
        project_no=scope.project_no,
        at=await clock.now(conn),
        actor=scope.actor,
        action=noun.deleted,
        resource_id=resource_id,
    )


async def _record(
    conn: Connection[Record], scope: Scope, action: Action, resource: Resource[Content], **metadata: Value
) -> None:
    await audit.append(
        conn,
        project_no=scope.project_no,
        at=resource.updated_at,
        actor=scope.actor,
        action=action,
        resource_id=resource.id,
        metadata=metadata,
    )


def _names(content: Content) -> list[str]:
    return [field.name for field in fields(content)]


def _words(kind: str) -> str:
    return kind.replace("_", " ")


def _article(kind: str) -> str:
    return "an" if kind[0] in "aeiou" else "a"
