"""Calls of some services, through the pipeline that serves every transport."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from google.protobuf.message import Message
from prometheus_client import CollectorRegistry

from orchestrator.api.admission_control import Admission, Bounds
from orchestrator.api.auth import Authentication
from orchestrator.api.client_certificates import AllowedClients
from orchestrator.api.errors import Failure
from orchestrator.api.json_codec import WHOLE_REQUEST, read_request
from orchestrator.api.json_encode import encode
from orchestrator.api.methods import Method, services, table
from orchestrator.api.metrics import CallMetrics
from orchestrator.api.pipeline import Arrival, Pipeline, Read
from orchestrator.api.policy import POLICY
from orchestrator.api.request_shapes import url_of
from orchestrator.application.api_keys import ApiKeys
from orchestrator.application.transactions import Transactions
from orchestrator.domain.scope import Role, Scope
from orchestrator.predicates.faults import Fault
from orchestrator.storage import instance

if TYPE_CHECKING:
    from asyncpg import Pool, Record

_VARIABLE = re.compile(r"\{([a-z_.]+)\}")

OPERATOR_KEY = "operator-key-of-a-test"


class Refused(Exception):
    """The call failed."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(f"{failure.code.name} {failure.reason}: {failure.message}")
        self.code = failure.code.name
        self.reason = failure.reason
        self.message = failure.message
        self.metadata = failure.metadata
        self.faults = [(fault.path, fault.reason) for fault in failure.faults]


class Served:
    """Services in one process."""

    def __init__(self, pool: Pool[Record], secret: bytes, *handlers: object) -> None:
        self.transactions = Transactions(pool)
        self.api_keys = ApiKeys(secret)
        rpcs = {name for handler in handlers for name in dir(handler) if name[0].isupper()}
        declared = [service for service in services() if {method.name for method in service.methods} <= rpcs]
        names = {f"{service.full_name}/{method.name}" for service in declared for method in service.methods}
        methods = table(declared, {name: rule for name, rule in POLICY.items() if name in names}, handlers)
        self._methods: Mapping[str, Method] = {method.rpc: method for method in methods.values()}
        self._pipeline = Pipeline(
            authentication=Authentication(self.transactions, secret, operator_key=OPERATOR_KEY),
            transactions=self.transactions,
            metrics=CallMetrics(CollectorRegistry(), methods.values()),
            admission=Admission(Bounds(calls=1000, calls_of_key=1000, heavy=1000)),
            clients=AllowedClients(()),
        )

    @classmethod
    async def open(cls, pool: Pool[Record], *handlers: object) -> Served:
        async with pool.acquire() as conn:
            return cls(pool, await instance.read_secret(conn), *handlers)  # type: ignore[arg-type]

    async def admit(self, scope: Scope, role: Role) -> str:
        """A key of that role in the scope's project."""
        key = f"{role.name.lower()}-of-{scope.project_id}"
        async with self.transactions.write(0) as conn:
            await self.api_keys.admit(conn, scope.project_no, key=key, name=key, role=role)
        return key

    async def call(self, key: str, rpc: str, **request: Any) -> dict[str, Any]:
        """The response to a request, told by its fields' JSON names, as an HTTP call brings it. Raises Refused."""
        method = self._methods[rpc]

        async def read() -> Read:
            return Read(*_as_http_brings_it(method, request))

        arrival = Arrival(
            method=method, transport="test", peer="", key=key, as_bearer=True, call_id="test", time_left=60, read=read
        )
        answer = await self._pipeline.serve(arrival)
        await self._pipeline.close()
        if isinstance(answer, Failure):
            raise Refused(answer)
        response: dict[str, Any] = encode(method.response.FromString(answer))
        return response


def _as_http_brings_it(method: Method, request: Mapping[str, Any]) -> tuple[Message, list[Fault]]:
    rule = method.http[0]
    rest = copy.deepcopy(dict(request))
    path = {}
    for variable in _VARIABLE.findall(url_of(rule)):
        *way, last = (_json_name(name) for name in variable.split("."))
        holder = rest
        for step in way:
            holder = holder[step]
        path[variable] = holder.pop(last)
    if rule.body == WHOLE_REQUEST:
        body, query = rest, {}
    else:
        body, query = rest.pop(_json_name(rule.body), {}), rest
    return read_request(
        method.request,
        body_field=rule.body,
        body=json.dumps(body).encode() if rule.body else b"",
        path=path,
        query=[(name, value if isinstance(value, str) else json.dumps(value)) for name, value in query.items()],
    )


def _json_name(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(other.capitalize() for other in others)
