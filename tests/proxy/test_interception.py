"""The rules that send connections to a sidecar: taken by the real tools, and sending connections where they should."""

import re
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner
from eastgate.commands.sidecar import command
from eastgate.proxy.interception import NEVER_INBOUND, TOOLS, Tool, plan

from ..support.netns import missing

PAGE = Path(__file__).parents[2] / "docs/sidecar-alone.md"


def in_namespace(script: str, text: str) -> str:
    """Output of a shell script in a network namespace of its own; its stdin is `text`."""
    if reason := missing():
        pytest.fail(reason)
    run = subprocess.run(
        ["unshare", "--net", "sh", "-ec", script], input=text, capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.mark.parametrize("tool", ["iptables", "ip6tables"])
def test_iptables_takes_them_and_they_are_istios(tool: Tool) -> None:
    taken = in_namespace(f"{tool}-restore --noflush; {tool}-save -t nat", plan(tool))
    own = [line for line in taken.splitlines() if line.startswith("-A ISTIO_OUTPUT")]
    kinds = [
        "RETURN",
        "ISTIO_IN_REDIRECT",
        "RETURN",
        "RETURN",
        "ISTIO_IN_REDIRECT",
        "RETURN",
        "RETURN",
        "RETURN",
        "ISTIO_REDIRECT",
    ]
    assert [line.rpartition(" ")[2] for line in own] == kinds
    inbound = [line for line in taken.splitlines() if line.startswith("-A ISTIO_INBOUND") and "RETURN" in line]
    assert [int(line.split("--dport ")[1].split()[0]) for line in inbound] == [*NEVER_INBOUND]
    assert "--to-ports 15001" in taken
    assert "--to-ports 15006" in taken


def test_nft_takes_them() -> None:
    taken = in_namespace("nft -f -; nft list ruleset", plan("nft"))
    assert "table ip eastgate" in taken
    assert "table ip6 eastgate" in taken
    assert taken.count("redirect to :15006") == 6
    assert taken.count("redirect to :15001") == 2


def test_the_command_prints_them_and_needs_nothing_else() -> None:
    for tool in TOOLS:
        result = CliRunner().invoke(command, ["--print-iptables", tool])
        assert (result.exit_code, result.output) == (0, plan(tool))
    assert CliRunner().invoke(command, ["--print-iptables"]).output == plan("iptables")


REACH = """
import os, select, socket
def listening(host, port):
    return socket.create_server((host, port))
servers = [listening("127.0.0.1", 15001), listening("0.0.0.0", 15006), listening("0.0.0.0", 8080)]
def reached(to, user=0, source=None):
    # Whose a socket is, is decided when it is made.
    os.setegid(user), os.seteuid(user)
    client = socket.socket()
    os.seteuid(0), os.setegid(0)
    with client:
        if source:
            client.bind((source, 0))
        client.setblocking(False)
        client.connect_ex((to, 8080))
        ready = select.select(servers, [], [], 10)[0]
        for one in ready:
            one.accept()[0].close()
        return [one.getsockname()[1] for one in ready]
own = "10.1.1.1"
print(reached("10.9.9.9"), reached(own, 1337), reached(own, 1337, "127.0.0.6"), reached("127.0.0.1"), reached(own))
"""


@pytest.mark.parametrize("tool", ["iptables", "nft"])
def test_connections_go_where_they_should(tool: Tool) -> None:
    """To elsewhere: out. From the proxy to its own pod's address: in. From 127.0.0.6, and on loopback: as they are."""
    taker = "nft -f -" if tool == "nft" else "iptables-restore --noflush"
    up = "ip link set lo up; ip link add d0 type veth peer name d1; ip link set d0 up; ip link set d1 up"
    up += "; ip address add 10.1.1.1/24 dev d0; ip route add default dev d0"
    out = in_namespace(f"{up}; {taker}; python3 -c '{REACH}'", plan(tool))
    assert out.strip() == "[15001] [15006] [8080] [8080] [8080]"


@pytest.mark.parametrize(
    ("tool", "put", "left"),
    [
        ("iptables", "iptables-restore --noflush", "iptables-save -t nat"),
        ("ip6tables", "ip6tables-restore --noflush", "ip6tables-save -t nat"),
        ("nft", "nft -f -", "nft list ruleset"),
    ],
)
def test_what_the_page_says_takes_them_back(tool: Tool, put: str, left: str) -> None:
    tables, nft = re.findall(r"```sh lab\n(.*?)```", PAGE.read_text().partition("## Take the rules back")[2], re.DOTALL)
    back = (nft if tool == "nft" else tables.replace("iptables", tool)).replace("sudo ", "")
    kept = in_namespace(f"{put}; {left}; echo then; {back}\n{left}", plan(tool)).partition("then\n")
    assert re.search(r"ISTIO|eastgate", kept[0])
    assert not re.search(r"ISTIO|eastgate", kept[2])
