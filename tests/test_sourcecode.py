"""Rules of style that a program can check."""

import importlib
import inspect
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("fastpath", "xds", "mesh", "insight", "proxy", "trial", "commands")
CYTHON = sorted(path for package in ("fastpath", "xds") for path in (ROOT / package).rglob("*.p[yx][xd]"))
MODULES = [path for path in CYTHON if path.suffix == ".pyx"]
TEXT = [
    path
    for folder in (*PACKAGES, "tests", "bench", "docs", "deploy", "lab")
    for path in sorted((ROOT / folder).rglob("*"))
    if path.suffix in {".py", ".pyi", ".pyx", ".pxd", ".md", ".yaml", ".yml", ".sh"} and path != Path(__file__)
]

# Decorators, name and body.
NATIVE_CLASS = re.compile(r"((?:^@[\w.()]+\n)*)^cdef class (\w+)[^\n]*:\n((?:(?:    [^\n]*)?\n)+)", re.MULTILINE)


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_nothing_is_put_off_without_an_issue():
    unfinished = re.compile(r"\b(TODO(?!\(#\d+\))|FIXME|XXX|HACK)\b")
    assert [named(path) for path in TEXT if unfinished.search(path.read_text())] == []


def test_dataclasses_that_a_proxy_loads_are_records():
    """They are compiled when they are needed: `xds/record.py` says what that is worth."""
    loaded = [
        path for package in ("xds", "fastpath", "insight", "proxy") for path in sorted((ROOT / package).rglob("*.py"))
    ]
    assert [named(path) for path in loaded if "@dataclass" in path.read_text()] == ["xds/record.py"]


def test_every_python_file_says_what_it_is_for():
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py*")):
            if path.suffix in {".py", ".pyx"}:
                assert path.read_text().startswith('"""'), f"{named(path)} begins without a docstring"


@pytest.mark.parametrize("path", CYTHON, ids=named)
def test_cython_is_not_glued_with_include(path):
    assert not re.search(r"^\s*include\s+[\"']", path.read_text(), re.MULTILINE)


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_native_class_is_final_and_refuses_pickling(path):
    for decorators, name, body in NATIVE_CLASS.findall(path.read_text()):
        assert "@cython.final" in decorators, f"{named(path)}: {name} is not @cython.final"
        # What is internal has no name to Python.
        if "@cython.internal" not in decorators:
            assert "__reduce__" in body or "auto_pickle(False)" in decorators, f"{named(path)}: {name} can be pickled"


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_native_module_with_a_python_surface_has_a_stub(path):
    module = importlib.import_module(".".join(("eastgate", *path.relative_to(ROOT).with_suffix("").parts)))
    surface = [name for name in vars(module) if not name.startswith("_") and not inspect.ismodule(vars(module)[name])]
    assert path.with_suffix(".pyi").exists() or not surface, f"{named(path)} offers {surface}"


@pytest.mark.parametrize("package", PACKAGES)
def test_folder_is_typed_and_guards_its_name(package):
    assert (ROOT / package / "py.typed").exists()
    guard = f'if __name__ != "eastgate.{package}":\n    raise ImportError('
    assert guard in (ROOT / package / "__init__.py").read_text()
