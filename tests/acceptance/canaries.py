"""Values that are planted in everything that is known of somebody, and looked for wherever something could be left."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import quote


@dataclass(frozen=True, slots=True)
class Canary:
    """A value, by what it is."""

    name: str
    value: str

    def forms(self) -> set[bytes]:
        """All that it could look like: in either case, url-encoded, in hexadecimal digits as a dump has bytes,
        in Base64 at each place where it can begin.
        """
        plain = self.value.encode()
        forms = {plain, plain.lower(), plain.upper(), quote(self.value, safe="").encode(), plain.hex().encode()}
        for place in range(3):
            coded = base64.b64encode(b"x" * place + plain)
            # What the bytes around it have a part in is left out.
            forms.add(coded[(place * 8 + 5) // 6 : -4])
            forms.add(base64.urlsafe_b64encode(b"x" * place + plain)[(place * 8 + 5) // 6 : -4])
        return forms


class Cage:
    """Forty of them, and one that is as long as an id may be."""

    def __init__(self) -> None:
        #: Ids may only have some characters.
        self.subject_id = "Kanari.Ann-4711"
        self.alias_id = "Kanari.Visitor:17"
        self.longest_id = "Kanari.Longest".ljust(128, "7")
        values = {
            "id": self.subject_id,
            "alias": self.alias_id,
            "longest": self.longest_id,
            "mail": "Kanari.Ann+shop@example.com",
            "phone": "+49 30 4711-0815",
            "name": "Kanari Ännchen Müller",
            "street": "Kanarigasse 47/11",
        }
        for number in range(41 - len(values)):
            values[f"value{number}"] = f"Kanari/{number:02} höchst persönlich <{number * 7919}>"
        self.canaries = [Canary(name, value) for name, value in values.items()]

    def __getitem__(self, name: str) -> str:
        return next(canary.value for canary in self.canaries if canary.name == name)

    def found(self, places: Mapping[str, Iterable[bytes]]) -> dict[str, set[str]]:
        """By place, the names of those that stand there in any form."""
        forms = {canary.name: {look.lower() for look in canary.forms()} for canary in self.canaries}
        hits: dict[str, set[str]] = {}
        for place, texts in places.items():
            # Nothing that is looked for has a NUL in it.
            everything = b"\0".join(texts).lower()
            if there := {name for name, looks in forms.items() if any(look in everything for look in looks)}:
                hits[place] = there
        return hits
