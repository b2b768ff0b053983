"""What every native module is linked with, so that a fault in one is harder to use. Flags stand in setup.py."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted(path for folder in ("fastpath", "xds") for path in (ROOT / folder).rglob("*.pyx"))


def printed(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def built(source: Path) -> Path:
    """The library that was built from a source; one of an older name may lie beside it."""
    [library] = source.parent.glob(f"{source.stem}.*.so")
    return library


def weaknesses(library: Path) -> set[str]:
    """What an attacker would like about a shared object."""
    segments = printed("readelf", "--wide", "--program-headers", str(library)).splitlines()
    dynamic = printed("readelf", "--wide", "--dynamic", str(library))
    symbols = printed("readelf", "--wide", "--dyn-syms", str(library))
    stack = [line.split() for line in segments if "GNU_STACK" in line]
    found = {
        "stack may be executable": [words[6] for words in stack] != ["RW"],
        "tables of functions stay writable": not any("GNU_RELRO" in line for line in segments),
        "functions are bound late": "BIND_NOW" not in dynamic,
        "looks for libraries in a place of its own": "(RPATH)" in dynamic or "(RUNPATH)" in dynamic,
        "stack is not protected": "__stack_chk_fail" not in symbols,
        "relocates its text": "TEXTREL" in dynamic,
    }
    return {name for name, is_so in found.items() if is_so}


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_module_is_hardened(source: Path) -> None:
    assert weaknesses(built(source)) == set()


def test_copies_of_unknown_length_are_checked() -> None:
    """Where the compiler knows the destination only, fortified code calls a function that checks."""
    symbols = printed("readelf", "--wide", "--dyn-syms", str(built(ROOT / "fastpath/match/client_hello.pyx")))
    assert "__memcpy_chk" in symbols


def test_each_weakness_is_seen(tmp_path: Path) -> None:
    source, library = tmp_path / "weak.c", tmp_path / "weak.so"
    source.write_text("extern void fill(char *); int weak(void) { char room[64]; fill(room); return room[5]; }\n")
    flags = ("-fno-stack-protector", "-Wl,-z,lazy,-z,norelro,-z,execstack", f"-Wl,-rpath,{tmp_path}")
    subprocess.run([shutil.which("cc") or "gcc", "-shared", "-fPIC", *flags, "-o", library, source], check=True)
    assert len(weaknesses(library)) == 5
