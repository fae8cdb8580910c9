"""The client knows the whole contract, and nothing of the server."""

from __future__ import annotations

import subprocess
import sys
import typing

from orchestrator.api.methods import services
from orchestrator.client import OrchestratorClient, messages, paging


def test_the_client_has_every_service() -> None:
    assert set(OrchestratorClient.__annotations__) == {_attribute(service.name) for service in services()}


def test_every_message_has_its_name_in_messages() -> None:
    files = {service.file for service in services()}
    reached = files | {file for service_file in files for file in service_file.dependencies}
    ours = [file for file in reached if file.package == "orchestrator.v1"]

    missing = [
        name
        for file in ours
        for name in (*file.message_types_by_name, *file.enum_types_by_name)
        if not hasattr(messages, name)
    ]

    assert ours
    assert missing == []


def test_every_list_of_the_contract_can_be_read_to_its_end_with_its_type() -> None:
    lists = {
        method.input_type.name
        for service in services()
        for method in service.methods
        if "page_token" in method.input_type.fields_by_name
    }

    typed = {
        str(overload.__annotations__["request"]).removeprefix("m.") for overload in typing.get_overloads(paging.each)
    }

    assert typed == lists


def test_importing_the_client_imports_nothing_of_the_server() -> None:
    program = "import sys, orchestrator.client; print(*sorted(sys.modules))"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    modules = run.stdout.split()

    ours = {".".join(name.split(".")[:2]) for name in modules if name.startswith("orchestrator.")}
    assert ours == {"orchestrator.client", "orchestrator.v1"}
    assert not {"asyncpg", "temporalio", "pydantic", "workers"} & set(modules)


def _attribute(service: str) -> str:
    """`trigger_contracts` for TriggerContractService."""
    noun = "".join(f"_{c.lower()}" if c.isupper() else c for c in service.removesuffix("Service")).lstrip("_")
    if noun.endswith("ry"):
        return f"{noun[:-1]}ies"
    return noun if noun in ("audit", "internal", "pinpoint") else f"{noun}s"
