"""The table of RPCs: what the protos declare, joined with who may call and what serves it."""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any

from google.api import annotations_pb2
from google.api.http_pb2 import HttpRule
from google.protobuf.descriptor import Descriptor, MethodDescriptor, ServiceDescriptor
from google.protobuf.descriptor_pb2 import MethodOptions
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from orchestrator import v1
from orchestrator.api.call import Call
from orchestrator.api.policy import Rule
from orchestrator.domain.scope import Role

Handler = Callable[[Any, Call], Awaitable[Message]]


class IncompleteApi(Exception):
    """Protos, policy and handlers do not fit together: the server must not start. Says everything that is missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """One RPC. `name` is `orchestrator.v1.AudienceService/CreateAudience`.

    `names_project`: the request has a `project_key`, for callers whose key is of no project. `secrets` names the fields
    of the response that are shown once and never stored. `http` holds the RPC's bindings, the main one first.
    """

    name: str
    service: str
    rpc: str
    request: type[Message]
    response: type[Message]
    rule: Rule
    handler: Handler
    mutates: bool
    own_transactions: bool
    tells_all: bool
    has_request_id: bool
    has_validate_only: bool
    names_project: bool
    secrets: tuple[str, ...]
    http: tuple[HttpRule, ...]


def services() -> list[ServiceDescriptor]:
    """Every service of the package orchestrator.v1."""
    names = sorted(m.name for m in pkgutil.iter_modules(v1.__path__) if m.name.endswith("_service_pb2"))
    files = [import_module(f"{v1.__name__}.{name}").DESCRIPTOR for name in names]
    return [service for file in files for service in file.services_by_name.values()]


def table(
    declared: Iterable[ServiceDescriptor], policy: Mapping[str, Rule], handlers: Sequence[object]
) -> dict[str, Method]:
    """Join each RPC with its rule and its handler, by name. Raises IncompleteApi unless all find their partners."""
    serving = _serving(handlers)
    methods: dict[str, Method] = {}
    missing: list[str] = []
    declared_names: set[str] = set()
    for descriptor in (method for service in declared for method in service.methods):
        name = f"{descriptor.containing_service.full_name}/{descriptor.name}"
        declared_names.add(name)
        rule, found = policy.get(name), serving.pop(descriptor.name, [])
        if rule is None:
            missing.append(f"{name} has no row in the policy")
        if len(found) != 1:
            missing.append(f"{name} has {len(found) or 'no'} handlers")
        if descriptor.client_streaming or descriptor.server_streaming:
            missing.append(f"{name} is a stream, which no transport serves")
        if rule is not None and Role.INTERNAL in rule.roles and not _names_project(descriptor):
            missing.append(f"{name} is open to the internal token, which is of no project, and its request names none")
        if rule is not None and len(found) == 1:
            methods[name] = _method(descriptor, name, rule, found[0])
    missing += [f"{name} is in the policy and not in the protos" for name in policy if name not in declared_names]
    missing += [f"the handler {rpc} serves no RPC" for rpc in serving]
    if missing:
        raise IncompleteApi("; ".join(missing))
    return methods


def open_to(methods: Mapping[str, Method], roles: Collection[Role]) -> dict[str, Method]:
    """The RPCs that any of these roles may call, each for them alone."""
    rules = {name: method.rule.among(roles) for name, method in methods.items()}
    return {name: replace(methods[name], rule=rule) for name, rule in rules.items() if rule is not None}


def _names_project(descriptor: MethodDescriptor) -> bool:
    return "project_key" in descriptor.input_type.fields_by_name


def _serving(handlers: Sequence[object]) -> dict[str, list[Handler]]:
    """The public methods of the handlers that are named as RPCs are, by name."""
    serving: dict[str, list[Handler]] = {}
    for handler in handlers:
        for name, member in inspect.getmembers(handler, inspect.iscoroutinefunction):
            if name[0].isupper():
                serving.setdefault(name, []).append(member)
    return serving


def _method(descriptor: MethodDescriptor, name: str, rule: Rule, handler: Handler) -> Method:
    options = descriptor.GetOptions()
    return Method(
        name=name,
        service=descriptor.containing_service.full_name,
        rpc=descriptor.name,
        request=GetMessageClass(descriptor.input_type),
        response=GetMessageClass(descriptor.output_type),
        rule=rule,
        handler=handler,
        mutates=options.idempotency_level != MethodOptions.NO_SIDE_EFFECTS,
        own_transactions=getattr(handler, "own_transactions", False),
        tells_all=getattr(handler, "tells_all", False),
        has_request_id="request_id" in descriptor.input_type.fields_by_name,
        has_validate_only="validate_only" in descriptor.input_type.fields_by_name,
        names_project=_names_project(descriptor),
        secrets=_secrets(descriptor.output_type),
        http=_bindings(options),
    )


def _secrets(response: Descriptor) -> tuple[str, ...]:
    return tuple(field.name for field in response.fields if field.GetOptions().debug_redact)


def _bindings(options: MethodOptions) -> tuple[HttpRule, ...]:
    if not options.HasExtension(annotations_pb2.http):
        return ()
    main = options.Extensions[annotations_pb2.http]
    return (main, *main.additional_bindings)
