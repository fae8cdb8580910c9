"""YAML as JSON with less punctuation: the values of JSON and no others, so that nothing becomes what it does not say.

`on`, `no` and `2026-01-31` stay texts, and `12:30` does not become a number, as they would in the older YAML that the
library reads by itself. A member that stands twice in an object is an error.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

import yaml
from yaml.constructor import ConstructorError

from orchestrator.api.json_text import parse_json
from orchestrator.predicates.faults import Wrong


class _Loader(yaml.SafeLoader):
    """Makes dicts, lists, texts, ints, floats, booleans and None."""

    # Not the library's own, which its other loaders share.
    yaml_implicit_resolvers = {}  # noqa: RUF012

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise ConstructorError(None, None, "a member's name must be text", key_node.start_mark)
            if key in seen:
                raise ConstructorError(None, None, f"{key} stands here more than once", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


class _Dumper(yaml.SafeDumper):
    """Writes what `_Loader` reads. Quotes texts that any reader of YAML might take for something else."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    # Among what cannot be printed are line breaks that not every reader keeps.
    breaks = "\n" in text
    hidden = any(not character.isprintable() for character in text.replace("\n", ""))
    style = '"' if hidden or (breaks and isinstance(dumper, _Line)) else "|" if breaks else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


class _Line(_Dumper):
    """Writes all in one line."""


_Dumper.add_representer(str, _text)
_Line.add_representer(str, _text)

for _tag, _pattern, _first in (
    ("null", r"null|~|", ["n", "~", ""]),
    ("bool", r"true|false", list("tf")),
    ("int", r"-?(0|[1-9][0-9]*)", list("-0123456789")),
    ("float", r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?", list("-0123456789")),
):
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), _first)


def _float(loader: yaml.SafeLoader, node: Any) -> float:
    return float(loader.construct_scalar(node))


_Loader.add_constructor("tag:yaml.org,2002:float", _float)


class NotYaml(Exception):
    """The text cannot be read. The message says why and where."""


def parse_documents(text: str) -> Iterator[Any]:
    """The documents of a text, each as `parse_json` would have read it; empty ones are left out. Raises NotYaml."""
    try:
        for document in yaml.load_all(text, Loader=_Loader):
            if document is not None:
                # By way of JSON, so that numbers nothing can hold are found where all others find them.
                yield parse_json(json.dumps(document).encode())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark is not None else ""
        raise NotYaml(f"{where}{error.problem or error.context or 'not YAML'}") from None
    except yaml.YAMLError as error:
        raise NotYaml(str(error).splitlines()[0]) from None
    except (RecursionError, ValueError, Wrong) as error:
        raise NotYaml("contains itself, or is nested too deep") from error


def write_documents(documents: Iterable[dict[str, Any]]) -> str:
    """A text of which `parse_documents` makes these documents again."""
    return "---\n".join(_written(document) for document in documents)


def write_value(value: Any) -> str:
    """A value in one line."""
    text = yaml.dump(value, Dumper=_Line, default_flow_style=True, sort_keys=False, allow_unicode=True, width=_ENDLESS)
    return text.removesuffix("\n").removesuffix("\n...")


#: No line is broken for its length.
_ENDLESS = 2**31


def _written(document: dict[str, Any]) -> str:
    """With the members of the document one below the other, and what has no objects in it in one line."""
    return "".join(_member(name, value) for name, value in document.items())


def _member(name: str, value: Any) -> str:
    text = yaml.dump(
        {name: value},
        Dumper=_Dumper,
        default_flow_style=False if isinstance(value, str | int | float | None) else None,
        sort_keys=False,
        allow_unicode=True,
        width=_ENDLESS,
    )
    # Behind a text that ends in empty lines the library ends the document, which goes on here.
    return text.removesuffix("...\n") if text.endswith("\n...\n") else text
