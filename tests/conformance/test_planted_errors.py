"""The comparison of the engines finds every error that was put into one of them."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from asyncpg import Connection, Record

from tests.conformance import slips_of_statements, slips_of_the_reference
from tests.conformance.dice import Throw, throw
from tests.conformance.engines import differences, reference
from tests.conformance.misprints import MISPRINTS, Misprint
from tests.conformance.slips import Slip
from tests.conformance.tables import LAST_BUCKET, Answer, Tables, write_worlds


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """Subjects about whom both engines agree."""

    throw: Throw
    tables: Tables
    said: list[Answer]
    told: dict[int, Answer]


@pytest.fixture(scope="module")
async def compared(tables_owner: Connection[Record]) -> Compared:
    """On the day on which New York, where the session is, puts its clocks back."""
    await tables_owner.execute("SET timezone TO 'America/New_York'")
    thrown = throw(100, subjects=200, leaves=570, trees=60)
    tables = await write_worlds(tables_owner, thrown.worlds, thrown.questions.values())
    said = list(reference(thrown))
    told = await tables.ask(thrown.questions, thrown.as_of)
    assert list(differences(thrown, said, told)) == []
    return Compared(throw=thrown, tables=tables, said=said, told=told)


def plant(slip: Slip, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slip.holder, slip.name, slip.instead(getattr(slip.holder, slip.name)))


@pytest.mark.parametrize("misprint", MISPRINTS, ids=lambda misprint: str(misprint.name))
async def test_an_error_in_the_statement_is_found(misprint: Misprint, compared: Compared) -> None:
    query = misprint.print(compared.tables.compile(compared.throw.questions, compared.throw.as_of))

    told = await compared.tables.fetch(query, 0, LAST_BUCKET)

    assert any(differences(compared.throw, compared.said, told))


@pytest.mark.parametrize("slip", slips_of_statements.SLIPS, ids=lambda slip: str(slip.what))
async def test_an_error_where_the_statement_is_made_is_found(
    slip: Slip, compared: Compared, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(slip, monkeypatch)

    told = await compared.tables.ask(compared.throw.questions, compared.throw.as_of)

    assert any(differences(compared.throw, compared.said, told))


@pytest.mark.parametrize("slip", slips_of_the_reference.SLIPS, ids=lambda slip: str(slip.what))
def test_an_error_in_the_reference_is_found(slip: Slip, compared: Compared, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(slip, monkeypatch)

    said = reference(compared.throw)

    assert any(differences(compared.throw, said, compared.told))
