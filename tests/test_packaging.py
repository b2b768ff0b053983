"""What the build says when it cannot, and what goes into the archives. `.ci/run` builds and installs all of it."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("fastpath", "xds", "mesh", "insight", "proxy", "trial", "commands")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The sources alone, so that a build leaves nothing in the checkout."""
    copy = tmp_path / "tree"
    ignored = shutil.ignore_patterns("*.so", "__pycache__")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, copy / package, ignore=ignored)
    for name in (
        "setup.py",
        "pyproject.toml",
        "MANIFEST.in",
        "LICENSE",
        "README.md",
        "CHANGELOG.md",
        "ARCHITECTURE.md",
    ):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, copy)
    return copy


def build(tree: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command],
        cwd=tree,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def complaint(tree: Path, **environment: str) -> str:
    """The one sentence that a failing build prints."""
    run = build(tree, "setup.py", "build_ext", "--inplace", **environment)
    assert run.returncode == 1
    assert run.stdout == ""
    [sentence] = run.stderr.splitlines()
    return sentence


def compiler_without(header: str, folder: Path) -> str:
    """A compiler that does not find `header`."""
    script = folder / "cc"
    script.write_text(
        f'#!/bin/sh\nfor a; do case $a in *.c) grep -q "{header}" "$a" && exit 1;; esac; done\nexec cc "$@"\n'
    )
    script.chmod(0o755)
    return str(script)


def test_missing_compiler_is_one_sentence(tree):
    sentence = complaint(tree, CC="/nonexistent/cc")
    assert sentence == (
        "eastgate: no C compiler: '/nonexistent/cc' is not on PATH (Debian: apt-get install gcc libc6-dev)"
    )


def test_compiler_of_several_words_is_run_whole(tree, tmp_path):
    # The compiler behind `env` is the one that lacks a header; env itself would find none missing.
    sentence = complaint(tree, CC=f"env '{compiler_without('Python.h', tmp_path)}'")
    assert sentence.startswith("eastgate: the C header <Python.h> is missing or unusable")


def test_compiler_behind_another_program_builds(tree):
    run = build(tree, "setup.py", "--quiet", "build_ext", "--inplace", CC="env cc", EASTGATE_ONLY="fastpath.reason")
    assert run.returncode == 0, run.stderr
    assert list((tree / "fastpath").glob("reason.*.so"))


def test_command_line_that_ends_in_a_quote_is_one_sentence(tree):
    assert complaint(tree, CC="cc '") == "eastgate: CC or CFLAGS is no command line: No closing quotation"


@pytest.mark.parametrize(
    ("header", "package"), [("Python.h", "python3-dev"), ("openssl/ssl.h", "libssl-dev"), ("stdio.h", "libc6-dev")]
)
def test_missing_header_is_one_sentence(tree, tmp_path, header, package):
    sentence = complaint(tree, CC=compiler_without(header, tmp_path))
    assert sentence == (f"eastgate: the C header <{header}> is missing or unusable (Debian: apt-get install {package})")


def test_compiler_without_include_paths_is_one_sentence(tree):
    assert complaint(tree, CFLAGS="-nostdinc").startswith("eastgate: the C header <stdio.h> is missing or unusable")


def test_unknown_variant_or_module_is_one_sentence(tree):
    assert complaint(tree, EASTGATE_BUILD="fast") == (
        "eastgate: EASTGATE_BUILD=fast is unknown; use one of release, debug, asan, tsan, fuzz"
    )
    assert complaint(tree, EASTGATE_ONLY="fastpath.reason,fastpath.none") == (
        "eastgate: EASTGATE_ONLY names no module of ours: fastpath.none"
    )


def test_sdist_holds_what_a_build_needs_and_needs_no_compiler(tree):
    run = build(tree, "setup.py", "--quiet", "sdist", "--dist-dir", "out", CC="/nonexistent/cc")
    assert run.returncode == 0, run.stderr
    [archive] = (tree / "out").iterdir()
    with tarfile.open(archive) as opened:
        held = {name.split("/", 1)[1] for name in opened.getnames() if "/" in name}
    sources = {
        str(path.relative_to(tree))
        for package in PACKAGES
        for path in (tree / package).rglob("*")
        if path.suffix in {".py", ".pyx", ".pxd", ".pyi"} or path.name == "py.typed"
    }
    assert sources <= held
    assert {"setup.py", "pyproject.toml", "LICENSE"} <= held
    assert not any(name.endswith((".so", ".c", ".pyc")) for name in held)


def test_wheel_installs_one_name(tree):
    run = build(
        tree,
        *("-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-build-isolation"),
        *("--wheel-dir", "out", "."),
        # One module stands for all: the others differ in nothing but their names.
        EASTGATE_ONLY="fastpath.reason",
    )
    assert run.returncode == 0, run.stderr
    [wheel] = (tree / "out").glob("*.whl")
    with zipfile.ZipFile(wheel) as opened:
        held = set(opened.namelist())
        [metadata] = {name.split("/")[0] for name in held if ".dist-info/" in name}
        assert opened.read(f"{metadata}/top_level.txt").decode().split() == ["eastgate"]
        assert b"eastgate = eastgate.commands.entry:main" in opened.read(f"{metadata}/entry_points.txt")
    assert {name.split("/")[0] for name in held} == {"eastgate", metadata}
    # A namespace: other distributions may lie beside it, and nothing runs on import of the root.
    assert "eastgate/__init__.py" not in held
    assert any(name.startswith("eastgate/fastpath/reason.") and name.endswith(".so") for name in held)
    for package in PACKAGES:
        rooms = {f"eastgate/{path.relative_to(tree)}" for path in (tree / package).rglob("__init__.py")}
        assert rooms | {f"eastgate/{package}/py.typed"} <= held
    # Stubs for type checkers, declarations for cimport; no sources that compile to what is there.
    assert {"eastgate/fastpath/reason.pyi", "eastgate/fastpath/reason.pxd"} <= held
    assert not any(name.endswith((".pyx", ".c")) for name in held)
