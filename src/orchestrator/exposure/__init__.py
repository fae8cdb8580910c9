"""What a process would leave open to other machines, found in its settings before it listens.

What is safe while only this machine reaches a process is often not when others do. A process that listens for them does
not start with such settings: it names all of them, each with what mends it. Those that something else takes care of (a
proxy that encrypts, a network that nobody else is in) are accepted by name, and told in the log at every start.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from orchestrator.exposure import secrets, ways
from orchestrator.exposure.kinds import ACCEPTABLE, Exposure
from orchestrator.exposure.listeners import CODEC, SERVER, listeners
from orchestrator.settings import InvalidSettings, Settings


class Exposed(InvalidSettings):
    """The process would be open to other machines. The message names each way, and what mends it, a line each."""


def check(settings: Settings, process: str, *, environment: Mapping[str, str]) -> tuple[Exposure, ...]:
    """What is open and was accepted, for the log. `environment` is what libpq's variables are read from.

    Raises Exposed for what was not accepted, and InvalidSettings for a host without its port.
    """
    return _accepted(settings, process, tuple(_found(settings, process, environment)))


def check_database_user(settings: Settings, process: str, *, is_superuser: bool) -> tuple[Exposure, ...]:
    """As `check`, of what only the database knows: whether its user is a superuser, or passes by row-level security."""
    if not is_superuser or not any(listener.abroad for listener in listeners(settings, process)):
        return ()
    exposure = Exposure(
        "superuser",
        "The user of DATABASE_URL is a superuser, whom row-level security does not hold back.",
        "Make a user of its own: CREATE ROLE orchestrator LOGIN CREATEROLE, and let it own the database.",
    )
    return _accepted(settings, process, (exposure,))


def _accepted(settings: Settings, process: str, found: tuple[Exposure, ...]) -> tuple[Exposure, ...]:
    accepted = tuple(exposure for exposure in found if exposure.kind in settings.accepted_exposures)
    refused = [exposure for exposure in found if exposure not in accepted]
    if refused:
        raise Exposed(_refusal(process, refused))
    return accepted


def _refusal(process: str, refused: list[Exposure]) -> str:
    """What is open stands last: whoever started the process for somebody shows its last line."""
    kinds = sorted({exposure.kind for exposure in refused} & set(ACCEPTABLE))
    accepting = (
        f" What something else takes care of may be accepted: ORCHESTRATOR_ACCEPTED_EXPOSURES={','.join(kinds)}"
        if kinds
        else ""
    )
    return "\n".join(
        [
            f"The {process} does not start, since other machines could make use of what follows.{accepting}",
            *(f"- {exposure.kind}: {exposure.said} {exposure.remedy}" for exposure in refused),
        ]
    )


def _found(settings: Settings, process: str, environment: Mapping[str, str]) -> Iterator[Exposure]:
    abroad = [listener for listener in listeners(settings, process) if listener.abroad]
    if process != CODEC:
        yield from ways.plain_mail(settings)
    if not abroad:
        return
    named = " and ".join(map(str, abroad))
    if process == CODEC:
        yield from ways.of_codec_server(settings, named)
        yield from secrets.guessable_codec_tokens(settings)
        yield from secrets.shared_secrets(settings, environment)
        return
    if process == SERVER:
        yield from secrets.guessable_keys(settings, named)
        yield from ways.of_server(settings, named, abroad)
    else:
        yield from ways.of_worker(named)
    yield from secrets.guessable_database_password(settings, environment)
    yield from secrets.shared_secrets(settings, environment)
    yield from ways.webhooks(settings)
