"""The ports that a process opens, as its settings say, and which of them other machines reach."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.settings import InvalidSettings, Settings, is_loopback

SERVER = "server"
WORKER = "worker"
CODEC = "codec server"

#: Where a setting is called so, it belongs to that process; all others belong to the server.
_PREFIXES = {"worker_": WORKER, "codec_": CODEC}
_HOST = "_host"


@dataclass(frozen=True, slots=True)
class Listener:
    """A port that a process opens, by the setting that says where."""

    variable: str
    host: str

    @property
    def abroad(self) -> bool:
        """Whether other machines reach it."""
        return not is_loopback(self.host)

    def __str__(self) -> str:
        return f"{self.variable}={self.host}"


def listeners(settings: Settings, process: str) -> tuple[Listener, ...]:
    """The ports that a process of these settings opens. Raises InvalidSettings for a host without its port."""
    found = []
    for field in type(settings).model_fields:
        owner = next((owner for prefix, owner in _PREFIXES.items() if field.startswith(prefix)), SERVER)
        if owner != process or not field.endswith(_HOST):
            continue
        variable, ports = f"ORCHESTRATOR_{field.upper()}", ports_of(field)
        if any(getattr(settings, port) is not None for port in ports):
            found.append(Listener(variable, getattr(settings, field)))
        elif field in settings.model_fields_set:
            named = " and ".join(f"ORCHESTRATOR_{port.upper()}" for port in ports)
            raise InvalidSettings(f"{variable} is set and {named} is not: set both, or neither.")
    return tuple(found)


def ports_of(host: str) -> list[str]:
    """The settings of the ports that are opened at a setting `…_host`, which begin as it does."""
    name = host.removesuffix(_HOST)
    return [field for field in Settings.model_fields if field.startswith(f"{name}_") and field.endswith("_port")]
