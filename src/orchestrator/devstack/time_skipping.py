"""Temporal's time-skipping test server, with which tests sleep for a month in milliseconds: downloaded, or from Maven.

Only tests need it. It is fetched when one first asks for it.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import shutil
import tarfile
from pathlib import Path

import httpx

from orchestrator.devstack.download import download
from orchestrator.devstack.failure import StackFailure
from orchestrator.devstack.processes import run_to_end
from orchestrator.devstack.toolbox import Talk, fetching, tools_directory

_PROJECT = Path(__file__).with_suffix(".xml")
_COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
_MAVEN = "apache-maven-3.9.11"
_MAVEN_URL = f"https://repo1.maven.org/maven2/org/apache/maven/apache-maven/3.9.11/{_MAVEN}-bin.tar.gz"
_MAVEN_SHA512 = (
    "bcfe4fe305c962ace56ac7b5fc7a08b87d5abd8b7e89027ab251069faebee516"
    "b0ded8961445d6d91ec1985dfe30f8153268843c89aa392733d1a3ec956c9978"
)
_TIMEOUT = 300.0
_OLDEST_JAVA = 11


async def ensure_time_skipping_server(*, talk: Talk, tools: Path | None = None) -> Path:
    """The program to give the SDK as `test_server_existing_path`. Raises StackFailure with what a person can do."""
    tools = tools_directory() if tools is None else tools
    program = tools / "bin" / "temporal-test-server"
    if os.access(program, os.X_OK):
        return program
    async with fetching(tools, talk):
        if os.access(program, os.X_OK):
            return program
        talk("Temporal's time-skipping test server is not on this machine yet.")
        if not await download("time-skipping", program, talk=talk):
            await _from_maven(tools, program, talk)
    talk(f"The time-skipping test server is in {program}.")
    return program


async def _from_maven(tools: Path, program: Path, talk: Talk) -> None:
    await _require_java(tools)
    maven = await _maven(tools, talk)
    talk("Fetching it with Maven …")
    half, jars = tools / "time-skipping.new", tools / "time-skipping"
    shutil.rmtree(half, ignore_errors=True)
    log, repository = tools / "maven.log", tools / "maven-repository"
    where = [f"-DoutputDirectory={half}", f"-Dmaven.repo.local={repository}"]
    patience = ["-Daether.connector.connectTimeout=10000", "-Daether.connector.requestTimeout=60000"]
    code, output = await run_to_end(
        "Maven",
        [maven, "--batch-mode", "--quiet", "--file", _PROJECT, _COPY, "-DincludeScope=runtime", *where, *patience],
        log=log,
        timeout=_TIMEOUT,
    )
    shutil.rmtree(repository, ignore_errors=True)
    if code != 0:
        lines = [line for line in output.splitlines() if "ERROR" in line]
        raise StackFailure(
            "The time-skipping test server could be neither downloaded nor fetched with Maven: "
            f"{lines[0] if lines else 'see the log'} (log: {log})."
        )
    shutil.rmtree(jars, ignore_errors=True)
    half.replace(jars)
    _write_launcher(program, jars)


def _write_launcher(program: Path, jars: Path) -> None:
    # Small and quick to start: it lives for one test.
    options = "-XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:-UsePerfData -Xmx256m"
    half = program.with_name(f"{program.name}.new")
    half.parent.mkdir(parents=True, exist_ok=True)
    half.write_text(
        "#!/bin/sh\n"
        f'exec java {options} -cp "$(dirname "$0")/../{jars.name}/*" io.temporal.testserver.TestServer "$@"\n'
    )
    half.chmod(0o755)
    half.replace(program)


async def _require_java(tools: Path) -> None:
    java = shutil.which("java")
    found = "none"
    if java is not None:
        _, output = await run_to_end("java", [java, "-version"], log=tools / "java.log", timeout=30)
        version = re.search(r'version "(?:1\.)?(\d+)', output)
        if version is not None and int(version[1]) >= _OLDEST_JAVA:
            return
        found = version[0] if version is not None else output.strip()
    raise StackFailure(
        f"Tests that skip time need Java {_OLDEST_JAVA} or newer where Temporal's download is out of reach "
        f"(found: {found}): install a Java runtime."
    )


async def _maven(tools: Path, talk: Talk) -> Path:
    """Maven on PATH, else its own archive, checked and unpacked beside the other tools."""
    on_path = shutil.which("mvn")
    if on_path is not None:
        return Path(on_path)
    fetched = tools / _MAVEN / "bin" / "mvn"
    if not fetched.exists():
        talk("Fetching Maven …")
        await asyncio.to_thread(_unpack_maven, await _maven_archive(), tools)
    return fetched


async def _maven_archive() -> bytes:
    try:
        async with httpx.AsyncClient(timeout=httpx.Timeout(60, connect=10)) as client:
            answer = await client.get(_MAVEN_URL)
            answer.raise_for_status()
    except httpx.HTTPError as error:
        raise StackFailure(
            f"Maven is not installed and could not be fetched ({error or type(error).__name__}): install Maven."
        ) from error
    if hashlib.sha512(answer.content).hexdigest() != _MAVEN_SHA512:
        raise StackFailure("The archive of Maven is not the one expected: install Maven.")
    return answer.content


def _unpack_maven(archive: bytes, tools: Path) -> None:
    half = tools / "maven.new"
    shutil.rmtree(half, ignore_errors=True)
    half.mkdir(parents=True)
    packed = half / "maven.tar.gz"
    packed.write_bytes(archive)
    with tarfile.open(packed) as files:
        files.extractall(half, filter="data")
    (half / _MAVEN).replace(tools / _MAVEN)
    shutil.rmtree(half)
