"""Programs that render deploy/: from PATH, or as `make lab-build` has built them."""

import os
import shutil
from pathlib import Path

import pytest

CACHE = Path(os.environ.get("EASTGATE_LAB_CACHE") or Path.home() / ".cache/eastgate-lab") / "bin"


def tool(name: str) -> str:
    """Path of the program. Without it the test is skipped by name, and fails where EASTGATE_DEPLOY_TOOLS=required."""
    found = shutil.which(name) or shutil.which(name, path=str(CACHE))
    if found is None:
        reason = f"{name} is neither on PATH nor in {CACHE}: `make lab-build` builds it from its Go module"
        if os.environ.get("EASTGATE_DEPLOY_TOOLS") == "required":
            pytest.fail(reason)
        pytest.skip(reason)
    return found
