from __future__ import annotations

import pytest

# The worlds in which executions run are those of the workflow tests.
from tests.workflows.conftest import at_work, furnished

__all__ = ["at_work", "furnished"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--record-histories",
        action="store_true",
        help="store the histories that workers write now under tests/replay/histories, in a directory of this release",
    )
