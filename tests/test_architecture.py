"""Who may import whom. ARCHITECTURE.md says why; this is the rule itself."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("fastpath", "xds", "mesh", "insight", "proxy", "trial", "commands")
MAY_IMPORT = {
    "fastpath": {"fastpath"},
    "xds": {"xds"},
    "mesh": {"mesh", "xds"},
    "insight": {"insight", "xds", "fastpath"},
    "proxy": {"proxy", "insight", "mesh", "fastpath", "xds"},
    "trial": {"trial", "proxy", "insight", "mesh", "fastpath", "xds"},
    "commands": set(PACKAGES),
}
# Above the data side a module imports from later lines only.
LAYERS = (
    {"commands.__main__"},
    {"commands.entry"},
    {"commands.cli"},
    {
        "commands.bench",
        "commands.bench_selection",
        "commands.compare_envoy",
        "commands.demo",
        "commands.diff",
        "commands.doctor",
        "commands.endpoints",
        "commands.envoy",
        "commands.events",
        "commands.explain",
        "commands.gateway",
        "commands.ledger",
        "commands.mesh",
        "commands.mesh_diff",
        "commands.mesh_endpoints",
        "commands.mesh_import",
        "commands.mesh_run",
        "commands.mesh_serve",
        "commands.page",
        "commands.probe",
        "commands.record",
        "commands.replay",
        "commands.sidecar",
        "commands.version",
    },
    {"commands.asked"},
    {"commands.lazy", "commands.options", "commands.output", "commands.progress"},
    {"trial.compare_report", "trial.prediction", "trial.scenario_run"},
    {"trial.alike", "trial.compare_sidecar", "trial.outcomes", "trial.routed"},
    {"trial.changed"},
    {"trial.compare"},
    {"trial.story"},
    {"trial.compare_model", "trial.trial", "trial.report"},
    {"trial.bare_ends", "trial.sidecar_ends"},
    {"trial.client", "trial.echo_processes", "trial.http_client"},
    {"trial.ends", "trial.loopback", "trial.proxy_process"},
    {"trial.answers", "trial.child", "trial.envoy_process", "trial.stand_ins", "trial.workload"},
)
LAYERED = ("commands", "trial")
# In fastpath/ the loop knows both other rooms, and those know what lies beside them alone.
FASTPATH_ROOMS = {
    "loop": {"match", "tables", "tls"},
    "match": {"tls"},
    "tables": {"tls"},
    "tls": set(),
}
# In fastpath/loop/ a module knows only those before it.
LOOP_ORDER = (
    "addresses",
    "tls_session",
    "leg",
    "remembered",
    "connection",
    "waiting_list",
    "handshake_queue",
    "worker_state",
    "charges",
    "connection_record",
    "closing",
    "endpoint_limit",
    "upstream",
    "handshakes",
    "review",
    "relay_phase",
    "sniff",
    "journey",
    "acceptor",
    "worker",
    "worker_totals",
    "engine",
)
# What the control side hands over, which either side may know: endpoints, and the form of all specs.
CONTRACT = "eastgate.xds.columns"
FORM = "eastgate.xds.record"
HANDED_OVER = {
    ("fastpath/tables/endpoints.py", CONTRACT),
    ("fastpath/match/chains.py", FORM),
    ("fastpath/match/http_specs.py", FORM),
    ("fastpath/tls/context_spec.py", FORM),
}
LAYER_OF = {module: layer for layer, modules in enumerate(LAYERS) for module in modules}
# Costs half a second and 52 MB: dumps, tests and the embedded control plane only.
HEAVY = {"envoy_data_plane", "betterproto2", "pydantic"}
TOOLS = {"__init__", "__main__", "generate_schema"}
# Be a control plane, and encode messages.
ENCODING = {"proxy.replay_server"}

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
    folder = ".".join(("eastgate", *path.parent.relative_to(ROOT).parts))
    return {f"{folder}{name}" if name.startswith(".") else name for name in names}


def sources(package: str) -> list[Path]:
    return [path for path in sorted((ROOT / package).rglob("*")) if path.suffix in {".py", ".pyi", ".pyx", ".pxd"}]


def dotted(path: Path) -> str:
    """The name of a module of ours, without `eastgate.`."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def ours(name: str) -> str | None:
    """The folder that an imported name of ours lies in."""
    parts = name.split(".")
    return parts[1] if parts[0] == "eastgate" and len(parts) > 1 else None


@pytest.mark.parametrize("package", PACKAGES)
def test_folder_imports_only_what_it_may(package):
    for path in sources(package):
        for name in imports(path):
            if (str(path.relative_to(ROOT)), ".".join(name.split(".")[:3])) in HANDED_OVER:
                continue
            assert ours(name) in {None, *MAY_IMPORT[package]}, (
                f"{path.relative_to(ROOT)} imports {name}; {package}/ may import of ours:"
                f" {', '.join(sorted(MAY_IMPORT[package] - {package})) or 'nothing'}"
            )


def test_one_module_knows_the_bytes_of_columns():
    """Everybody else asks Columns."""
    packing = re.compile(r"byteorder|\bto_bytes\(4, \"little|from_bytes\([^)]*, \"little|array\(\"[HI]\"")
    knows = {path for package in ("proxy", "insight", "xds", "fastpath") for path in sources(package)}
    found = {dotted(path) for path in knows if path.suffix == ".py" and packing.search(path.read_text())}
    assert found - {"proxy.admin.launcher", "proxy.settings", "xds.socket_options"} == {
        CONTRACT.removeprefix("eastgate.")
    }


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


def layered_modules() -> list[str]:
    paths = [path for package in LAYERED for path in sources(package)]
    return [dotted(path) for path in paths if path.suffix == ".py" and path.stem != "__init__"]


@pytest.mark.parametrize("module", layered_modules())
def test_module_imports_downwards(module):
    path = f"{module.replace('.', '/')}.py"
    assert module in LAYER_OF, f"{path} is new: give it its place in LAYERS of {Path(__file__).name}"
    for name in imports(ROOT / path):
        imported = name.removeprefix("eastgate.")
        if imported in LAYER_OF:
            assert LAYER_OF[imported] > LAYER_OF[module], f"{path} may not import {imported}"


def test_layers_name_no_module_that_is_gone():
    assert LAYER_OF.keys() == set(layered_modules())


def rooms_of_proxy() -> tuple[dict[str, set[str]], set[str]]:
    """What each room of proxy/ may import, by the table of ARCHITECTURE.md; and the modules of its ground."""
    rooms: dict[str, set[str]] = {}
    ground: set[str] = set()
    for line in (ROOT / "ARCHITECTURE.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if len(cells) != 3:
            continue
        if room := re.fullmatch(r"`proxy/(\w+)/`", cells[0]):
            rooms[room[1]] = {*re.findall(r"`(\w+)`", cells[2].replace("ground of `proxy`", "`ground`"))}
        elif cells[0] == "ground of `proxy/`":
            ground = {*re.findall(r"`(\w+)`", cells[1])}
            rooms["ground"] = {*re.findall(r"`(\w+)`", cells[2])}
    return rooms, ground


PROXY_ROOMS, PROXY_GROUND = rooms_of_proxy()


def room_of(module: str) -> str:
    """The room of a dotted name below proxy: one of its folders, ground, or nothing for proxy/ itself."""
    first, _, _ = module.removeprefix("proxy.").partition(".")
    if first in PROXY_ROOMS:
        return first
    return "ground" if first in PROXY_GROUND else ""


def test_table_of_rooms_is_that_of_the_tree():
    folders = {path.name for path in (ROOT / "proxy").iterdir() if (path / "__init__.py").exists()}
    assert PROXY_ROOMS.keys() == {"ground", *folders}
    assert {path.stem for path in (ROOT / "proxy").glob("*.py")} > PROXY_GROUND


def proxy_modules() -> dict[str, set[str]]:
    """Modules of proxy/ and which of them each imports."""
    names = {dotted(path): path for path in sources("proxy") if path.suffix == ".py" and path.stem != "__init__"}
    return {
        module: {name for one in imports(path) if (name := one.removeprefix("eastgate.")) in names} - {module}
        for module, path in names.items()
    }


@pytest.mark.parametrize("room", PROXY_ROOMS)
def test_room_of_proxy_imports_only_what_it_may(room):
    may = {room, *PROXY_ROOMS[room]}
    for module, known in proxy_modules().items():
        if room_of(module) != room:
            continue
        for name in known:
            assert room_of(name) in may, f"{module} of {room} may not import {name}"
        for name in imports(ROOT / f"{module.replace('.', '/')}.py"):
            assert ours(name) in {None, "proxy", *may}, f"{module} of {room} may not import {name}"


def test_modules_of_proxy_import_in_no_circle():
    order = tuple(TopologicalSorter(proxy_modules()).static_order())
    assert "proxy.app" in order


@pytest.mark.parametrize("room", FASTPATH_ROOMS)
def test_room_of_fastpath_imports_only_what_it_may(room):
    for path in sources(f"fastpath/{room}"):
        for name in imports(path):
            parts = name.split(".")
            if parts[:2] == ["eastgate", "fastpath"] and len(parts) > 2 and parts[2] in FASTPATH_ROOMS:
                assert parts[2] in {room, *FASTPATH_ROOMS[room]}, f"{path.relative_to(ROOT)} may not import {name}"


@pytest.mark.parametrize("module", LOOP_ORDER)
def test_module_of_the_loop_imports_only_those_before_it(module):
    prefix = "eastgate.fastpath.loop."
    place = LOOP_ORDER.index(module)
    paths = [ROOT / f"fastpath/loop/{module}{suffix}" for suffix in (".pyx", ".pxd")]
    for name in {name for path in paths if path.exists() for name in imports(path)}:
        imported = name.removeprefix(prefix).split(".")[0]
        if name.startswith(prefix) and imported in LOOP_ORDER:
            assert LOOP_ORDER.index(imported) <= place, f"fastpath/loop/{module} may not import {imported}"


def test_only_legs_and_listening_sockets_of_the_loop_know_a_descriptor():
    """Relay and phases speak to legs."""
    kernel = re.compile(r"\b(?:down|up|leg|origin|target)\.fd\b|\b(?:recv|send|shutdown|splice|epoll_ctl)\(")
    for module in (*LOOP_ORDER[LOOP_ORDER.index("charges") : LOOP_ORDER.index("journey")], "relay"):
        assert not kernel.search((ROOT / f"fastpath/loop/{module}.pyx").read_text()), module


def test_ground_of_fastpath_imports_no_room():
    for path in sources("fastpath"):
        # The package itself names what Python callers may import from it, and loads it when they do.
        if path.parent.name == "fastpath" and path.name != "__init__.py":
            for name in imports(path):
                assert not set(name.split(".")) & set(FASTPATH_ROOMS), f"{path.relative_to(ROOT)} imports {name}"


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


def test_proxy_starts_processes_by_its_launcher_alone():
    """A child holds copies of all descriptors until it is another program: docs/adr/0009-launcher.md."""
    ways = re.compile(
        r"\b(subprocess\.(?!TimeoutExpired)\w+|create_subprocess_\w+|fork(pty)?|posix_spawnp?|popen|system)\("
    )
    users = {
        dotted(path)
        for package in ("fastpath", "insight", "proxy", "xds")
        for path in sources(package)
        if ways.search(path.read_text())
    }
    # kubectl is run by commands, which hold no connections: nothing of the proxy leads there.
    assert users == {"proxy.admin.launcher", "proxy.admin.rendering", "insight.kubectl", "insight.pod_socket"}
    proxy = [path.read_text() for path in sources("proxy")]
    assert not [text for text in proxy if re.search(r"insight\.(kubectl|pod_socket|pods|mesh_walk)", text)]


def test_running_proxy_imports_no_message_classes():
    every = [path for package in ("commands", "proxy", "xds") for path in sources(package)]
    paths = [path for path in every if path.suffix in {".py", ".pyx"} and dotted(path) not in ENCODING]
    modules = [f"eastgate.{dotted(path)}" for path in paths if path.stem not in TOOLS]
    probe = (
        "import importlib, sys\n"
        f"for name in {modules}:\n    importlib.import_module(name)\n"
        f"print(*sorted({HEAVY} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-P", "-c", probe], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []


def test_change_map_names_real_places():
    text = (ROOT / "ARCHITECTURE.md").read_text()
    places = re.findall(r"`((?:commands|trial|proxy|insight|mesh|fastpath|xds|tests|docs)/[\w/.-]+\.\w+)`", text)
    assert len(places) > 20
    assert [place for place in places if not (ROOT / place).exists()] == []


LONGEST_FILE = 500
LONGEST_FUNCTION = 60
# Nobody reads it.
GENERATED = {"xds/schema.py"}
CYTHON_FUNCTION = re.compile(r"^( *)(?:cpdef|cdef|def)\b(?!.*\bclass\b)[^=\n(]*?(\w+)\(", re.MULTILINE)


def code_lines(lines: list[str]) -> int:
    return len("\n".join(lines).rstrip().splitlines())


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """Name and length of each function; of Cython by indentation, for no parser of ours reads it."""
    text = path.read_text()
    if path.suffix == ".py":
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                yield node.name, (node.end_lineno or 0) - node.lineno + 1
        return
    lines = text.splitlines()
    for found in CYTHON_FUNCTION.finditer(text):
        first = text.count("\n", 0, found.start())
        depth = len(found[1])
        header = first
        # Arguments may stand on lines of their own: the body begins behind the line that ends with a colon.
        while header + 1 < len(lines) and not lines[header].endswith(":"):
            header += 1
        end = header + 1
        while end < len(lines) and (not lines[end].strip() or len(lines[end]) - len(lines[end].lstrip()) > depth):
            end += 1
        yield found[2], code_lines(lines[first:end])


def test_files_are_short_enough_to_be_read():
    every = [path for package in PACKAGES for path in sources(package)]
    sizes = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in every}
    long = {name: lines for name, lines in sizes.items() if lines > LONGEST_FILE}
    assert long.keys() == GENERATED, f"longer than {LONGEST_FILE} lines: split it by what it is responsible for: {long}"


def test_functions_are_short_enough_to_be_read():
    paths = [path for package in PACKAGES for path in sources(package) if path.suffix in {".py", ".pyx"}]
    found = [(path, name, lines) for path in paths for name, lines in functions(path)]
    assert sum(path.suffix == ".pyx" for path, _, _ in found) > 500
    long = {f"{path.relative_to(ROOT)} {name}": lines for path, name, lines in found if lines > LONGEST_FUNCTION}
    assert not long, f"longer than {LONGEST_FUNCTION} lines: {long}"


def test_change_map_names_what_stands_in_these_places():
    """A stranger looks for `name` of `file`."""
    text = (ROOT / "ARCHITECTURE.md").read_text()
    named = re.findall(r"`([\w.]+)` of `([\w/]+\.(?:py|pyx|pxd))`", text)
    named += [("ENTRIES", "commands/cli.py"), ("RULES", "insight/findings.py"), ("PROXY_RULES", "insight/doctor.py")]
    assert len(named) > 7
    for name, place in named:
        assert re.search(rf"\b{name.rpartition('.')[2]}\b", (ROOT / place).read_text()), f"no {name} in {place}"
    assert all(f"`{name}`" in text for name in ("ENTRIES", "RULES", "PROXY_RULES"))
