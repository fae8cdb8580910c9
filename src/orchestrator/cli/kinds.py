"""The kinds of resources that are written as documents and kept under an id."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from orchestrator.client import OrchestratorClient, each, messages


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """`word` is the `kind` of a document, `noun` the name of its message.

    All of them have the same five calls in the contract, with the same fields; so they are made of the names alone.
    Calls raise OrchestratorError.
    """

    word: str
    noun: str
    plural: str
    #: The members of the JSON form that lists show.
    columns: tuple[str, ...]

    @property
    def field(self) -> str:
        """The resource in requests and responses."""
        return "".join(f"_{c.lower()}" if c.isupper() else c for c in self.noun).lstrip("_")

    def empty(self) -> Any:
        return getattr(messages, self.noun)()

    def creation(self, resource: Message, *, validate_only: bool = False) -> Any:
        return self._request("Create", **{self.field: resource}, validate_only=validate_only)

    async def find(self, client: OrchestratorClient, resource_id: str, **more: Any) -> Any:
        response = await self._call(client, "Get", **{f"{self.field}_id": resource_id}, **more)
        return getattr(response, self.field)

    async def create(self, client: OrchestratorClient, resource: Message, *, validate_only: bool = False) -> Any:
        response = await self._method(client, "Create")(self.creation(resource, validate_only=validate_only))
        return getattr(response, self.field)

    async def update(
        self, client: OrchestratorClient, resource: Message, paths: Sequence[str], *, validate_only: bool = False
    ) -> Any:
        """Changes what `paths` name, if the resource is still in the state of its etag."""
        mask = FieldMask(paths=paths)
        response = await self._call(
            client, "Update", **{self.field: resource}, update_mask=mask, validate_only=validate_only
        )
        return getattr(response, self.field)

    async def delete(self, client: OrchestratorClient, resource_id: str, **more: Any) -> None:
        await self._call(client, "Delete", **{f"{self.field}_id": resource_id}, **more)

    def each(self, client: OrchestratorClient, **filters: Any) -> AsyncIterator[Any]:
        request = getattr(messages, f"List{self.noun}sRequest")(**filters)
        method: Any = getattr(self._service(client), f"List{self.noun}s")
        return each(method, request)

    def _service(self, client: OrchestratorClient) -> Any:
        return getattr(client, f"{self.field}s")

    def _method(self, client: OrchestratorClient, verb: str) -> Any:
        return getattr(self._service(client), f"{verb}{self.noun}")

    def _request(self, verb: str, **fields: Any) -> Any:
        return getattr(messages, f"{verb}{self.noun}Request")(**fields)

    async def _call(self, client: OrchestratorClient, verb: str, **fields: Any) -> Any:
        return await self._method(client, verb)(self._request(verb, **fields))


SEGMENT = Kind(
    word="segment",
    noun="Segment",
    plural="segments",
    columns=("id", "name", "kind", "size", "building", "lastEvaluatedAt"),
)
AUDIENCE = Kind(word="audience", noun="Audience", plural="audiences", columns=("id", "name", "updatedAt"))
COMMUNICATION = Kind(
    word="communication",
    noun="Communication",
    plural="communications",
    columns=("id", "name", "channel", "category", "contentRevision", "updatedAt"),
)
TRIGGER_CONTRACT = Kind(
    word="triggerContract",
    noun="TriggerContract",
    plural="trigger contracts",
    columns=("id", "name", "eventName", "segmentId", "transition", "updatedAt"),
)
JOURNEY = Kind(
    word="journey",
    noun="Journey",
    plural="journeys",
    columns=("id", "name", "status", "latestVersion", "hasDraft", "updatedAt"),
)

#: In an order in which each comes after what it may name.
KINDS = (SEGMENT, AUDIENCE, COMMUNICATION, TRIGGER_CONTRACT, JOURNEY)
