"""The cut between a gateway and istiod: it silences istiod, and nobody else who has the same port by chance.

Run as a module it is the scenario, in a namespace of its own.
"""

import socket
import subprocess

import pytest

from lab.errors import LabError
from lab.faults import TLS_PORT, silence
from lab.shell import program
from tests.support.netns import Steps, bring_up, run_scenario

ISTIOD, GATEWAY, NODE = "10.0.0.1", "10.0.0.2", "10.0.0.3"
GATEWAY_PORT = 15443


def connect(source: tuple[str, int], target: tuple[str, int]) -> str:
    """What comes of a connection between these addresses."""
    with socket.create_server(target):
        try:
            socket.create_connection(target, timeout=2, source_address=source).close()
        except TimeoutError:
            return "silence"
        return "connected"


def scenario() -> None:
    bring_up(ISTIOD, GATEWAY, NODE)
    steps = Steps()
    steps.take("istiod before", connect, (GATEWAY, 0), (ISTIOD, TLS_PORT))
    subprocess.run([program("nft"), "-f", "-"], input=silence(ISTIOD), text=True, check=True)
    steps.take("istiod", connect, (GATEWAY, 0), (ISTIOD, TLS_PORT))
    steps.take("client", connect, (NODE, TLS_PORT), (GATEWAY, GATEWAY_PORT))
    steps.print()


def test_istiod_is_silent_and_a_client_with_its_port_is_not() -> None:
    """Of 64,512 connections to the gateway kube-proxy gives one that port."""
    try:
        program("nft")
    except LabError as error:
        pytest.skip(str(error))
    seen = run_scenario("tests.lab.test_silence")
    assert {name: seen[name] for name in ("istiod before", "istiod", "client")} == {
        "istiod before": "connected",
        "istiod": "silence",
        "client": "connected",
    }


if __name__ == "__main__":
    scenario()
