"""Templates that were written to hurt: to take time, to take memory, to look where they must not."""

from __future__ import annotations

from typing import Any

from tests.hostile import hostile

VARIABLES: dict[str, Any] = {
    "subject": {
        "name": "ann",
        "list": list(range(5000)),
        "deep": [[["a"] * 100] * 10] * 5,
        "objects": [{"a": number, "b": "x"} for number in range(1000)],
    },
    "s": "x" * 2000,
    "marks": "<&>\"'" * 6000,
    "accents": "é" * 30_000,
    "as": "a" * 30_000,
    "words": "ab " * 10_000,
}


def _filled(unit: str, head: str = "", tail: str = "", markup: int = 990) -> str:
    """As many `unit`s as a template may have."""
    count = min((32 * 1024 - len(head) - len(tail)) // len(unit), markup // max(1, unit.count("{%") + unit.count("{{")))
    return head + unit * count + tail


def _passes(body: str) -> str:
    return "{% for i in (1..10000) %}" + body + "{% endfor %}"


#: By what they are after. None of them gives a text.
BOMBS: dict[str, str] = {
    # Loops.
    "three loops": "{% for i in (1..100) %}" * 3 + "{% endfor %}" * 3,
    "empty loops in a row": _filled(_passes("")),
    "loops in a row": _filled(_passes("{{ i }}")),
    "loops that go on": _filled(_passes("{% continue %}")),
    "a loop with a large body": _passes(_filled("{% if f %}{% endif %}", markup=900)),
    "a loop that assigns": _passes(_filled("{% assign x = i %}", markup=900)),
    "a loop with a long condition": _passes("{% if " + " and ".join(["i > 0"] * 120) + " %}{% endif %}"),
    "a loop with deep paths": _passes("{% if " + "a[" * 300 + "b" + "]" * 300 + " %}{% endif %}"),
    "a loop with a long path": _passes("{{ a" + ".a" * 480 + " }}"),
    "a loop with many filters": _passes("{{ 'a' " + "| upcase " * 100 + "}}"),
    "a loop with many cases": _passes("{% case 1 %}" + "{% when 2 %}" * 950 + "{% endcase %}"),
    "cases that multiply": "".join("{% case 1 %}{% when " + ",".join(["1"] * 300) + " %}" for _ in range(5))
    + "x"
    + "{% endcase %}" * 5,
    "cases in a loop": _passes(_filled("{% case 1 %}{% when " + ",".join(["1"] * 300) + " %}{% endcase %}", markup=90)),
    "a cycle in a loop": _passes("{% cycle " + ",".join(["as"] * 300) + " %}"),
    # Ranges.
    "a range reversed": "{% for i in (1..300000000) reversed %}{% endfor %}",
    "a range beyond 64 bits": "{% for i in (1..99999999999999999999999) %}x{% endfor %}",
    "a range with an offset": "{% for i in (1..300000000) offset:299999999 %}x{% endfor %}",
    "a range joined": "{{ (1..3000000) | join }}",
    "a range assigned": "{% assign r = (1..300000000) %}{% for i in r reversed %}{% endfor %}",
    "a range sorted": "{% assign r = (1..10000) %}" + "{{ r | sort | reverse | size }}" * 900,
    # Comparisons.
    "a search in a text": _passes("{% if as contains 'aaaaaaaaaaaaaaaaaaaaaaaaab' %}{% endif %}"),
    "texts compared": "{% assign b = as | append: '' %}" + _passes("{% if as == b %}{% endif %}" * 3),
    "lists compared": "{% assign l = subject.list | reverse | reverse %}"
    + _passes("{% if subject.list == l %}{% endif %}"),
    "deep lists compared": "{% assign l = subject.deep | reverse | reverse %}"
    + _passes("{% if subject.deep == l %}{% endif %}"),
    "a search in a list": _passes("{% if subject.list contains 99999 %}{% endif %}"),
    # Filters.
    "replace three times": "{{ s | replace: 'x', s | replace: 'x', s | replace: 'x', s }}",
    "a text a number of times": "{{ 'x' | times: 300000000 | append: '' | replace: '0', as | replace: 'a', as }}",
    "replace nothing": "{{ as | replace: '', as }}",
    "split into characters": "{{ as | split: '' | size }}",
    "split and join": _passes("{% assign x = words | slice: 0, 29000 | split: ' ' | join: ',' %}"),
    "split and sort": _passes("{% assign x = words | slice: 0, 20000 | split: ' ' | sort %}"),
    "uniq": _passes("{% assign x = subject.list | uniq %}"),
    "uniq by a member": _passes("{% assign x = subject.objects | uniq: 'a' %}"),
    "sort_natural": _passes("{% assign x = subject.list | sort_natural %}"),
    "sum": _passes("{% assign x = subject.list | sum %}"),
    "map and where": _passes("{% assign x = subject.objects | where: 'a' | map: 'b' %}"),
    "escape": _passes("{% assign x = marks | escape %}"),
    "url_encode": _passes("{% assign x = accents | url_encode %}"),
    "json": _passes("{% assign x = subject | json %}"),
    "squish": _passes("{% assign x = words | squish %}"),
    "truncatewords": _passes("{% assign x = words | truncatewords: 5 %}"),
    "newline_to_br": _passes("{% assign x = marks | newline_to_br | strip_newlines %}"),
    "date": _passes("{{ '2026-01-01' | date: '%A %B %d %Y %H %M %S %j %p' }}"),
    "a date of a billion digits": "{{ '2026-01-01' | date: '%999999999d' }}",
    "a number that squares itself": "{% assign x = 9 %}" + "{% assign x = x | times: x %}" * 60,
    "a float that squares itself": "{% assign x = 9.5 %}" + "{% assign x = x | times: x %}" * 60,
    "a number of nine hundred digits": "{{ " + "9" * 900 + " | times: 9 }}",
    # Memory.
    "append that doubles": "{% assign x = s %}" + "{% assign x = x | append: x %}" * 60,
    "capture that doubles": "{% assign x = s %}" + "{% capture x %}{{ x }}{{ x }}{% endcapture %}" * 60,
    "append in a loop": "{% assign x = s %}" + _passes("{% assign x = x | append: 'y' %}"),
    "many variables": "".join(
        f"{{% assign x{number} = as | append: as | append: as | append: as %}}" for number in range(300)
    ),
    "captures in captures": "{% capture a %}" * 19 + "{{ as }}" * 9 + "{% endcapture %}" * 19,
    "output": _passes("{{ s }}"),
    "an object as text in a loop": _passes("{% capture x %}{{ subject }}{% endcapture %}"),
    # Parsing.
    "an output that never ends": "{{" + " " * 32_000,
    "outputs that never end": "{{ " * 10_000,
    "tags that never end": ("{%" + " " * 30) * 1000,
    "raws that never end": "{% raw %}" * 3600,
    "comments that never end": "{% comment %}" * 2500,
    "parentheses": _filled("{{ " + "(" * 990 + " }}"),
    "quotes": _filled("{% if " + "['" * 490 + " %}{% endif %}"),
    "brackets that never end": _filled("{{ " + "a[" * 490 + " }}"),
    "blocks in blocks": "{% if a %}" * 400 + "{% endif %}" * 400,
}

#: Those that are after memory.
HOARDERS = (
    "a range reversed",
    "a range joined",
    "a range assigned",
    "replace three times",
    "replace nothing",
    "split into characters",
    "a number that squares itself",
    "append that doubles",
    "capture that doubles",
    "many variables",
    "captures in captures",
    "output",
)

#: Ways out of a template's world, as other template languages and this one's library have had them.
ESCAPES = hostile("template_escapes")
