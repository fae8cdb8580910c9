"""Our lexer cuts templates as the library's does, only faster."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from liquid import Environment
from liquid.exceptions import LiquidError

from orchestrator.domain.template_filters import FILTERS
from orchestrator.domain.templates import TemplateFailed, check_template, render

VARIABLES: dict[str, Any] = {"a": "x", "b": [1, 2], "c": {"d": True}}

FRAGMENTS = st.sampled_from(
    [
        "text", " ", "\n", "  \n ", "{ ", "}", "%", "-", "'", "%}", "}}",
        "{{ a }}", "{{a}}", "{{- a -}}", "{{-a}}", "{{ a -}}", "{{ c.d }}", "{{ b[0] }}", "{{ 'q' | upcase }}",
        "{{ \n a \n }}", "{% assign z = a | append: 'y' %}", "{{ z }}", "{{ i }}", "{{ w }}", "{% # note %}",
        "{% if a %}", "{%- if c.d -%}", "{% else %}", "{%- else -%}", "{% elsif b %}", "{% endif %}", "{%- endif -%}",
        "{% for i in b %}", "{% endfor %}", "{%- endfor %}", "{% break %}", "{%if a%}", "{% cycle 'a', 'b' %}",
        "{% capture w %}", "{% endcapture %}", "{% unless a %}", "{% endunless %}",
        "{% case a %}", "{% when 'x' %}", "{% endcase %}", "{% comment %}", "{% endcomment %}",
        "{% comment %} {{ a }} {% if a %} {% endcomment %}",
        "{% raw %}{{ a }}{% endraw %}", "{% raw %} {% if %} {% endraw %}",
    ]
)  # fmt: skip
# (They strip a line's end at the very end of a template even when nothing asks for it.)
TEMPLATES = st.lists(FRAGMENTS, max_size=12).map(lambda fragments: "".join(fragments) + ".")

THEIRS = Environment()


def theirs(source: str) -> str | None:
    try:
        return THEIRS.from_string(source).render(**VARIABLES)
    except LiquidError:
        return None


def ours(source: str) -> str | None:
    try:
        return render(source, VARIABLES)
    except TemplateFailed:
        return None


@given(source=TEMPLATES)
@settings(max_examples=400, deadline=None)
def test_a_template_reads_as_the_library_reads_it(source: str) -> None:
    expected = theirs(source)

    if expected is not None:
        assert ours(source) == expected
    else:
        # They give up on markup inside comments that never closes; a comment may contain anything.
        assert ours(source) is None or "comment" in source


NASTY = st.one_of(
    FRAGMENTS,
    st.sampled_from(
        [
            "{{", "{%", "{", "[", "]", "(", ")", "(1..", "|", ":", ",", ".", "..", "==", "<>", "contains", " and ",
            "nil", "\x00", "\ud800", "é", "9" * 50, "1e400", "-1", "'", '"', "{% raw", "{% # ", "__class__", "{%-",
            "-%}", "\u2028", "\r",
        ]
    ),
    st.sampled_from(sorted(FILTERS)).map(lambda name: f"| {name}"),
    st.text(max_size=4),
)  # fmt: skip


def outcome(source: str, variables: dict[str, Any], escape_html: bool) -> str:
    """The text, or the reason why there is none; any other error goes through."""
    try:
        return render(source, variables, escape_html=escape_html)
    except TemplateFailed as failed:
        return f"failed: {failed.reason}"


@given(source=st.lists(NASTY, max_size=20).map("".join), escape_html=st.booleans())
@settings(max_examples=400, deadline=None)
def test_no_text_does_anything_but_render_or_fail(source: str, escape_html: bool) -> None:
    faults = check_template(source, "body")

    came = outcome(source, VARIABLES, escape_html)

    # What passes the check is a template.
    assert faults or came != "failed: template_invalid"


ARGUMENTS = st.sampled_from(
    [
        "a",
        "b",
        "c",
        "missing",
        "1",
        "-1",
        "0",
        "1.5",
        "'x'",
        "''",
        "nil",
        "true",
        "(1..3)",
        "(1..99999)",
        "'9'",
        "n",
        "deep",
    ]
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**53), 2**53), st.floats(allow_nan=False), st.text(max_size=5)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(
    calls=st.lists(
        st.tuples(st.sampled_from(sorted(FILTERS)), st.lists(ARGUMENTS, max_size=3)), min_size=1, max_size=4
    ),
    left=ARGUMENTS,
    value=VALUES,
    escape_html=st.booleans(),
)
@settings(max_examples=400, deadline=None)
def test_no_filter_does_anything_but_answer_or_fail(
    calls: list[tuple[str, list[str]]], left: str, value: Any, escape_html: bool
) -> None:
    filters = " ".join(f"| {name}{': ' if args else ''}{', '.join(args)}" for name, args in calls)
    source = f"{{{{ {left} {filters} }}}}{{% assign y = {left} {filters} %}}{{% if y == a %}}{{% endif %}}{{{{ y }}}}"

    text = outcome(source, {**VARIABLES, "n": value, "deep": {"n": [value]}}, escape_html)

    assert text != "failed: template_invalid"
    assert "<liquid" not in text
    assert "object at 0x" not in text
