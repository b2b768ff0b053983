"""Who may import whom. ARCHITECTURE.md says why; this is the rule itself."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("fastpath", "xds", "mesh", "insight", "proxy")
MAY_IMPORT = {
    "fastpath": {"fastpath"},
    "xds": {"xds"},
    "mesh": {"mesh", "xds"},
    "insight": {"insight", "xds", "fastpath"},
    "proxy": set(PACKAGES),
}
# Inside proxy/ a module imports from later lines only.
PROXY_LAYERS = (
    {"__main__"},
    {"cli"},
    {"compare_envoy", "diff", "doctor", "mesh_run", "mesh_serve", "record", "replay_serve"},
    {"app"},
    {"replay"},
    {"endpoints", "explain"},
    {"compare_model", "dump_source", "trial", "mesh_report"},
    {"mesh_client", "child", "workload"},
    {"admin"},
    {"config_dump"},
    {"rendering"},
    {"message_json"},
    {"dumps", "drain", "ledger_page", "ejections", "last_good", "recorder"},
    {"listeners", "publisher", "dns_clusters"},
    {"compiler", "health_checks"},
    {"slow_start"},
    {"endpoint_flags", "health_probes", "health_state", "subsets"},
    {"endpoint_health", "grpc_probe"},
    {"refusals"},
    {"status"},
    {"access_log", "http_server", "settings"},
    {"bootstrap", "journal", "line_writer", "state_file"},
    {
        "answers",
        "certs",
        "check_outcome",
        "cpus",
        "envoy_process",
        "errors",
        "frames",
        "log",
        "name_resolver",
        "slices",
        "stats",
    },
    {"outlier"},
)
LAYER_OF = {module: layer for layer, modules in enumerate(PROXY_LAYERS) for module in modules}
# Costs half a second and 52 MB: dumps, tests and the embedded control plane only.
HEAVY = {"envoy_data_plane", "betterproto2", "pydantic"}
TOOLS = {"__init__", "__main__", "generate_schema"}
# The embedded control plane and its trials: commands of their own, which encode messages.
TRIALS = {
    "answers",
    "compare_envoy",
    "compare_model",
    "mesh_run",
    "mesh_serve",
    "mesh_client",
    "replay_serve",
    "trial",
    "workload",
}

FROM = re.compile(r"^\s*from\s+([\w.]+)\s+c?import\s+\(?\s*([\w, ]*)", re.MULTILINE)
PLAIN = re.compile(r"^\s*c?import\s+([\w., ]+)", re.MULTILINE)


def names_in_python(text: str) -> Iterator[str]:
    """Dotted names that Python source imports; relative ones keep their dots."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            yield base
            yield from (f"{base.removesuffix('.')}.{alias.name}" for alias in node.names)


def names_in_cython(text: str) -> Iterator[str]:
    """The same for Cython source, cimports included."""
    for base, names in FROM.findall(text):
        yield base
        yield from (f"{base.removesuffix('.')}.{name.strip()}" for name in names.split(",") if name.strip())
    for names in PLAIN.findall(text):
        yield from (name.split(" as ")[0].strip() for name in names.split(","))


def imports(path: Path) -> set[str]:
    """Absolute dotted names that a file of ours imports, modules and what is taken from them."""
    text = path.read_text()
    names = names_in_cython(text) if path.suffix in {".pyx", ".pxd"} else names_in_python(text)
    return {f"eastgate.{path.parent.name}{name}" if name.startswith(".") else name for name in names}


def sources(package: str) -> list[Path]:
    return [path for path in sorted((ROOT / package).iterdir()) if path.suffix in {".py", ".pyi", ".pyx", ".pxd"}]


def ours(name: str) -> str | None:
    """The folder that an imported name of ours lies in."""
    parts = name.split(".")
    return parts[1] if parts[0] == "eastgate" and len(parts) > 1 else None


@pytest.mark.parametrize("package", PACKAGES)
def test_folder_imports_only_what_it_may(package):
    for path in sources(package):
        for name in imports(path):
            assert ours(name) in {None, *MAY_IMPORT[package]}, (
                f"{path.relative_to(ROOT)} imports {name}; {package}/ may import of ours:"
                f" {', '.join(sorted(MAY_IMPORT[package] - {package})) or 'nothing'}"
            )


@pytest.mark.parametrize("package", PACKAGES)
def test_folder_is_imported_by_its_full_name(package):
    for path in sources(package):
        for name in imports(path):
            assert name.split(".")[0] not in PACKAGES, f"{path.relative_to(ROOT)} imports {name} without eastgate."
            assert ".." not in name, f"{path.relative_to(ROOT)} imports {name} from above its folder"


@pytest.mark.parametrize("package", PACKAGES)
def test_nothing_of_tests_or_tools_is_imported(package):
    for path in sources(package):
        for name in imports(path):
            assert name.split(".")[0] not in {"tests", "bench", "lab", "pytest", "hypothesis"}, (
                f"{path.relative_to(ROOT)} imports {name}, which is not installed"
            )


def proxy_modules() -> list[str]:
    return [path.stem for path in sources("proxy") if path.suffix == ".py" and path.stem != "__init__"]


@pytest.mark.parametrize("module", proxy_modules())
def test_module_of_proxy_imports_downwards(module):
    assert module in LAYER_OF, f"proxy/{module}.py is new: give it its place in PROXY_LAYERS of {Path(__file__).name}"
    for name in imports(ROOT / "proxy" / f"{module}.py"):
        parts = name.split(".")
        if parts[:2] == ["eastgate", "proxy"] and len(parts) > 2 and parts[2] in proxy_modules():
            assert LAYER_OF.get(parts[2], -1) > LAYER_OF[module], f"proxy/{module}.py may not import {parts[2]}"


def test_imports_are_found():
    text = (
        "from eastgate.fastpath.reason cimport Reason\nfrom eastgate.fastpath.posix cimport (\n    close,\n)\n"
        "cimport cython\nimport os, re as regex\nfrom . import chains\nfrom .reason import LABELS\n"
    )
    found = set(names_in_cython(text))
    assert {"eastgate.fastpath.reason", "eastgate.fastpath.reason.Reason", "eastgate.fastpath.posix"} <= found
    assert {"cython", "os", "re", ".", ".chains", ".reason"} <= found
    python = "import a.b as c\nfrom d import e\nfrom . import f\nfrom .g import h\ndef late():\n    from i import j\n"
    assert {"a.b", "d", "d.e", ".f", ".g", ".g.h", "i.j"} <= set(names_in_python(python))


@pytest.mark.parametrize("package", PACKAGES)
def test_folder_under_its_bare_name_is_refused(package):
    """Two copies of one module make two classes of one name, and isinstance false."""
    run = subprocess.run(
        [sys.executable, "-c", f"import {package}"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.returncode == 1
    assert run.stderr.splitlines()[-1].startswith(f"ImportError: import this package as eastgate.{package}")


def test_running_proxy_imports_no_message_classes():
    paths = [path for path in (*sources("proxy"), *sources("xds")) if path.suffix in {".py", ".pyx"}]
    modules = [f"eastgate.{path.parent.name}.{path.stem}" for path in paths if path.stem not in TOOLS | TRIALS]
    probe = (
        "import importlib, sys\n"
        f"for name in {modules}:\n    importlib.import_module(name)\n"
        f"print(*sorted({HEAVY} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-P", "-c", probe], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []
