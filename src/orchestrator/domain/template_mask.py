"""What of a rendered text may be shown, where not all values may be.

A template's text is rendered as it is, and what comes out of fields that may not be shown is replaced afterwards. So
which way the template takes, and whether it gives a text at all, is what it is where nothing is hidden. What a template
makes of several values may be shown if each of them may, and what it makes of its own words is nobody's value.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import StringIO
from itertools import takewhile
from typing import Any, TextIO

from liquid import Expression, Node, RenderContext
from liquid.builtin.expressions import Path, StringLiteral
from liquid.builtin.output import OutputNode
from liquid.builtin.tags.assign_tag import AssignNode
from liquid.builtin.tags.capture_tag import CaptureNode
from liquid.builtin.tags.cycle_tag import CycleNode
from liquid.builtin.tags.for_tag import ForNode

from orchestrator.predicates.builtin import SUBJECT
from orchestrator.predicates.paths import ENTRY, STEPS, find
from orchestrator.predicates.reveal import Reveal

#: What stands where a value would, in a text that is not to show it.
MASK = "•••"

#: Members that Liquid makes up for what has none of that name: they say something of the whole.
_COMPUTED = frozenset({"size", "first", "last"})


def paths_in(expressions: Iterable[Expression]) -> Iterator[Path]:
    """Every variable that is read, those within the brackets of others too."""
    for expression in expressions:
        if isinstance(expression, Path):
            yield expression
        yield from paths_in(expression.children())


class Mask:
    """Of one render, which writes to `page`."""

    def __init__(self, reveal: Reveal, variables: Mapping[str, Any], page: StringIO) -> None:
        self._reveal = reveal
        self._variables = variables
        self._page = page
        # where on the page something stands that may not be shown
        self._hidden: list[tuple[int, int]] = []
        # whether the template's own variables may be shown
        self._own: dict[str, bool] = {}
        # the names that loops give to what they pass over, innermost last, and whether it may be shown
        self._loops: list[tuple[Collection[str], bool]] = []
        self._next_loop = False
        # of the captures under way, innermost last: whether they hold something that may not be shown
        self._captures: list[bool] = []

    def render(self, node: Node, reads: Sequence[Path], context: RenderContext, buffer: TextIO) -> int:
        """Render a node, which reads these variables, and note what may not be shown of it."""
        match node:
            case OutputNode() | CycleNode():
                return self._write(node, reads, context, buffer)
            case AssignNode():
                may_be_shown = self._may_show(reads)  # by what the name meant so far
                written = node.render_to_output(context, buffer)
                self._own[node.name] = may_be_shown
                return written
            case CaptureNode():
                return self._capture(node, context, buffer)
            case ForNode():
                self._next_loop = self._may_show(reads) and not _goes_on(node)
                return node.render_to_output(context, buffer)
            case _:
                return node.render_to_output(context, buffer)

    @contextmanager
    def loop(self, names: Collection[str]) -> Iterator[None]:
        """The passes of the loop whose node was rendered last."""
        self._loops.append((names, self._next_loop))
        try:
            yield
        finally:
            self._loops.pop()

    def text(self) -> str:
        """What stands on the page, with masks."""
        page, parts, shown_until = self._page.getvalue(), [], 0
        for start, end in self._hidden:
            parts += [page[shown_until:start], MASK]
            shown_until = end
        return "".join([*parts, page[shown_until:]])

    def _write(self, node: Node, reads: Sequence[Path], context: RenderContext, buffer: TextIO) -> int:
        if self._may_show(reads):
            return node.render_to_output(context, buffer)
        if self._captures:
            self._captures[-1] = True
            return node.render_to_output(context, buffer)
        assert buffer is self._page, "what is not captured is written to the page"
        start = self._page.tell()
        written = node.render_to_output(context, buffer)
        if (end := self._page.tell()) > start:
            self._hidden.append((start, end))
        return written

    def _capture(self, node: CaptureNode, context: RenderContext, buffer: TextIO) -> int:
        self._captures.append(False)
        try:
            written = node.render_to_output(context, buffer)
        finally:
            holds_hidden = self._captures.pop()
        self._own[node.name] = not holds_hidden
        return written

    def _may_show(self, reads: Sequence[Path]) -> bool:
        return all(map(self._is_shown, reads))

    def _is_shown(self, path: Path) -> bool:
        """Of a variable, up to where it is looked up by position or by another variable, which is judged by itself."""
        names: list[Any] = list(takewhile(lambda segment: isinstance(segment, str), path.path))
        if not names:
            return False
        root = names[0]
        if root == "forloop" and self._loops:  # it leads to those of the loops around it
            return all(shown for _, shown in self._loops)
        for given, shown in reversed(self._loops):
            if root in given:
                return shown
        if root in self._own:
            return self._own[root]
        field = self._field(names)
        return field is not None and self._reveal(field)

    def _field(self, names: Sequence[Any]) -> tuple[str, ...] | None:
        """The path of the field that is read, as predicates have it; None: it is none."""
        match names:
            case ["subject", "attributes", *rest]:
                if rest and rest[0] in (ENTRY, STEPS, SUBJECT):
                    return None  # an attribute of such a name has no path
                return self._found((), find(self._variables, ("subject", "attributes")), rest)
            case ["entry", *rest]:
                return self._found((ENTRY,), self._variables.get("entry"), rest)
            case ["steps", *rest]:
                return self._found((STEPS,), self._variables.get("steps"), rest)
            case _:
                return None

    def _found(self, above: tuple[str, ...], value: Any, names: Sequence[str]) -> tuple[str, ...]:
        """Where these names lead to. What Liquid makes up is made of what it stands in."""
        for number, name in enumerate(names):
            if isinstance(value, Mapping) and name in value:
                value = value[name]
            elif name in _COMPUTED:
                return (*above, *names[:number])
            else:  # to nothing
                break
        return (*above, *names)


def _goes_on(node: ForNode) -> bool:
    """Whether a loop begins where one before it ended: that may hang on anything."""
    offset = node.expression.offset
    return isinstance(offset, StringLiteral) and offset.value == "continue"
