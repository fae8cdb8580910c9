"""Changes modules as they are imported. Python runs this first in every process that has its directory on PYTHONPATH.

`PLANTED` names a file of JSON: {"only": …, "changes": {module: [[was, instead], …]}}. `only` is a word of the command
line of those processes that are changed; empty: all are. A text that is not there once, as it was, ends the process.
"""

import json
import os
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path


class Changed(SourceFileLoader):
    """A module with other texts in it; from its source each time, never from what was compiled before."""

    def __init__(self, fullname: str, path: str, changes: list[list[str]]) -> None:
        super().__init__(fullname, path)
        self._changes = changes

    def get_code(self, fullname: str):  # type: ignore[no-untyped-def]
        source = Path(self.path).read_text()
        for was, instead in self._changes:
            if source.count(was) != 1:
                raise ImportError(f"{fullname} has this {source.count(was)} times, and not once: {was}")
            source = source.replace(was, instead)
        return compile(source, self.path, "exec", dont_inherit=True)


class Planter(MetaPathFinder):
    """Finds the modules that are to be changed."""

    def __init__(self, changes: dict[str, list[list[str]]]) -> None:
        self._changes = changes

    def find_spec(self, fullname: str, path=None, target=None) -> ModuleSpec | None:  # type: ignore[no-untyped-def]
        if fullname not in self._changes:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.origin is not None:
            spec.loader = Changed(fullname, spec.origin, self._changes[fullname])
        return spec


if "PLANTED" in os.environ:
    _planted = json.loads(Path(os.environ["PLANTED"]).read_text())
    if not _planted["only"] or _planted["only"] in sys.orig_argv:
        sys.meta_path.insert(0, Planter(_planted["changes"]))
