"""Templates of Handlebars, as far as Pinpoint documents it, as Liquid.

    {{path}} {{{path}}} {{&path}}    a variable, with its default substitution
    {{#if a}} {{#unless a}} {{#each a}} … {{else}} … {{/…}}
    {{#eq a b}} neq gt gte lt lte and not, as blocks
    {{else if a}}                    in any of them but each
    {{upper a}} {{lower a}} {{defaultIfEmpty a "b"}}
    {{! … }} {{!-- … --}}            nothing

Anything else is refused as a whole: a message that reads wrong is worse than one that is not sent.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from orchestrator.pinpoint.variables import Path, Unspeakable, liquid_path, translated

#: Levels of blocks; Liquid here allows 20.
MAX_LEVELS = 16

_OPEN = "{{"
_TOKEN = re.compile(
    r"""\s*(?:(?P<text>"[^"]*"|'[^']*')|(?P<number>-?[0-9]+(?:\.[0-9]+)?)(?=[\s)]|$)|(?P<path>(?:[^\s"'=()\[\]]|\[[^\]]*\])+))"""
)
_SEGMENT = re.compile(r"\.?(?:\[(?P<bracketed>[^\]]*)\]|(?P<plain>[^.\[\]]+))")
_COMPARED: Mapping[str, str] = {"eq": "==", "neq": "!=", "gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
_FILTERS: Mapping[str, str] = {"upper": "upcase", "lower": "downcase"}


#: What opens a tag of Liquid.
_OPENING = re.compile(r"\{[{%]")


class NotTranslatable(Exception):
    """`construct` is what stands there; `why` is a sentence for people."""

    def __init__(self, construct: str, why: str) -> None:
        super().__init__(f"{construct}: {why}")
        self.construct = construct
        self.why = why


@dataclass(frozen=True, slots=True, kw_only=True)
class _Block:
    name: str
    end: str
    has_else: bool = False
    variable: str | None = None


@dataclass(slots=True)
class Translator:
    """Translates the parts of one template. `unknown` collects variables that nothing here fills in."""

    channel: str
    defaults: Mapping[str, str]
    unknown: dict[str, None] = field(default_factory=dict)
    used_defaults: set[str] = field(default_factory=set)
    #: Of the text translated last, what stands in it that is not to be escaped in HTML: nothing here says so.
    unescaped: dict[str, None] = field(default_factory=dict)
    _blocks: list[_Block] = field(default_factory=list)

    def liquid(self, source: str) -> str:
        """Raises NotTranslatable."""
        self._blocks, self.unescaped = [], {}
        made: list[str] = []
        at = 0
        while (opened := source.find(_OPEN, at)) >= 0:
            if opened > at and source[opened - 1] == "\\":
                made += [literal(source[at : opened - 1]), literal(_OPEN)]
                at = opened + len(_OPEN)
                continue
            made.append(literal(source[at:opened]))
            inner, at = _tag(source, opened)
            made.append(self._tag(inner))
        if self._blocks:
            raise NotTranslatable(f"{{{{#{self._blocks[-1].name}}}}}", "the block has no end")
        made.append(literal(source[at:]))
        return "".join(made)

    def _tag(self, inner: str) -> str:
        stripped = inner.strip()
        match stripped[:1]:
            case "!":
                return ""
            case "#":
                return self._begin(stripped[1:].strip(), inner)
            case "/":
                return self._end(stripped[1:].strip(), inner)
            case ">" | "^" | "*" | "":
                raise NotTranslatable(_shown(inner), "partials and inverted blocks have no counterpart")
            case "{" | "&":
                self.unescaped[_shown(f"{stripped}}}" if stripped.startswith("{") else stripped)] = None
                stripped = stripped.strip("{}&").strip()
        if stripped == "else":
            return self._else(inner)
        if stripped.startswith("else "):
            return self._else_if(stripped.removeprefix("else "), inner)
        return self._output(_arguments(stripped, inner), inner)

    def _output(self, arguments: Sequence[str], inner: str) -> str:
        match arguments:
            case [path]:
                return f"{{{{ {self._filled(path, inner)} }}}}"
            case [helper, value] if helper in _FILTERS:
                return f"{{{{ {self._filled(value, inner)} | {_FILTERS[helper]} }}}}"
            case ["defaultIfEmpty", value, default]:
                return f"{{{{ {self._filled(value, inner)} | default: {self._value(default, inner)} }}}}"
            case _:
                raise NotTranslatable(_shown(inner), "this helper has no counterpart")

    def _begin(self, head: str, inner: str) -> str:
        if len(self._blocks) == MAX_LEVELS:
            raise NotTranslatable(_shown(inner), f"more than {MAX_LEVELS} blocks within each other")
        name, *arguments = _arguments(head, inner) or [""]
        if name == "each" and len(arguments) == 1:
            variable = f"item{len(self._blocks) + 1}"
            listed = self._value(arguments[0], inner)
            self._blocks.append(_Block(name=name, end="endfor", variable=variable))
            return f"{{% for {variable} in {listed} %}}"
        condition = self._condition(name, arguments, inner)
        self._blocks.append(_Block(name=name, end="endif"))
        return f"{{% if {condition} %}}"

    def _condition(self, name: str, arguments: Sequence[str], inner: str) -> str:
        match name, len(arguments):
            case (("unless" | "not"), 1):
                return self._falsehood(arguments[0], inner)
            case _, 2 if name in _COMPARED:
                left, right = (self._value(argument, inner) for argument in arguments)
                return f"{left} {_COMPARED[name]} {right}"
            case ("if", 1) | ("and", 2 | 3 | 4 | 5):
                return " and ".join(self._truth(argument, inner) for argument in arguments)
            case _:
                raise NotTranslatable(_shown(inner), "this block has no counterpart")

    def _truth(self, argument: str, inner: str) -> str:
        """What Handlebars takes for true: Liquid does so with empty texts, empty lists and 0, too."""
        value = self._value(argument, inner)
        return f"{value} and {value} != empty and {value} != 0"

    def _falsehood(self, argument: str, inner: str) -> str:
        value = self._value(argument, inner)
        return f"{value} == nil or {value} == false or {value} == empty or {value} == 0"

    def _else(self, inner: str) -> str:
        if not self._blocks or self._blocks[-1].has_else:
            raise NotTranslatable(_shown(inner), "an else without its block")
        block = self._blocks[-1]
        self._blocks[-1] = _Block(name=block.name, end=block.end, has_else=True)
        return "{% else %}"

    def _else_if(self, head: str, inner: str) -> str:
        if not self._blocks or self._blocks[-1].has_else or self._blocks[-1].variable:
            raise NotTranslatable(_shown(inner), "an else without its block")
        name, *arguments = _arguments(head, inner) or [""]
        return f"{{% elsif {self._condition(name, arguments, inner)} %}}"

    def _end(self, name: str, inner: str) -> str:
        if not self._blocks or self._blocks[-1].name != name:
            raise NotTranslatable(_shown(inner), "the end of another block, or of none")
        return f"{{% {self._blocks.pop().end} %}}"

    def _filled(self, argument: str, inner: str) -> str:
        """A value with what stands in for it where there is none."""
        value = self._value(argument, inner)
        path = _path(argument, inner) if argument[:1] not in "\"'" else None
        if path is None:
            return value
        if path.names[-1:] == (0,) and value.endswith("[0]"):
            # Where the attribute is one text, and not a list of one.
            value = f"{value} | default: {value.removesuffix('[0]')}"
        default = self.defaults.get(path.text)
        if default is None:
            return value
        self.used_defaults.add(path.text)
        return f"{value} | default: {_quoted(default, inner)}"

    def _value(self, argument: str, inner: str) -> str:
        if argument[:1] in "\"'":
            return _quoted(argument[1:-1], inner)
        if re.fullmatch(r"-?[0-9]+(?:\.[0-9]+)?", argument):
            return argument
        if argument in ("true", "false"):
            return argument
        try:
            return self._named(_path(argument, inner))
        except Unspeakable:
            raise NotTranslatable(_shown(inner), "a name with both kinds of quotes") from None

    def _named(self, path: Path) -> str:
        within = next((block.variable for block in reversed(self._blocks) if block.variable), None)
        match path.names:
            case ("this",) if within:
                return within
            case ("this", *rest) if within and rest:
                return liquid_path((within, *rest))
            case ("@index",) if within:
                return "forloop.index0"
            case ("@first",) if within:
                return "forloop.first"
            case ("@last",) if within:
                return "forloop.last"
        names = translated(path, self.channel)
        if names is not None:
            return liquid_path(names)
        self.unknown[path.text] = None
        return "nil"


def _tag(source: str, opened: int) -> tuple[str, int]:
    """What stands within the braces, and where the text goes on."""
    if source.startswith("{{!--", opened):
        closed = source.find("--}}", opened)
        end = closed + len("--}}")
    elif source.startswith("{{{", opened):
        closed = source.find("}}}", opened)
        end = closed + len("}}}")
    else:
        closed = source.find("}}", opened)
        end = closed + len("}}")
    if closed < 0:
        raise NotTranslatable(source[opened : opened + 40], "braces without an end")
    inner = source[opened + len(_OPEN) : closed]
    if inner[:1] == "~" or inner[-1:] == "~":
        raise NotTranslatable(_shown(inner), "control of the blanks around has no counterpart")
    return inner, end


def _arguments(text: str, inner: str) -> list[str]:
    arguments, at = [], 0
    text = text.strip()
    while at < len(text):
        token = _TOKEN.match(text, at)
        if token is None or (token.end() < len(text) and not text[token.end()].isspace()):
            raise NotTranslatable(_shown(inner), "nested calls and named arguments have no counterpart")
        arguments.append(token[0].strip())
        at = token.end()
    return arguments


def _path(text: str, inner: str) -> Path:
    names: list[str | int] = []
    at = 0
    while at < len(text):
        segment = _SEGMENT.match(text, at)
        if segment is None:
            raise NotTranslatable(_shown(inner), "this is no path to a variable")
        name = segment["plain"] if segment["bracketed"] is None else segment["bracketed"]
        bracketed = segment["bracketed"] is not None
        names.append(int(name) if bracketed and name.isascii() and name.isdigit() and len(name) < 6 else name)
        at = segment.end()
    if not names or not all(name != "" for name in names):
        raise NotTranslatable(_shown(inner), "this is no path to a variable")
    return Path(tuple(names))


def _quoted(text: str, inner: str) -> str:
    if "}}" in text or "%}" in text:
        raise NotTranslatable(_shown(inner), "a text with braces has no counterpart")
    if '"' not in text:
        return f'"{text}"'
    if "'" not in text:
        return f"'{text}'"
    raise NotTranslatable(_shown(inner), "a text with both kinds of quotes has no counterpart")


def literal(text: str) -> str:
    """Text of the template in which Liquid sees none of its own."""
    return _OPENING.sub(lambda found: f'{{{{ "{found[0]}" }}}}', text)


def _shown(inner: str) -> str:
    return f"{{{{{inner[:80]}}}}}"
