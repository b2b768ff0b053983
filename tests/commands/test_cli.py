"""The command line as people meet it first: help, light start, missing packages, output that goes nowhere."""

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import click
import pytest
from eastgate.commands import cli, mesh

from ..support import dumps
from ..support.gateway_process import EASTGATE, run_command

DUMPS = [f"--dump={dumps.ENVOY / 'anthos-sidecar' / name}.json" for name in ("config_dump", "clusters")]
ECHO = "outbound|80||echo-tcp.default.svc.cluster.local"
TABLES = {"": cli.ENTRIES, "mesh": mesh.ENTRIES}
INSTALL = Path(__file__).parents[2] / "docs/install.md"
# Extras of the distribution, and what a machine without them does not have.
EXTRAS = ("envoy_data_plane", "betterproto2", "pydantic", "cryptography")


def commands() -> Iterator[tuple[str, click.Command]]:
    """Each command by what one types."""
    for group, entries in TABLES.items():
        for name, entry in entries.items():
            yield f"{group} {name}".strip(), import_module(f"eastgate.commands.{entry.module}").command


COMMANDS = dict(commands())


def imported(*arguments: str, without: tuple[str, ...] = ()) -> tuple[int, list[str], list[str]]:
    """(exit code, modules that were imported, lines on stderr) of a run of the command line."""
    code = (
        f"import json, sys\nsys.modules.update(dict.fromkeys({without!r}))\n"
        "from eastgate.commands import cli\n"
        f"sys.argv = ['eastgate', *{list(arguments)!r}]\n"
        "code = 0\n"
        "try:\n    cli.main()\n"
        "except SystemExit as end:\n    code = end.code or 0\n"
        "print(json.dumps([code, sorted(sys.modules)]), file=sys.__stderr__)\n"
    )
    run = subprocess.run(
        [sys.executable, "-P", "-c", code],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=True,
    )
    *lines, last = run.stderr.splitlines()
    ended, modules = json.loads(last)
    return ended, modules, lines


def test_list_of_commands_is_whole() -> None:
    run = run_command("--help", COLUMNS="80")
    assert run.returncode == 0
    text = " ".join(run.stdout.split())
    for name, entry in cli.ENTRIES.items():
        assert f" {name} {entry.summary}" in text


def test_each_command_is_there_and_says_what_its_summary_says() -> None:
    for group, entries in TABLES.items():
        for name, entry in entries.items():
            command = COMMANDS[f"{group} {name}".strip()]
            assert command.help, name
            assert entry.summary.endswith("."), name


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_no_noise(name: str) -> None:
    command = COMMANDS[name]
    text = " ".join(command.get_help(click.Context(command, info_name=name, **cli.CONTEXT)).split())  # type: ignore[arg-type]
    assert '""' not in text
    assert "..." not in text.replace("[ARGS]...", "")
    # One bracket and one default for each option.
    for option in re.split(r" (?=--[a-z])", text):
        assert option.count("default: ") <= 1, option
    for option in command.params:
        if isinstance(option, click.Option):
            assert option.help, option.name


LIGHT = {
    "--help": set(),
    "endpoints --help": {"eastgate.commands.asked", "eastgate.commands.endpoints"},
    "gateway --help": {"eastgate.commands.gateway"},
    "mesh serve --help": {"eastgate.commands.mesh", "eastgate.commands.mesh_serve"},
}
GROUND = {
    *("eastgate.commands", "eastgate.commands.cli", "eastgate.commands.lazy", "eastgate.commands.options"),
    *("eastgate.commands.output", "eastgate.insight", "eastgate.insight.errors", "eastgate.mesh"),
    *("eastgate.mesh.errors", "eastgate.proxy", "eastgate.proxy.errors", "eastgate.proxy.given"),
    *("eastgate.proxy.setting", "eastgate.xds", "eastgate.xds.record"),
}


@pytest.mark.parametrize("text", LIGHT)
def test_help_imports_its_command_and_nothing_that_it_uses(text: str) -> None:
    code, modules, _ = imported(*text.split())
    assert code == 0
    assert {one for one in modules if one.startswith("eastgate.")} == GROUND | LIGHT[text]
    assert not {"grpc", "rich", "uvloop", "asyncio", "yaml", "logging"} & set(modules)


def test_a_table_of_endpoints_needs_no_gateway() -> None:
    code, modules, _ = imported("endpoints", *DUMPS)
    assert code == 0
    for heavy in ("grpc", "uvloop", "asyncio", "rich", "eastgate.proxy.app", "eastgate.proxy.settings"):
        assert heavy not in modules


def test_a_gateway_loads_no_page_and_no_file_that_nobody_has_asked_for() -> None:
    code = "import sys, eastgate.proxy.app\nprint(*sys.modules)"
    run = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=60, check=True)
    loaded = set(run.stdout.split())
    asked = ("admin.config_dump", "admin.ledger_page", "disk.recorder", "disk.journal")
    assert not {f"eastgate.proxy.{one}" for one in asked} & loaded
    # Of what explains a configuration, the words of its documents alone, and what remembers earlier ones.
    explaining = {one.removeprefix("eastgate.insight.") for one in loaded if one.startswith("eastgate.insight.")}
    assert explaining == {"dump_fields", "moments"}
    assert not {one for one in loaded if one.startswith(("eastgate.mesh", "eastgate.trial", "eastgate.commands"))}
    # Commands, libraries of tables, and what only makes messages.
    assert not {"click", "rich", "envoy_data_plane", "pydantic", "platform", "eastgate.mesh"} & loaded


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["doctr"], "eastgate has no command 'doctr'; there are demo, gateway, "),
        (["mesh", "check"], "eastgate mesh has no command 'check'; there are serve, endpoints, "),
    ],
)
def test_an_unknown_command_is_answered_with_those_that_there_are(arguments: list[str], said: str) -> None:
    run = run_command(*arguments)
    assert run.returncode == 2
    assert run.stderr.startswith(f"eastgate: {said}")


def test_the_page_says_which_extra_each_command_needs() -> None:
    rows = re.findall(r"^\| `?(none|tls|mesh)`? \| (.*?) \|", INSTALL.read_text(), re.MULTILINE)
    told = {extra: set(re.findall(r"`([a-z-]+)[^`]*`", text)) for extra, text in rows}
    for name, entry in cli.ENTRIES.items():
        assert name in told[entry.extra or "none"], f"{name} needs {entry.extra or 'none'}"


NEEDING = [
    ["demo"],
    ["mesh", "run", "x.yaml"],
    ["mesh", "serve", "x.yaml"],
    ["compare-envoy", "x.yaml"],
    ["replay", "journal", "--serve", "127.0.0.1:0"],
]


@pytest.mark.parametrize("arguments", NEEDING, ids=" ".join)
def test_a_command_without_its_extra_says_which(arguments: list[str]) -> None:
    code, _, lines = imported(*arguments, without=EXTRAS)
    (line,) = lines
    assert code == 2
    assert line.startswith("eastgate: eastgate ")
    assert "is missing: pip install 'eastgate[mesh]'" in line


@pytest.mark.parametrize("arguments", [["endpoints", *DUMPS], ["explain", ECHO, *DUMPS], ["doctor", *DUMPS]])
def test_reading_dumps_needs_no_extra(arguments: list[str]) -> None:
    assert imported(*arguments, without=EXTRAS)[0] in (0, 1)


PRINTING = [
    ["--help"],
    ["--version"],
    ["endpoints", *DUMPS],
    ["endpoints", "--json", *DUMPS],
    ["explain", ECHO, *DUMPS],
    ["explain", ECHO, "--json", *DUMPS],
    ["doctor", *DUMPS],
    ["gateway", "--help"],
]


def printed_to(target: str, arguments: list[str]) -> subprocess.CompletedProcess[str]:
    command = ["sh", "-c", f'exec "$@" {target}', "sh", EASTGATE, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(("target", "cause"), [(">/dev/full", "No space left on device"), (">&-", "it is closed")])
@pytest.mark.parametrize("arguments", PRINTING, ids=lambda one: " ".join(one[:3]).replace("/", "_"))
def test_output_that_is_not_taken_is_one_line(arguments: list[str], target: str, cause: str) -> None:
    run = printed_to(target, arguments)
    assert run.stderr.splitlines() == [f"eastgate: standard output: {cause}"]
    assert run.returncode == 1


def test_who_reads_only_the_first_line_hears_nothing() -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        run = subprocess.run(
            [EASTGATE, "endpoints", *DUMPS], stdout=write, stderr=subprocess.PIPE, text=True, timeout=60, check=False
        )
    finally:
        os.close(write)
    assert (run.returncode, run.stderr) == (1, "")


def test_a_name_that_the_terminal_cannot_show_is_escaped(tmp_path: Path) -> None:
    name = "cluster-\N{HIRAGANA LETTER A}"
    entries = dumps.locality("tokyo", dumps.places(2))
    document = dumps.config_dump([dumps.cluster(name)], [dumps.assignment(entries, name=name)])
    run = run_command("endpoints", "--dump", dumps.write(tmp_path, document), PYTHONIOENCODING="latin-1")
    assert (run.returncode, run.stderr) == (0, "")
    assert "cluster-\\u3042" in run.stdout


def test_a_name_in_an_error_forges_no_second_line() -> None:
    run = run_command("explain", "x\nforged", *DUMPS)
    assert run.returncode == 2
    assert len(run.stderr.splitlines()) == 1
    assert "x\\nforged" in run.stderr


def test_errors_name_the_variable_that_a_value_came_from() -> None:
    run = run_command("endpoints", EASTGATE_ADMIN="http://127.0.0.1:abc")
    assert run.returncode == 2
    (line,) = run.stderr.splitlines()
    assert line.startswith("eastgate: EASTGATE_ADMIN: 'http://127.0.0.1:abc': no address: Port could not be cast")


def test_a_port_in_use_is_one_line_with_the_cause(tmp_path: Path) -> None:
    """gRPC's core writes nothing of its own beside it."""
    path = tmp_path / "mesh.yaml"
    path.write_text("kind: Mesh\nclusters:\n  a:\n    network: n\n")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        run = run_command("mesh", "serve", str(path), "--listen", address)
        assert run.stderr.splitlines() == [f"eastgate: --listen '{address}': Address already in use"]
        assert run.returncode == 2
        run = run_command("mesh", "serve", str(path), EASTGATE_LISTEN=address)
        assert run.stderr.splitlines() == [f"eastgate: EASTGATE_LISTEN '{address}': Address already in use"]


@pytest.mark.parametrize("listen", ["15010", "127.0.0.1:http", "::1:15010", "127.0.0.1:99999"])
def test_an_address_to_listen_on_is_checked(listen: str) -> None:
    run = run_command("mesh", "serve", "x.yaml", "--listen", listen)
    (line,) = run.stderr.splitlines()
    assert run.returncode == 2
    assert line.startswith(f"eastgate: --listen '{listen}': ")


def test_modules_load_without_garbage_collections_between_them() -> None:
    code = "import gc\nfrom eastgate.commands.lazy import loading\n"
    code += "with loading():\n    print(gc.isenabled())\nprint(gc.isenabled(), gc.get_freeze_count() > 1000)\n"
    code += "try:\n    with loading():\n        raise OSError\nexcept OSError:\n    print(gc.isenabled())\n"
    run = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["False", "True", "True", "True"]
