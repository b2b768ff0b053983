"""In a namespace of its own: what a real istiod sent to a sidecar, and connections redirected as its rules have it.

Usage: recorded_sidecar_scenario <gke|anthos>. Prints one JSON document; test_recorded_sidecar judges it.
"""

import socket
import subprocess
import sys
from collections.abc import Collection
from typing import Any

from eastgate.xds.decode import decode_listener

from ..support.gateway_process import ProxyProcess, start
from ..support.netns import Steps, bring_up
from ..support.recordings import LDS, recorded
from ..support.replay_ads import ReplayThread
from ..support.waiting import until

STAGE = "1-default"
CLIENT, PEER = "127.0.0.99", "127.0.0.98"
OUTBOUND, INBOUND = 15001, 15006
# Counters go by address.
SOCKETS = {"virtualOutbound": f"0.0.0.0_{OUTBOUND}", "virtualInbound": f"0.0.0.0_{INBOUND}"}
# An address of the mesh that is no service's.
NOWHERE, POD = "10.77.0.1", "10.77.0.2"


def redirect(*rule: str) -> None:
    subprocess.run(["iptables", "-t", "nat", "-A", "OUTPUT", "-p", "tcp", *rule], check=True, timeout=20)


def comes_to(proxy: ProxyProcess, names: Collection[str], address: tuple[str, int], source: str) -> list[str]:
    """Names of the listeners that count a connection, which ends without a byte, in one way or another."""
    before = proxy.stats("listener.")
    found: list[str] = []

    def counted() -> bool:
        now = proxy.stats("listener.")
        moved = [stat for stat, value in now.items() if value != before.get(stat, 0) and not stat.endswith("_active")]
        found[:] = [name for name in names if any(stat.startswith(f"{SOCKETS.get(name, name)}.") for stat in moved)]
        return bool(found)

    with socket.create_connection(address, 10, source_address=(source, 0)):
        pass
    until(counted, f"a listener counts a connection to {address}")
    return found


def outbound(proxy: ProxyProcess, listeners: dict[str, bytes]) -> dict[str, list[str]]:
    """By each listener without a socket, who takes connections to its address."""
    found = {}
    for name, raw in listeners.items():
        one, _ = decode_listener(raw)
        if not one.bind_to_port:
            ((host, port),) = one.addresses
            found[name] = comes_to(proxy, listeners, (NOWHERE if host == "0.0.0.0" else host, port), CLIENT)
    return found


def others(proxy: ProxyProcess, names: Collection[str]) -> dict[str, list[str]]:
    return {
        "no service": comes_to(proxy, names, (NOWHERE, 4444), CLIENT),
        "an address of a service, another port": comes_to(proxy, names, ("10.28.0.1", 4444), CLIENT),
        "inbound": comes_to(proxy, names, (POD, 8080), PEER),
    }


def shown(proxy: ProxyProcess) -> list[str]:
    return sorted(one["name"] for one in proxy.json("/listeners?format=json")["listener_statuses"])


def unserved(proxy: ProxyProcess) -> list[Any]:
    statuses = proxy.json("/listeners?format=json")["listener_statuses"]
    return [one for one in statuses if "eastgate_error" in one]


def main() -> None:
    # All of 10/8 is local.
    bring_up("10.0.0.1")
    redirect("-s", CLIENT, "-j", "REDIRECT", "--to-ports", str(OUTBOUND))
    redirect("-s", PEER, "-d", POD, "-j", "REDIRECT", "--to-ports", str(INBOUND))
    steps = Steps()
    resources = recorded(STAGE, f"{sys.argv[1]}-sidecar-echo")
    with ReplayThread(resources) as server, start("eastgate", server.address) as proxy:
        proxy.wait_ready()
        steps.take("outbound", outbound, proxy, resources[LDS])
        steps.take("others", others, proxy, resources[LDS])
        steps.take("shown", shown, proxy)
        steps.take("unserved", unserved, proxy)
    steps.print()


if __name__ == "__main__":
    main()
