"""Bundles in files: one object, as the API has it, in YAML or JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import orjson

from orchestrator.api.fault_relations import unrelated
from orchestrator.api.json_decode import decode
from orchestrator.api.json_encode import encode
from orchestrator.api.json_text import parse_json
from orchestrator.api.message_check import check_message
from orchestrator.cli.documents import sentence_of
from orchestrator.cli.failure import FAILED, USAGE, CommandFailure
from orchestrator.cli.files import read_text
from orchestrator.cli.yaml_text import NotYaml, parse_documents, write_documents
from orchestrator.client import messages
from orchestrator.domain.bundle import FORMAT_VERSION
from orchestrator.predicates.faults import Wrong


def write_bundle(bundle: messages.Bundle, path: Path | None) -> str:
    """The text of a bundle; the file's, if one is named and ends so, as JSON. Equal bundles have equal texts.

    Raises CommandFailure when the file cannot be written.
    """
    document: dict[str, Any] = encode(bundle)
    if path is not None and path.suffix == ".json":
        text = orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode()
    else:
        text = write_documents([document])
    if path is not None:
        try:
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise CommandFailure(f"{path} cannot be written: {error.strerror}.", FAILED) from error
    return text


def read_bundle(path: Path) -> messages.Bundle:
    """The bundle in a file, or on stdin. Raises CommandFailure with everything that can be seen to be wrong with it."""
    document = _read(path)
    if not isinstance(document, dict):
        raise CommandFailure(f"{path} has no bundle: a bundle is an object.", USAGE)
    version = document.get("formatVersion", document.get("format_version"))
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise CommandFailure(
            f"{path} is a bundle of the form {version}, and this command reads the form {FORMAT_VERSION}: "
            "import it with the release that wrote it, or a later one (BUNDLE_FORMAT_UNKNOWN)."
        )
    bundle, faults = decode(messages.Bundle, document)
    faults += unrelated(faults, check_message(messages.ImportBundleRequest(bundle=bundle)))
    if faults:
        told = [sentence_of(str(path), fault) for fault in faults]
        raise CommandFailure("\n".join(["Nothing was imported.", *told]))
    return bundle


def _read(path: Path) -> Any:
    text = read_text(path)
    try:
        if text.lstrip().startswith("{"):  # which is YAML as well, and takes a hundred times as long as such
            return parse_json(text.encode())
        documents = list(parse_documents(text))
    except (NotYaml, json.JSONDecodeError, Wrong) as error:
        raise CommandFailure(f"{path}, {error}.", USAGE) from error
    if len(documents) != 1:
        raise CommandFailure(f"{path} has {len(documents)} documents: a bundle is one.", USAGE)
    return documents[0]
