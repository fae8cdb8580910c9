"""Cuts a Liquid template into the tokens that python-liquid's parser reads, in one pass.

The library's own lexer is one backtracking expression: two kilobytes of `{{` and spaces hold it for seconds. This one
looks at every character a constant number of times, so that a template may be checked inside the server.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from liquid.exceptions import LiquidSyntaxError
from liquid.token import TOKEN_CONTENT, TOKEN_EOF, TOKEN_EXPRESSION, TOKEN_OUTPUT, TOKEN_TAG, Token

#: Tags and outputs in one template.
MAX_MARKUP = 1_000
#: Characters between one pair of delimiters: expressions are matched by the library, in quadratic time.
MAX_EXPRESSION_LENGTH = 1_000

_OPEN = re.compile(r"\{\{|\{%")
_NAME = re.compile(r"#|\w+")
_END_RAW = re.compile(r"\{%-?\s*endraw\s*-?%\}")
_COMMENT_EDGE = re.compile(r"\{%-?\s*(endcomment|comment)\b[^%{}]*%\}")
_CLOSE = {"{{": "}}", "{%": "%}"}


class TooMuchMarkup(LiquidSyntaxError):
    """More than MAX_MARKUP or MAX_EXPRESSION_LENGTH. (The library lets no limit but its own through its parser.)"""


def tokenize_template(source: str) -> Iterator[Token]:
    """The tokens of `source`, in its order.

    Raises LiquidSyntaxError for markup that does not close, TooMuchMarkup for too much of it.
    """
    at = 0
    strip_next = False
    count = 0

    def token(kind: str, value: str, start: int) -> Token:
        return Token(kind, value, start_index=start, source=source)

    while at < len(source):
        opening = _OPEN.search(source, at)
        start = opening.start() if opening else len(source)
        text = source[at:start]
        if strip_next:
            text = text.lstrip()
        if source.startswith("-", start + 2):
            text = text.rstrip()
        if text:
            yield token(TOKEN_CONTENT, text, at)
        if opening is None:
            return

        count += 1
        if count > MAX_MARKUP:
            raise TooMuchMarkup(f"more than {MAX_MARKUP} tags and outputs", token=token(TOKEN_EOF, "", start))
        closing = _CLOSE[opening.group()]
        end = source.find(closing, start + 2)
        if end < 0:
            raise LiquidSyntaxError(
                f"expected '{closing}', found the end of the template", token=token(TOKEN_EOF, "", start)
            )
        inner_start, inner_end = start + 2, end
        if source.startswith("-", inner_start):
            inner_start += 1
        strip_next = inner_end > inner_start and source[inner_end - 1] == "-"
        if strip_next:
            inner_end -= 1
        at = end + 2
        inner = source[inner_start:inner_end]
        if len(inner) > MAX_EXPRESSION_LENGTH:
            raise TooMuchMarkup(
                f"more than {MAX_EXPRESSION_LENGTH} characters in one tag or output", token=token(TOKEN_EOF, "", start)
            )
        expression_start = inner_start + len(inner) - len(inner.lstrip())
        expression = inner.strip()

        if closing == "}}":
            yield token(TOKEN_OUTPUT, source[start:at], start)
            yield token(TOKEN_EXPRESSION, expression, expression_start)
            continue

        named = _NAME.match(expression)
        if named is None:
            raise LiquidSyntaxError("a tag without a name", token=token(TOKEN_EOF, "", start))
        name = named.group()
        match name:
            case "raw":
                closed = _END_RAW.search(source, at)
                if closed is None:
                    raise LiquidSyntaxError("raw is never closed", token=token(TOKEN_EOF, "", start))
                raw = source[at : closed.start()]
                if raw:
                    yield token(TOKEN_CONTENT, raw, at)
                strip_next = closed.group().endswith("-%}")
                at = closed.end()
            case "comment":
                at, strip_next = _end_of_comment(source, at, token(TOKEN_EOF, "", start))
            case "#":
                pass
            case _:
                yield token(TOKEN_TAG, name, expression_start)
                rest = expression[named.end() :]
                if rest.strip():
                    yield token(TOKEN_EXPRESSION, rest.strip(), expression_start + len(expression) - len(rest.lstrip()))


def _end_of_comment(source: str, at: int, opened: Token) -> tuple[int, bool]:
    """Where the comment that began before `at` ends, and whether its last tag strips what follows."""
    depth = 1
    for edge in _COMMENT_EDGE.finditer(source, at):
        depth += 1 if edge.group(1) == "comment" else -1
        if depth == 0:
            return edge.end(), edge.group().endswith("-%}")
    raise LiquidSyntaxError("comment is never closed", token=opened)
