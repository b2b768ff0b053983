"""What `eastgate --version` says is what is there."""

import platform
import re
import shutil
import subprocess
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import pytest
from eastgate.proxy import build_info
from eastgate.proxy.build_info import NATIVE, hardening
from hypothesis import given
from hypothesis import strategies as st

from ..support.gateway_process import run_command


@pytest.mark.parametrize("arguments", [["--version"], ["version"]])
def test_version_names_what_a_report_of_a_fault_needs(arguments: list[str]) -> None:
    run = run_command(*arguments)
    assert (run.returncode, run.stderr) == (0, "")
    first, second, third, fourth = run.stdout.splitlines()
    assert first.startswith(f"eastgate {version('eastgate')}")
    assert second.startswith(
        f"Python {platform.python_version()}, uvloop {version('uvloop')}, grpcio {version('grpcio')}; "
    )
    assert re.fullmatch(r"OpenSSL 3\.\d+\.\d+ .* \(/.*/libssl[^/]*\.so\.3\)", third)
    assert fourth == "native modules: relro, bind-now"


def test_a_library_of_ours_is_protected_and_one_linked_without_is_not(tmp_path: Path) -> None:
    spec = find_spec(NATIVE)
    assert spec is not None
    assert spec.origin is not None
    assert hardening(Path(spec.origin).read_bytes()) == ("relro", "bind-now")
    compiler = shutil.which("cc")
    assert compiler is not None
    bare = tmp_path / "bare.so"
    command = [compiler, "-shared", "-nostdlib", "-Wl,-z,norelro,-z,lazy", "-x", "c", "-o", str(bare), "-"]
    subprocess.run(command, input="int x;", text=True, check=True)
    assert hardening(bare.read_bytes()) == ()


@given(st.binary(max_size=200))
def test_what_is_no_library_is_not_protected(data: bytes) -> None:
    assert hardening(data) == ()
    hardening(build_info._MAGIC + data)
