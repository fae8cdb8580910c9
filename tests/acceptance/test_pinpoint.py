"""An export of Pinpoint, from the files that AWS's command line wrote to a project here."""

from __future__ import annotations

import json
from pathlib import Path

from orchestrator.cli.yaml_text import parse_documents
from tests.acceptance.command_line import CommandLine
from tests.unit.pinpoint.spoiled import EVERYTHING


async def test_an_export_in_files_is_translated_told_and_imported(run: CommandLine, tmp_path: Path) -> None:
    export, bundle = tmp_path / "export", tmp_path / "bundle.yaml"
    export.mkdir()
    (export / "1.json").write_text(json.dumps(EVERYTHING[:5]), encoding="utf-8")
    (export / "2.json").write_text(json.dumps(EVERYTHING[5:-1]), encoding="utf-8")
    (export / "3.json").write_text(json.dumps(EVERYTHING[-1]), encoding="utf-8")

    told = (await run("pinpoint", "translate", str(export), "-o", str(bundle), "--output", "json")).json

    kinds = {finding["path"]: finding["kind"] for finding in told}
    assert kinds[f"{export}/1.json[0]: SegmentResponse.SegmentGroups.Groups[0].Dimensions[0].Location.GPSPoint"] == (
        "no_counterpart"
    )
    assert kinds[f"{export}/3.json: WriteJourneyRequest.Limits.EndpointReentryCap"] == "differs"
    assert "record" not in kinds.values()
    (written,) = parse_documents(bundle.read_text(encoding="utf-8"))
    assert [journey["id"] for journey in written["journeys"]] == ["j1", "ByEvent"]

    imported = (await run("import", str(bundle), "--output", "json")).json

    assert {change["action"] for change in imported["changes"]} == {"created"}
    assert imported.get("publishedCount", 0) == 0


async def test_what_is_no_export_is_told_with_its_file(run: CommandLine, tmp_path: Path) -> None:
    broken, other = tmp_path / "broken.json", tmp_path / "other.json"
    broken.write_text("{", encoding="utf-8")
    other.write_text('{"FlowResponse": {}}', encoding="utf-8")

    unreadable = await run("pinpoint", "translate", str(broken), "-o", str(tmp_path / "b.yaml"))
    unknown = await run("pinpoint", "translate", str(other), "-o", str(tmp_path / "b.yaml"))

    assert (unreadable.code, unknown.code) == (2, 1)
    assert str(broken) in unreadable.err
    assert "FlowResponse" in unknown.err
    assert not (tmp_path / "b.yaml").exists()
