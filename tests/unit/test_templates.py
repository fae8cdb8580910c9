"""What templates may say, and what they look like."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.domain.template_mask import MASK
from orchestrator.domain.templates import MAX_SOURCE_BYTES, TemplateFailed, check_template, render
from orchestrator.predicates.reveal import reveal_of

SUBJECT: dict[str, Any] = {
    "subject": {
        "id": "ann-1",
        "attributes": {
            "name": "ann",
            "age": 41,
            "score": 2.5,
            "vip": True,
            "note": None,
            "tags": ["new", "blue"],
            "address": {"city": "Köln"},
            "orders": [{"sku": "a", "price": 3}, {"sku": "b", "price": 1}],
        },
    },
    "entry": {"at": "2026-03-04T05:06:07Z"},
}
NAME = "subject.attributes.name"


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("plain", "plain"),
        (f"Hi {{{{ {NAME} | capitalize }}}}!", "Hi Ann!"),
        ("{{ subject.attributes.age }} {{ subject.attributes.score }} {{ subject.attributes.vip }}", "41 2.5 true"),
        ("[{{ subject.attributes.note }}]", "[]"),
        ("{{ subject.attributes['address']['city'] }}", "Köln"),
        ("{{ subject.attributes.tags[0] }} {{ subject.attributes.tags | join: ', ' }}", "new new, blue"),
        ("{{ subject.attributes.tags }} {{ subject.attributes.address }}", 'newblue {"city":"Köln"}'),
        ("{{ subject.attributes.address | json }}", '{"city":"Köln"}'),
        ("{% if subject.attributes.vip %}yes{% else %}no{% endif %}", "yes"),
        ("{% unless subject.attributes.vip %}yes{% else %}no{% endunless %}", "no"),
        ("{% if subject.attributes.age > 40 and subject.attributes.tags contains 'new' %}x{% endif %}", "x"),
        ("{% case subject.attributes.name %}{% when 'bob' %}b{% when 'ann', 'eve' %}a{% endcase %}", "a"),
        ("{% for o in subject.attributes.orders %}{{ forloop.index }}{{ o.sku }} {% endfor %}", "1a 2b "),
        ("{% for i in (1..3) reversed %}{{ i }}{% endfor %}", "321"),
        ("{% for i in (1..9) limit:2 offset:3 %}{{ i }}{% endfor %}", "45"),
        ("{% for x in missing %}x{% else %}none{% endfor %}", "none"),
        (
            "{% for i in (1..5) %}{% if i == 2 %}{% continue %}{% endif %}{{ i }}"
            "{% if i == 3 %}{% break %}{% endif %}{% endfor %}",
            "13",
        ),
        ("{% for i in (1..3) %}{% cycle 'a', 'b' %}{% endfor %}", "aba"),
        ("{% for pair in subject.attributes.address %}{{ pair[0] }}={{ pair[1] }}{% endfor %}", "city=Köln"),
        ("{% assign n = subject.attributes.orders | map: 'price' | sum %}{{ n | plus: 0.5 }}", "4.5"),
        ("{% capture c %}<{{ subject.id }}>{% endcapture %}{{ c }}{{ c | size }}", "<ann-1>7"),
        ("{{ subject.attributes.orders | sort: 'price' | map: 'sku' | join }}", "b a"),
        ("{{ subject.attributes.orders | where: 'sku', 'b' | map: 'price' }}", "1"),
        ("{{ 'b,a,b,1' | split: ',' | uniq | sort | join: '' }}", "1ab"),
        ("{{ 'a-b' | replace: '-', '+' | append: '.' | prepend: '.' | upcase }}", ".A+B."),
        ("{{ 'one two three' | truncatewords: 2 }} {{ 'abcdef' | truncate: 5 }}", "one two... ab..."),
        ("{{ 7 | divided_by: 2 }} {{ 7.0 | divided_by: 2 }} {{ 7 | modulo: 4 }} {{ 2.345 | round: 1 }}", "3 3.5 3 2.3"),
        ("{{ entry.at | date: '%d %B %Y, %H:%M' }}", "04 March 2026, 05:06"),
        ("{{ 86400 | date: '%Y-%m-%d' }} {{ 'soon' | date: '%Y' }}", "1970-01-02 soon"),
        ("{{ 'a b&c' | url_encode }} {{ '<b>' | escape }}", "a+b%26c &lt;b&gt;"),
        ("{% comment %}{{ unclosed {% endcomment %}x{% # note %}", "x"),
        ("{% raw %}{{ as is }}{% endraw %}", "{{ as is }}"),
        ("a  {{- ' ' -}}  b{%- assign x = 1 -%}  c", "a bc"),
        ("{% raw -%} x {%- endraw -%}  y", " x y"),
    ],
)
def test_a_template_renders(source: str, text: str) -> None:
    assert check_template(source, "body") == []
    assert render(source, SUBJECT) == text


@pytest.mark.parametrize(
    "source",
    [
        "{{ missing }}",
        "{{ missing.a.b[3] }}",
        "{{ subject.missing | upcase | append: missing }}",
        "{{ missing | split: ',' | sort | uniq | join: ',' }}",
        "{{ missing | date: '%Y' }}",
        "{% if missing %}x{% endif %}{% if missing > 3 %}x{% endif %}{% if missing contains 'a' %}x{% endif %}",
        "{% for x in missing.list %}x{% endfor %}",
        "{{ subject.attributes.note.deeper }}",
        "{{ subject.attributes.name[0] }}",
        "{{ forloop }}{% for i in (1..1) %}{{ forloop }}{% endfor %}",
        "{{ empty }}{{ blank }}{{ nil }}",
        "{{ now }}{{ today }}",
    ],
)
def test_what_is_missing_is_an_empty_text(source: str) -> None:
    assert render(source, SUBJECT) == ""


@pytest.mark.parametrize(
    "source",
    [
        f"{{% if {NAME} > 3 %}}x{{% endif %}}",
        f"{{% if 3 <= {NAME} %}}x{{% elsif 3 < {NAME} %}}x{{% endif %}}",
        "{{ 1 | divided_by: 0 }}",
        "{{ subject.attributes.age | truncate: 'x' }}",
        "{{ subject.attributes.tags | sort: 'a' | sum: 'b' | date: '%Q' }}",
        "{{ entry.at | date: '%999999999d' }}",
        "{{ subject.attributes.orders | sort }}",
        "{{ 'x' | upcase: 1, 2 }}",
    ],
)
def test_a_value_that_does_not_fit_fails_without_being_quoted(source: str) -> None:
    with pytest.raises(TemplateFailed) as failed:
        render(source, SUBJECT)

    assert failed.value.reason == "template_value"
    assert "ann" not in str(failed.value)
    assert failed.value.__cause__ is None


@pytest.mark.parametrize("variables", [{"a": object()}, {"a": {1: 2}}, {"a": {"b": (1, 2)}}, {"a": b"x"}])
def test_variables_that_are_not_json_are_a_mistake_of_ours(variables: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        render("x", variables)


def test_with_html_what_variables_bring_is_escaped_and_the_template_is_not() -> None:
    hostile = {"x": "<script>'\"&", "l": ["<a>", "<b>"], "o": {"k": "<i>"}}
    source = (
        "<p>{{ x }}</p>{{ x | upcase }}{{ x | append: '<u>' }}{{ '<b>' | append: x }}"
        "{% capture c %}<q>{{ x }}</q>{% endcapture %}{{ c }}{{ l | join: '<br>' }}{{ l }}{{ o }}"
        "{{ x | replace: '&', '<hr>' }}{{ x | split: '' | join: '' }}{{ c | replace: 'q', x }}{{ x | json }}"
    )

    text = render(source, hostile, escape_html=True)

    allowed = ("<p>", "</p>", "<b>", "<q>", "</q>", "<br>", "<u>")
    for tag in allowed:
        text = text.replace(tag, "")
    assert "<" not in text.replace("</", "").replace("<&lt;script", "")
    assert "<script" not in text


def test_a_literal_stays_as_it_is_in_html() -> None:
    assert render("<a href='{{ u }}'>{{ '<b>' }}</a>", {"u": "'><x>"}, escape_html=True) == (
        "<a href='&#39;&gt;&lt;x&gt;'><b></a>"
    )


@pytest.mark.parametrize(
    ("source", "reason", "message"),
    [
        ("a\nb {{ name ", "INVALID_TEMPLATE", "line 2: expected '}}'"),
        ("a\n\n{% if x %}", "INVALID_TEMPLATE", "endif"),
        ("{% endif %}", "INVALID_TEMPLATE", "line 1: unexpected tag 'endif'"),
        ("\n{% include 'x' %}", "INVALID_TEMPLATE", "line 2: unexpected tag 'include'"),
        ("{% render 'x' %}", "INVALID_TEMPLATE", "unexpected tag 'render'"),
        ("{% tablerow i in (1..2) %}{% endtablerow %}", "INVALID_TEMPLATE", "unexpected tag 'tablerow'"),
        ("{{ }}", "INVALID_TEMPLATE", ""),
        ("{% %}", "INVALID_TEMPLATE", "line 1: a tag without a name"),
        ("{{ a | }}", "INVALID_TEMPLATE", ""),
        ("{{ a b c | x y }}", "INVALID_TEMPLATE", ""),
        ("{{ a ! b }}", "INVALID_TEMPLATE", "line 1"),
        ("{{ 'a' if b }}", "INVALID_TEMPLATE", ""),
        ("{% raw %} {{ x }}", "INVALID_TEMPLATE", "line 1: raw is never closed"),
        ("{% comment %} x", "INVALID_TEMPLATE", "line 1: comment is never closed"),
        ("x" * (MAX_SOURCE_BYTES + 1), "TOO_LARGE", "32768 bytes"),
        ("é" * (MAX_SOURCE_BYTES // 2 + 1), "TOO_LARGE", "32768 bytes"),
        ("{{ a }}" * 1001, "TOO_LARGE", "1000 tags"),
        ("{{ '" + "x" * 1000 + "' }}", "TOO_LARGE", "1000 characters"),
        ("{% if a %}" * 21 + "{% endif %}" * 21, "TOO_LARGE", "nesting"),
    ],
)
def test_a_template_that_is_wrong_is_told_so_with_its_line(source: str, reason: str, message: str) -> None:
    faults = check_template(source, "communication.body")

    assert [(fault.path, fault.reason) for fault in faults] == [("communication.body", reason)]
    assert message in faults[0].message
    assert len(faults[0].message) < 300
    with pytest.raises(TemplateFailed):
        render(source, {})


def test_every_unknown_filter_is_named_with_its_line() -> None:
    faults = check_template(
        "{{ a | nope }}\n{% assign x = a | upcase | safe %}\n{% if a %}{{ a | eval: 1 }}{% endif %}", "b"
    )

    assert [fault.message for fault in faults] == [
        "line 1: there is no filter 'nope'",
        "line 2: there is no filter 'safe'",
        "line 3: there is no filter 'eval'",
    ]


def test_a_render_leaves_nothing_for_the_next_one() -> None:
    source = "{{ x }}{% assign x = y %}{{ x }}{% cycle '1', '2' %}"

    assert [render(source, {"y": "a"}), render(source, {"y": "b"}), render(source, {})] == ["a1", "b1", "1"]


def test_the_caller_may_set_the_time() -> None:
    assert render("{{ now | date: '%Y' }}", {"now": "2031-01-01T00:00:00Z"}) == "2031"


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ name }}", MASK),
        ("{{ nothing }}", ""),
        ("{{ 'Hi' }} {{ 'x' | upcase }}", "Hi X"),
        ("{{ 'Hi ' | append: name }}", MASK),
        ("{{ name | size }}{{ deep.list[0] }}", MASK * 2),
        ("{% assign n = name %}{{ n }}", MASK),
        ("{% capture n %}Hi {{ name }}{% endcapture %}{{ n }}", MASK),
        ("{% cycle name, 'b' %}{% cycle 'a', 'b' %}", f"{MASK}a"),
        ("{% for each in deep.list %}<{{ each }}>{% endfor %}", f"<{MASK}><{MASK}>"),
        ("{% if name == 'Ann' %}yes{% else %}no{% endif %}", "yes"),
        ("{% case name %}{% when 'Ann' %}{{ name }}{% endcase %}", MASK),
    ],
)
def test_a_masked_text_shows_no_value_of_a_variable(source: str, text: str) -> None:
    variables = {"name": "Ann", "deep": {"list": ["secret", "more"]}}

    assert render(source, variables, reveal=reveal_of([])) == text
    assert "Ann" not in render(source, variables, reveal=reveal_of([]), escape_html=True)
