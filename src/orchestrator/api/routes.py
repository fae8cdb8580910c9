"""From a verb and a path to an RPC: by the `google.api.http` rules of the protos, or by other bindings."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote

from google.api.http_pb2 import HttpRule

from orchestrator.api.methods import Method

_SEGMENT = re.compile(r"\{(?P<field>[a-z0-9_.]+)\}|(?P<literal>[A-Za-z0-9_.-]+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """One way to reach a method over HTTP.

    `body` names the field of the request that the body holds: `*` is the request itself, empty means no body.
    `response_body` names the field that is sent back; empty means the whole response.
    """

    method: Method
    verb: str
    template: str
    body: str
    response_body: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """`path_fields`: field paths of the request, such as `journey.id`, with what the path holds for them."""

    binding: Binding
    path_fields: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class WrongVerb:
    """The path exists, for these verbs."""

    allowed: tuple[str, ...]


@dataclass(slots=True)
class _Node:
    literals: dict[str, _Node] = field(default_factory=dict)
    parameter: _Node | None = None
    # What ends here, by custom verb (`publish` in `/v1/journeys/{journey_id}:publish`, else empty) and HTTP verb,
    # each with the names of the path's parameters.
    ends: dict[str, dict[str, tuple[Binding, tuple[str, ...]]]] = field(default_factory=dict)


class Routes:
    """A literal segment wins over a parameter."""

    def __init__(self, bindings: Iterable[Binding]) -> None:
        self._root = _Node()
        for binding in bindings:
            self._add(binding)

    def find(self, verb: str, raw_path: str) -> Match | WrongVerb | None:
        """What this verb on this path, percent-encoded still, means; None when there is no such path.

        The last segment's `:word` is a custom verb where one of that name exists, else part of the segment; an id that
        ends like one is written with `%3A`.
        """
        segments = raw_path.removeprefix("/").split("/")
        allowed: set[str] = set()
        for node, values, custom_verb in self._ends(self._root, segments, ()):
            by_verb = node.ends.get(custom_verb, {})
            if verb in by_verb:
                binding, names = by_verb[verb]
                # What is no UTF-8 becomes half of a surrogate pair, which no field takes.
                texts = [unquote(value, errors="surrogateescape") for value in values]
                return Match(binding=binding, path_fields=dict(zip(names, texts, strict=True)))
            allowed |= by_verb.keys()
        return WrongVerb(allowed=tuple(sorted(allowed))) if allowed else None

    def _ends(
        self, node: _Node, segments: list[str], values: tuple[str, ...]
    ) -> Iterator[tuple[_Node, tuple[str, ...], str]]:
        """Every node the segments lead to, the best first, with the parameters' values and the custom verb."""
        segment, *rest = segments
        if rest:
            if segment in node.literals:
                yield from self._ends(node.literals[segment], rest, values)
            if node.parameter is not None and segment:
                yield from self._ends(node.parameter, rest, (*values, segment))
            return
        stem, colon, custom_verb = segment.rpartition(":")
        for text, ending in ((stem, custom_verb), (segment, "")) if colon else ((segment, ""),):
            if text in node.literals:
                yield node.literals[text], values, ending
            if node.parameter is not None and text:
                yield node.parameter, (*values, text), ending

    def _add(self, binding: Binding) -> None:
        path, _, custom_verb = binding.template.removeprefix("/").partition(":")
        node, names = self._root, []
        for segment in path.split("/"):
            parsed = _SEGMENT.fullmatch(segment)
            assert parsed is not None, f"{binding.template} uses a form of path that is not supported"
            if parsed["field"]:
                names.append(parsed["field"])
                node.parameter = node.parameter or _Node()
                node = node.parameter
            else:
                node = node.literals.setdefault(segment, _Node())
        by_verb = node.ends.setdefault(custom_verb, {})
        assert binding.verb not in by_verb, f"two methods for {binding.verb} {binding.template}"
        by_verb[binding.verb] = (binding, tuple(names))


def bindings_of(methods: Iterable[Method]) -> list[Binding]:
    """All bindings of all methods, by their `google.api.http` rules."""
    return [_binding(method, rule) for method in methods for rule in method.http]


def _binding(method: Method, rule: HttpRule) -> Binding:
    verb = rule.WhichOneof("pattern")
    return Binding(
        method=method,
        verb=verb.upper(),
        template=getattr(rule, verb),
        body=rule.body,
        response_body=rule.response_body,
    )
