"""What of a rendered text is masked: whatever comes out of a field that is not marked, on whichever way."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain.template_mask import MASK
from orchestrator.domain.templates import TemplateFailed, render
from orchestrator.predicates.reveal import reveal_of

#: In every value that may not be shown, and nowhere else, so that no piece of one gets by.
SECRET = "☠"
MARKED = [
    ("plan",),
    ("tags",),
    ("rest",),
    ("address", "city"),
    ("visits",),
    ("word", "size"),
    ("word", "first"),
    ("pairs", "size"),
    ("pairs", "first"),
    ("list", "last"),
    ("$entry", "amount"),
    ("$entry", "lines"),
    ("$steps", "check", "score"),
]
VARIABLES: dict[str, Any] = {
    "subject": {
        "id": SECRET,
        "attributes": {
            "plan": "pro",
            "tags": ["new", "blue"],
            "rest": [],
            "visits": 3,
            "address": {"city": "Köln", "street": SECRET},
            "word": SECRET,
            "pairs": {SECRET: SECRET},
            "list": [SECRET, SECRET * 2],
            "name": SECRET,
            "key": "plan",
            "$entry": {"amount": SECRET},
            "amount": SECRET,
        },
    },
    "entry": {"amount": 5, "plan": SECRET, "lines": [{"sku": "a"}, {"sku": "b"}], "card": SECRET},
    "steps": {"check": {"score": 7, "plan": SECRET}, "other": {"score": SECRET}},
    "unsubscribe_url": None,
    "now": SECRET,
}


def shown(source: str, *, escape_html: bool = False) -> str:
    return render(source, VARIABLES, escape_html=escape_html, reveal=reveal_of(MARKED))


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ subject.attributes.plan }} {{ subject.attributes.name }}", f"pro {MASK}"),
        ("{{ subject.attributes.plan | upcase | append: '!' }}", "PRO!"),
        ("{{ subject.attributes.plan | append: subject.attributes.name }}", MASK),
        ("{{ subject.attributes['address']['city'] }} {{ subject.attributes.address.street }}", f"Köln {MASK}"),
        ("{{ subject.attributes.address }}", MASK),
        ("{{ subject.attributes }}{{ subject }}{{ subject.id }}", MASK * 3),
        ("{{ entry.amount }} {{ entry.plan }} {{ subject.attributes.amount }}", f"5 {MASK} {MASK}"),
        ("{{ subject.attributes['$entry'].amount }}", MASK),
        ("{{ steps.check.score }} {{ steps.check.plan }} {{ steps.other.score }}", f"7 {MASK} {MASK}"),
        ("{{ now }}{{ unsubscribe_url }}{{ nothing }}", MASK),
        ("{{ subject.attributes.tags[0] }} {{ subject.attributes.tags.size }}", "new 2"),
        ("{{ subject.attributes.list[0] }} {{ subject.attributes.list.first }}", f"{MASK} {MASK}"),
        ("{{ entry.lines[1].sku }} {{ entry.lines | map: 'sku' | join: '+' }}", "b a+b"),
        ("{{ subject.attributes.gone | default: 'nobody' }}", MASK),
        ("{{ subject.attributes.visits.gone | default: 'none' }}", "none"),
    ],
)
def test_a_value_is_shown_where_its_field_is_marked(source: str, text: str) -> None:
    assert shown(source) == text


@pytest.mark.parametrize("of", ["word.size", "word.first", "pairs.size", "pairs.first", "list.last"])
def test_what_liquid_makes_up_is_shown_only_with_what_it_is_made_of(of: str) -> None:
    """Marked or not: the attribute has no member of that name."""
    assert shown(f"{{{{ subject.attributes.{of} }}}}") in (MASK, "")


def test_a_member_that_is_called_as_what_liquid_makes_up_is_a_field() -> None:
    variables = {"subject": {"attributes": {"word": {"size": "XL", "name": SECRET}}}}

    assert render("{{ subject.attributes.word.size }}", variables, reveal=reveal_of(MARKED)) == "XL"


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (
            "{% assign a = subject.attributes.plan %}{{ a }}{% assign a = subject.attributes.name %}{{ a }}",
            f"pro{MASK}",
        ),
        ("{% assign a = subject.attributes.name %}{% assign a = 'x' %}{{ a }}", "x"),
        ("{% assign a = subject.attributes.name %}{% assign a = a | size %}{{ a }}", MASK),
        ("{% assign subject = entry %}{{ subject.attributes.plan }}{{ subject.card }}", MASK),
        ("{% assign subject = steps.other %}{{ subject.score }}", MASK),
        ("{% capture a %}<{{ subject.attributes.plan }}>{% endcapture %}{{ a }}", "<pro>"),
        ("{% capture a %}<{{ subject.attributes.name }}>{% endcapture %}{{ a }}{{ a | size }}", MASK * 2),
        (
            "{% capture a %}{% capture b %}{{ entry.card }}{% endcapture %}x{% endcapture %}{{ a }}{{ b }}",
            f"x{MASK}",
        ),
        (
            "{% capture a %}{% capture b %}{{ entry.card }}{% endcapture %}{{ b }}{% endcapture %}{{ a }}",
            MASK,
        ),
    ],
)
def test_variables_of_the_template_are_shown_where_all_that_they_are_made_of_is(source: str, text: str) -> None:
    assert shown(source) == text


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{% for t in subject.attributes.tags %}{{ forloop.index }}{{ t }},{% endfor %}", "1new,2blue,"),
        ("{% for t in subject.attributes.list %}{{ forloop.index }}{{ t }},{% endfor %}", f"{MASK * 2}," * 2),
        ("{% for n in (1..subject.attributes.visits) %}{{ n }}{% endfor %}", "123"),
        ("{% for n in (1..3) %}{{ n }}{% endfor %}", "123"),
        ("{% for n in (1..3) limit: subject.attributes.list.size %}{{ n }}{% endfor %}", MASK * 2),
        (
            "{% for n in (1..3) limit: subject.attributes.list.size %}{% endfor %}"
            "{% for n in (1..3) offset: continue %}{{ n }}{% endfor %}",
            MASK,
        ),
        (
            "{% for a in subject.attributes.list limit: 1 %}{% for b in subject.attributes.tags %}"
            "{{ b }}{{ forloop.parentloop.length }}{% endfor %}{% endfor %}",
            f"new{MASK}blue{MASK}",
        ),
        (
            "{% assign t = entry.card %}{% for t in subject.attributes.rest %}{% else %}{{ t }}{% endfor %}",
            MASK,
        ),
        (
            "{% assign t = entry.card %}{% for t in subject.attributes.tags %}{{ t }}{% endfor %}{{ t }}",
            f"newblue{MASK}",
        ),
        (
            "{% for t in subject.attributes.list %}{% capture a %}{{ t }}{% break %}{% endcapture %}{% endfor %}"
            "{{ subject.attributes.name }}",
            MASK,
        ),
        ("{% cycle subject.attributes.plan, 'b' %}{% cycle entry.card, 'b' %}", f"pro{MASK}"),
    ],
)
def test_what_a_loop_passes_over_is_shown_where_all_that_it_goes_by_is(source: str, text: str) -> None:
    assert shown(source) == text


def test_a_text_is_looked_up_by_another_one_where_both_may_be_shown() -> None:
    variables = {"subject": {"attributes": {"prices": {"pro": 5}, "plan": "pro", "name": "pro"}}}
    reveal = reveal_of([("prices",), ("plan",)])

    by_plan = render("{{ subject.attributes.prices[subject.attributes.plan] }}", variables, reveal=reveal)
    by_name = render("{{ subject.attributes.prices[subject.attributes.name] }}", variables, reveal=reveal)

    assert (by_plan, by_name) == ("5", MASK)


def test_the_way_through_a_template_is_that_of_the_values() -> None:
    source = (
        "{% capture a %}{{ subject.attributes.name }}{% endcapture %}{% if a == '☠' %}right{% else %}wrong{% endif %}"
    )

    assert shown(source) == "right"


def test_a_text_is_too_long_where_it_would_be_too_long_without_masks_and_nowhere_else() -> None:
    def body(value: str, times: int) -> str:
        variables = {"subject": {"attributes": {"v": value}}}
        source = f"{{% for n in (1..{times}) %}}{{{{ subject.attributes.v }}}}{{% endfor %}}"
        return render(source, variables, reveal=reveal_of([]))

    with pytest.raises(TemplateFailed, match="template_limit"):
        body("x" * 60_000, 5)
    assert body("x" * 50_000, 5) == MASK * 5
    assert body("x" * 30, 8_000) == MASK * 8_000


OPEN = [
    "subject.attributes.plan",
    "subject.attributes.tags",
    "subject.attributes.tags[0]",
    "subject.attributes.rest",
    "subject.attributes.visits",
    "subject.attributes.address.city",
    "entry.amount",
    "entry.lines",
    "entry.lines.first.sku",
    "steps.check.score",
]
OTHERS = [
    "subject.attributes.address",
    "subject.attributes.address.street",
    "subject.attributes.word.size",
    "subject.attributes.pairs.first",
    "subject.attributes.list.last",
    "subject.attributes.list",
    *["subject.attributes.name"] * 3,
    "subject.attributes['$entry'].amount",
    "subject.attributes[subject.attributes.key]",
    "subject.attributes[subject.attributes.word]",
    "subject.attributes.gone",
    "subject.id",
    "subject",
    "entry",
    "entry.card",
    "steps.check",
    "now",
    *"aab",
    *"abb",
    "b[0]",
    "forloop.index",
    "forloop.parentloop.last",
]
RENAMED = ["{% assign subject = entry %}", "{% assign entry = subject.attributes %}"]


def templates(names: list[str], *texts: str) -> st.SearchStrategy[str]:
    """Those that read what is called so."""
    name, own = st.sampled_from(names), st.sampled_from("ab")
    value = name | st.sampled_from(["'x'", "1"])
    filters = st.one_of(
        st.sampled_from(
            ["upcase", "json", "size", "first", "last", "reverse", "join: ', '", "split: ''", "map: 'sku'"]
        ),
        st.builds("append: {}".format, value),
        st.builds("default: {}".format, value),
        st.builds("replace: 'p', {}".format, value),
    )
    expression = st.builds(lambda first, more: " | ".join([first, *more]), value, st.lists(filters, max_size=2))
    leaf = st.one_of(
        st.builds("{{{{ {} }}}}".format, expression),
        st.builds("{{% assign {} = {} %}}".format, own, expression),
        st.builds("{{% cycle {}, {} %}}".format, value, value),
        st.sampled_from(["text", *texts]),
    )

    def blocks(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        body = st.lists(inner, min_size=1, max_size=3).map("".join)
        return st.one_of(
            st.builds("{{% if {} %}}{}{{% else %}}{}{{% endif %}}".format, name, body, body),
            st.builds("{{% unless {} == {} %}}{}{{% endunless %}}".format, name, value, body),
            st.builds("{{% case {} %}}{{% when {} %}}{}{{% else %}}{}{{% endcase %}}".format, name, value, body, body),
            st.builds("{{% capture {0} %}}{1}{{% endcapture %}}{2}{{{{ {0} }}}}".format, own, body, body),
            st.builds("{{% for {0} in {1} %}}{{{{ {0} }}}}{2}{{{{ {0} }}}}{{% endfor %}}".format, own, name, body),
            st.builds(
                "{{% for {} in {}{} %}}{}{}{{% else %}}{}{{% endfor %}}".format,
                own,
                name | st.just("(1..3)"),
                st.sampled_from(
                    ["", " limit: 1", " limit: subject.attributes.list.size", " offset: continue", " reversed"]
                ),
                body,
                st.sampled_from(["", "{% break %}", "{% continue %}"]),
                body,
            ),
        )

    return st.lists(st.recursive(leaf, blocks, max_leaves=6), min_size=1, max_size=5).map("".join)


ANY = templates([*OPEN, *OTHERS], *RENAMED)


def outcome(source: str, **how: Any) -> tuple[str, str]:
    try:
        return "text", render(source, VARIABLES, **how)
    except TemplateFailed as failed:
        return "failed", str(failed)


@given(source=ANY, escape_html=st.booleans())
def test_nothing_of_a_field_that_is_not_marked_is_in_any_text(source: str, escape_html: bool) -> None:
    kind, text = outcome(source, escape_html=escape_html, reveal=reveal_of(MARKED))

    assert kind == "failed" or (SECRET not in text and "\\u2620" not in text)


@given(source=ANY)
def test_where_nothing_is_marked_nothing_at_all_is_shown(source: str) -> None:
    values = ("pro", "PRO", "new", "NEW", "blue", "BLUE", "Köln", "KÖLN", SECRET)
    kind, text = outcome(source, reveal=reveal_of([]))

    assert kind == "failed" or not any(value in text for value in values)


@given(source=templates(OPEN), escape_html=st.booleans())
def test_what_reads_nothing_but_marked_fields_is_shown_as_it_is(source: str, escape_html: bool) -> None:
    assert outcome(source, escape_html=escape_html, reveal=reveal_of(MARKED)) == outcome(
        source, escape_html=escape_html
    )


@given(source=ANY, escape_html=st.booleans())
def test_masks_change_neither_whether_a_template_fails_nor_the_text_around_them(source: str, escape_html: bool) -> None:
    kind, text = outcome(source, escape_html=escape_html)
    masked_kind, masked = outcome(source, escape_html=escape_html, reveal=reveal_of(MARKED))

    assert masked_kind == kind
    at, pieces = 0, masked.split(MASK) if kind == "text" else [masked]
    for piece in pieces:
        assert piece in text[at:]
        at = text.index(piece, at) + len(piece)
    assert text.startswith(pieces[0])
    assert text.endswith(pieces[-1])
