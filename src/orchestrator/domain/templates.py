"""Templates of communications: Liquid, with a stated worst case.

An editor writes the template, a subject's data fill it, and neither is trusted. Every node, loop, look-up and filter
is charged for the size of what it touches; when the allowance is spent the render ends. So one render, with variables
of up to 1 MB of JSON, takes at most 500 ms of a core and 64 MB, whatever the template. Workers put a process of its own
around it besides (workers/channels/rendering.py).

Tags: assign, capture, case, comment, cycle, for (break, continue), if, raw, unless and `#`; filters:
template_filters.py. There is no clock (`now` is what the caller passes), no other template to include, no way to an
attribute of a Python object.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from threading import Lock
from typing import Any, TextIO, cast

from liquid import BoundTemplate, Environment, Expression, Node, RenderContext, Tag, Token, TokenStream, escape
from liquid.builtin import content, illegal, output
from liquid.builtin.expressions import Filter, FilteredExpression, Path
from liquid.builtin.expressions.primitive import RangeLiteral
from liquid.builtin.tags import assign_tag, capture_tag, case_tag, cycle_tag, for_tag, if_tag, unless_tag
from liquid.exceptions import LiquidError, ResourceLimitError
from liquid.output import LimitedStringIO
from liquid.undefined import UNDEFINED
from liquid.utils import ReadOnlyChainMap

from orchestrator.domain.template_filters import FILTERS, MAX_ITEMS, MAX_TEXT, check_length, enclose, to_text, weigh
from orchestrator.domain.template_lexer import TooMuchMarkup, tokenize_template
from orchestrator.domain.template_mask import Mask, paths_in
from orchestrator.predicates.faults import Fault
from orchestrator.predicates.reveal import Reveal

MAX_SOURCE_BYTES = 32 * 1024

# What a render may spend and what it pays, in units of about 0.1 µs (filters: template_filters.py).
_ALLOWANCE = 1_000_000
_NODE = 20
_EXPRESSION = 15
_PASS = 10
_CHARACTERS_PER_UNIT = 64
#: What the template's own variables may weigh together: 2 MB of text.
_MAX_HELD = 250_000

_CACHED_SOURCE = 512 * 1024


class TemplateFailed(Exception):
    """A template that gives no text; trying again gives none either.

    `reason`: `template_invalid` (it does not parse), `template_value` (a filter or comparison met a value it cannot
    work with), `template_limit` (too much work, output or memory). No value of a variable is in it or in the message.
    """

    def __init__(self, reason: str, line: int | None = None) -> None:
        super().__init__(reason if line is None else f"{reason} in line {line}")
        self.reason = reason
        self.line = line


def check_template(source: str, path: str) -> list[Fault]:
    """What is wrong with a template, each fault with its line; `path` says where in the request it stands."""
    if _is_too_large(source):
        return [Fault(path=path, reason="TOO_LARGE", message=f"a template has at most {MAX_SOURCE_BYTES} bytes")]
    try:
        template = _PLAIN.from_string(source)
    except LiquidError as error:
        reason = "TOO_LARGE" if _is_limit(error) else "INVALID_TEMPLATE"
        return [_fault(path, reason, str(error.message), _line(error.token, source))]
    return [
        _fault(path, "INVALID_TEMPLATE", f"there is no filter '{used.name[:64]}'", _line(used.token, source))
        for node in template.nodes
        for used in _filters(node)
        if used.name not in FILTERS
    ]


def render(
    source: str, variables: Mapping[str, Any], *, escape_html: bool = False, reveal: Reveal | None = None
) -> str:
    """The template's text, of at most MAX_TEXT bytes.

    With `reveal`, MASK stands for what would come out of variables that it does not show, and the text may be longer by
    that; which way the template takes is still theirs (template_mask.py).

    A missing variable is an empty text and `nil` in comparisons. A text is never taken for a number in a comparison,
    which then fails; in arithmetic it is one, or 0. With `escape_html`, what comes out of variables is escaped; what
    stands in the template is not.
    Raises TemplateFailed; TypeError when `variables` are not JSON.
    """
    template = _TEMPLATES.parsed(source, _HTML if escape_html else _PLAIN)
    enclosed: dict[str, Any] = enclose(variables)
    buffer = LimitedStringIO(limit=MAX_TEXT)
    mask = Mask(reveal, enclosed, buffer) if reveal is not None else None
    context = _Context(template, globals=enclosed, mask=mask)
    try:
        template.render_with_context(context, buffer)
    except ResourceLimitError as error:
        raise TemplateFailed("template_limit", _line(error.token, source)) from None
    except LiquidError as error:
        raise TemplateFailed("template_value", _line(error.token, source)) from None
    except (RecursionError, MemoryError):
        raise TemplateFailed("template_limit") from None
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        # What the library's filters let through when they are given something odd; their texts quote values.
        raise TemplateFailed("template_value") from None
    return buffer.getvalue() if mask is None else mask.text()


def _fault(path: str, reason: str, message: str, line: int | None) -> Fault:
    where = "" if line is None else f"line {line}: "
    return Fault(path=path, reason=reason, message=f"{where}{message[:200]}")


def _is_too_large(source: str) -> bool:
    return len(source.encode(errors="surrogatepass")) > MAX_SOURCE_BYTES


def _is_limit(error: LiquidError) -> bool:
    return isinstance(error, ResourceLimitError | TooMuchMarkup) or isinstance(error.__cause__, RecursionError)


def _line(token: Token | None, source: str) -> int | None:
    return None if token is None or token.start_index < 0 else source.count("\n", 0, token.start_index) + 1


def _filters(node: Node) -> Iterator[Filter]:
    """The filters in a node and in those under it."""
    for expression in node.expressions():
        if isinstance(expression, FilteredExpression):
            yield from expression.filters or ()
    for child in _children(node):
        yield from _filters(child)


def _children(node: Node) -> Iterable[Node]:
    # Only tags that load other templates would look at the context.
    return node.children(cast("RenderContext", None), include_partials=False)


class _Context(RenderContext):
    """One render: its variables and what it has spent."""

    __slots__ = ("held", "mask", "spent")

    def __init__(self, template: BoundTemplate, *, globals: Mapping[str, object], mask: Mask | None = None) -> None:
        super().__init__(template, globals=globals)
        # The library's own scope has a clock in it.
        self.scope = ReadOnlyChainMap(self.locals, self.globals)
        self.spent = 0
        self.held = 0
        self.mask = mask

    def spend(self, units: int) -> None:
        self.spent += units
        if self.spent > _ALLOWANCE:
            raise ResourceLimitError("the template is too much work", token=None)

    def get(self, path: list[object], *, token: Token | None, default: object = UNDEFINED) -> object:
        found = super().get(path, token=token, default=default)
        if isinstance(found, range):
            check_length(found)
        self.spend(weigh(found))
        return found

    def assign(self, key: str, val: Any) -> None:
        self.held += weigh(val) - weigh(self.locals.get(key, ""))
        if self.held > _MAX_HELD:
            raise ResourceLimitError("the template's variables hold too much", token=None)
        self.locals[key] = val

    @contextmanager
    def loop(self, namespace: Mapping[str, object], forloop: Any) -> Iterator[RenderContext]:
        self.spend(_PASS * forloop.length)
        masked = self.mask.loop(namespace.keys()) if self.mask is not None else nullcontext()
        with super().loop(namespace, forloop), masked:
            yield self


class _Charged(Node):
    """A node that is paid for each time it is rendered: for its expressions and for the text it copies."""

    __slots__ = ("node", "price", "reads")

    def __init__(self, node: Node) -> None:
        super().__init__(node.token)
        self.blank = node.blank
        self.node = node
        self.price = _price(node)
        self.reads = tuple(paths_in(node.expressions()))

    def render_to_output(self, context: RenderContext, buffer: TextIO) -> int:
        assert isinstance(context, _Context)
        context.spend(self.price)
        if context.mask is not None:
            return context.mask.render(self.node, self.reads, context, buffer)
        return self.node.render_to_output(context, buffer)

    def children(self, static_context: RenderContext, *, include_partials: bool = True) -> Any:
        return self.node.children(static_context, include_partials=include_partials)

    def expressions(self) -> Any:
        return self.node.expressions()

    def template_scope(self) -> Any:
        return self.node.template_scope()

    def block_scope(self) -> Any:
        return self.node.block_scope()


def _price(node: Node) -> int:
    """The price of one passing, without what is charged by itself."""
    price = _NODE + sum(map(_expression_price, node.expressions()))
    if isinstance(node, content.ContentNode):
        price += len(node.text) // _CHARACTERS_PER_UNIT
    return price + sum(_price(child) for child in _children(node) if not isinstance(child, _Charged))


def _expression_price(expression: Expression) -> int:
    segments = len(expression.path) if isinstance(expression, Path) else 1
    return _EXPRESSION * segments + sum(map(_expression_price, expression.children()))


class _ChargedTag(Tag):
    """A tag whose nodes are charged."""

    def __init__(self, env: Environment, tag: type[Tag]) -> None:
        super().__init__(env)
        self.tag = tag(env)

    def get_node(self, stream: TokenStream) -> Node:
        return _Charged(self.tag.get_node(stream))

    def parse(self, stream: TokenStream) -> Node:
        return self.get_node(stream)


class _BoundedRange(RangeLiteral):
    __slots__ = ()

    def evaluate(self, context: RenderContext) -> range:
        made = super().evaluate(context)
        check_length(made)
        return made


class _ForTag(for_tag.ForTag):
    """The library makes a list of a reversed range before it looks at its length."""

    def parse(self, stream: TokenStream) -> Node:
        node = super().parse(stream)
        if isinstance(node, for_tag.ForNode) and isinstance(node.expression.iterable, RangeLiteral):
            asked = node.expression.iterable
            node.expression.iterable = _BoundedRange(asked.token, asked.start, asked.stop)
        return node


class _OutputNode(output.OutputNode):
    __slots__ = ()

    def render_to_output(self, context: RenderContext, buffer: TextIO) -> int:
        shown = to_text(self.expression.evaluate(context))
        return buffer.write(escape(shown) if context.autoescape else shown)


class _Output(output.Output):
    node_class = _OutputNode


class _Liquid(Environment):
    """Liquid as far as communications may use it."""

    block_nesting_limit = 20
    context_depth_limit = 25
    loop_iteration_limit = MAX_ITEMS
    output_stream_limit = MAX_TEXT

    def setup_tags_and_filters(self, *, extra: bool = False) -> None:
        for tag in (
            content.Literal,
            _Output,
            assign_tag.AssignTag,
            capture_tag.CaptureTag,
            case_tag.CaseTag,
            cycle_tag.CycleTag,
            _ForTag,
            for_tag.BreakTag,
            for_tag.ContinueTag,
            if_tag.IfTag,
            unless_tag.UnlessTag,
        ):
            self.tags[tag.name] = _ChargedTag(self, tag)
        self.add_tag(illegal.Illegal)
        self.filters.update(FILTERS)

    def tokenizer(self) -> Callable[[str], Iterator[Token]]:
        return tokenize_template


class _Templates:
    """The templates parsed last, by their text; at most _CACHED_SOURCE characters of them."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._kept: OrderedDict[tuple[bool, str], BoundTemplate] = OrderedDict()
        self._characters = 0

    def parsed(self, source: str, liquid: _Liquid) -> BoundTemplate:
        key = (liquid.autoescape, source)
        with self._lock:
            kept = self._kept.get(key)
            if kept is not None:
                self._kept.move_to_end(key)
                return kept
        if _is_too_large(source):
            raise TemplateFailed("template_limit")
        try:
            template = liquid.from_string(source)
        except LiquidError as error:
            reason = "template_limit" if _is_limit(error) else "template_invalid"
            raise TemplateFailed(reason, _line(error.token, source)) from None
        with self._lock:
            if key not in self._kept:
                self._kept[key] = template
                self._characters += len(source)
            while self._characters > _CACHED_SOURCE:
                (_, dropped), _ = self._kept.popitem(last=False)
                self._characters -= len(dropped)
        return template


_PLAIN = _Liquid()
_HTML = _Liquid(autoescape=True)
_TEMPLATES = _Templates()
