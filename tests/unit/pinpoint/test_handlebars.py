"""Templates of Pinpoint say here what they said there."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.domain.templates import check_template, render
from orchestrator.pinpoint.handlebars import NotTranslatable, Translator

ANN: dict[str, Any] = {
    "user": {"FirstName": ["Ann"], "Colors": ["red", "blue"], "Plan": "pro", "a.b": "dotted", "Last Name": "Doe"},
    "endpoint": {"City": ["Berlin"], "Empty": [], "Nothing": ""},
    "metrics": {"Visits": 3, "None": 0},
    "demographic": {"platform": "ios"},
    "location": {"country": "DE"},
    "email": "ann@example.com",
}

SAID: list[tuple[str, str]] = [
    ("Hi {{User.UserAttributes.FirstName}}!", "Hi Ann!"),
    ("Hi {{User.UserAttributes.FirstName.[0]}}!", "Hi Ann!"),
    ("{{User.UserAttributes.Plan.[0]}}", "pro"),
    ("{{User.UserAttributes.Colors.[1]}}", "blue"),
    ("{{User.UserAttributes.[Last Name]}}", "Doe"),
    ("{{User.UserAttributes.[a.b]}}", "dotted"),
    ("{{User.UserAttributes.Missing}}|{{Attributes.Missing}}", "friend|"),
    ("{{User.UserId}} {{Address}}", "ann ann@example.com"),
    ("{{Attributes.City}} {{Metrics.Visits}} {{Demographic.Platform}} {{Location.Country}}", "Berlin 3 ios DE"),
    ("{{{Attributes.City}}}{{& Attributes.City}}", "BerlinBerlin"),
    ("{{#if User.UserAttributes.FirstName}}yes{{else}}no{{/if}}", "yes"),
    ("{{#if User.UserAttributes.Missing}}yes{{else}}no{{/if}}", "no"),
    ("{{#if Attributes.Empty}}yes{{else}}no{{/if}}{{#if Attributes.Nothing}}yes{{else}}no{{/if}}", "nono"),
    ("{{#if Metrics.None}}yes{{else}}no{{/if}}", "no"),
    ("{{#unless Attributes.Empty}}none{{/unless}}", "none"),
    ("{{#each User.UserAttributes.Colors}}<{{this}}{{@index}}>{{else}}none{{/each}}", "<red0><blue1>"),
    ("{{#each Attributes.Empty}}<{{this}}>{{else}}none{{/each}}", "none"),
    ('{{#eq User.UserAttributes.Plan "pro"}}A{{else}}B{{/eq}}', "A"),
    ('{{#neq User.UserAttributes.Plan "pro"}}A{{else if User.UserAttributes.FirstName}}C{{else}}B{{/neq}}', "C"),
    ("{{#gt Metrics.Visits 2}}many{{else}}few{{/gt}}{{#lte Metrics.Visits 2}}few{{/lte}}", "many"),
    ("{{upper User.UserAttributes.Plan}} {{lower 'ABC'}}", "PRO abc"),
    ('{{defaultIfEmpty Attributes.Nothing "something"}}', "something"),
    ("a{{! a comment }}b{{!-- with }} braces --}}c", "abc"),
    (r"\{{not this}} {{Attributes.City}}", "{{not this}} Berlin"),
    ("50 {% off %} {%", "50 {% off %} {%"),
    ("a }} b }", "a }} b }"),
    ("{{Recommendations.Book.[0]}}{{coupon}}", ""),
    ("", ""),
]


@pytest.mark.parametrize(("source", "text"), SAID, ids=lambda part: part[:40])
def test_a_template_says_what_it_said(source: str, text: str) -> None:
    made = Translator("EMAIL", {"User.UserAttributes.Missing": "friend"}).liquid(source)

    assert check_template(made, "body") == []
    assert render(made, {"subject": {"id": "ann", "attributes": ANN}}) == text


@pytest.mark.parametrize(
    "source",
    [
        "{{#bold}}x{{/bold}}",
        "{{> header}}",
        "{{^empty}}x{{/empty}}",
        "{{#if a}}x",
        "{{#if a}}x{{/each}}",
        "{{/if}}",
        "{{else}}",
        "{{#each a}}{{else}}{{else}}{{/each}}",
        "{{open",
        "{{{Attributes.City}}",
        "{{}}",
        "{{Attributes.}}",
        "{{~ Attributes.City ~}}",
        '{{formatCurrency Metrics.Price format="EUR"}}',
        "{{upper (lower Attributes.City)}}",
        "{{#* inline 'x'}}{{/inline}}",
        "{{Attributes.[both\"and'quotes]}}",
        '{{defaultIfEmpty Attributes.City "}}"}}',
        "{{#if a}}" * 30 + "{{/if}}" * 30,
    ],
    ids=lambda source: source[:30],
)
def test_what_has_no_counterpart_is_not_translated_by_halves(source: str) -> None:
    with pytest.raises(NotTranslatable) as failure:
        Translator("EMAIL", {}).liquid(source)

    assert failure.value.construct
    assert failure.value.why


def test_variables_that_nothing_fills_in_are_told() -> None:
    translator = Translator("SMS", {})

    translator.liquid("{{coupon}} {{User.UserAttributes.Name}} {{#if Recommendations.Book}}x{{/if}}")

    assert list(translator.unknown) == ["coupon", "Recommendations.Book"]


def test_what_was_not_to_be_escaped_is_known_of_each_text() -> None:
    translator = Translator("EMAIL", {})

    translator.liquid("{{{Attributes.Bio}}} {{&Attributes.City}} {{upper Attributes.Bio}}")
    assert list(translator.unescaped) == ["{{{Attributes.Bio}}}", "{{&Attributes.City}}"]
    translator.liquid("{{Attributes.Bio}}")
    assert list(translator.unescaped) == []
