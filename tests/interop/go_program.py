"""Programs in Go that tests run beside eastgate: built once, kept in the user's cache."""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

BUILD_S = 600


def built(source: Path) -> Path:
    """The program of this module, made anew when its sources change.

    Skips by name where there is no go, except in CI.
    """
    go = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    if go is None:
        if os.environ.get("CI"):
            pytest.fail(f"go is missing: CI runs against {source.name}")
        pytest.skip(f"go is missing: nothing to build {source.name} with")
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(source.iterdir()))).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "eastgate"
    program = cache / f"{source.name}-{digest}"
    if not program.exists():
        cache.mkdir(parents=True, exist_ok=True)
        draft = program.with_suffix(f".{os.getpid()}")
        run = subprocess.run(
            [go, "build", "-o", str(draft), "."],
            cwd=source,
            capture_output=True,
            text=True,
            timeout=BUILD_S,
            check=False,
        )
        assert run.returncode == 0, f"go build: {run.stderr}"
        draft.rename(program)
    return program
