"""Python runs this first in every process that has its directory on PYTHONPATH: what breaks connections (breaking.py),
and the hook that changes modules (tests/faults/planted/hook), of the same name, where `PLANTING_HOOK` says.
"""

import os
import runpy
from importlib import import_module
from pathlib import Path

runpy.run_path(str(Path(os.environ["PLANTING_HOOK"]) / "sitecustomize.py"))
import_module("breaking").plant()
