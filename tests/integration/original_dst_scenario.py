"""In a namespace of its own: connections that netfilter redirects to a proxy reach where they were going.

Usage: original_dst_scenario <eastgate|envoy>. Prints one JSON document with what was seen; the tests judge it.
"""

import socket
import subprocess
import sys
from typing import Any

from eastgate.mesh.control_plane import cluster_resources
from eastgate.mesh.mesh_file import parse
from eastgate.xds.message import encode
from envoy_data_plane.envoy.config.listener.v3 import Listener, ListenerFilter
from envoy_data_plane.envoy.extensions.filters.listener.original_dst.v3 import OriginalDst

from ..mesh.sidecars import MESH, applied, sidecar
from ..support import messages
from ..support.gateway_process import ProxyProcess, start
from ..support.netns import Steps, bring_up
from ..support.recordings import CDS, EDS, LDS
from ..support.replay_ads import ReplayThread
from ..support.upstreams import Upstreams, reached
from ..support.waiting import until

# Who connects from here is redirected; the proxy itself is not.
CLIENT = "127.0.0.99"
PORT = 15001
CLUSTER = "PassthroughCluster"


def cluster(**config: Any) -> bytes:
    return encode(
        "envoy.config.cluster.v3.Cluster",
        {
            "name": CLUSTER,
            "type": "ORIGINAL_DST",
            "lb_policy": "CLUSTER_PROVIDED",
            "connect_timeout": "2s",
            "original_dst_lb_config": config,
        },
    )


# What a ServiceEntry with resolution NONE becomes: whoever is dialled by a name of the entry is reached where it is.
ENTRY = "outbound|80||free.example"
SPEC = "{hosts: [free.example], resolution: NONE, ports: [{number: 80, name: tcp, protocol: TCP}]}"


def entry_cluster() -> bytes:
    stock = MESH.replace("kind: Mesh\n", "kind: Mesh\noptions: {metadata_exchange: false, alpn_filter: false}\n", 1)
    mesh = parse(stock + applied("ServiceEntry", SPEC), "mesh.yaml").mesh
    return cluster_resources(mesh, sidecar(mesh))[CDS][ENTRY]


def listener(target: str = CLUSTER) -> bytes:
    made = Listener.parse(messages.listener([messages.plain_chain(target)], port=PORT, host="0.0.0.0"))
    filters = [ListenerFilter(name="envoy.filters.listener.original_dst", typed_config=messages.pack(OriginalDst()))]
    made.listener_filters = filters + list(made.listener_filters)
    return bytes(made)


def redirect() -> None:
    rule = ["-t", "nat", "-A", "OUTPUT", "-p", "tcp", "-s", CLIENT, "-j", "REDIRECT", "--to-ports", str(PORT)]
    subprocess.run(["iptables", *rule], check=True, timeout=20)


def reached_names(upstreams: Upstreams) -> list[str]:
    """Two endpoints that no configuration names, and a third with nobody there."""
    first, second = upstreams.start("first", "127.0.0.11"), upstreams.start("second", "127.0.0.12")
    found = [reached(address, source=CLIENT) for address in (first, second, ("127.0.0.13", first[1]))]
    return [*found, str(upstreams.accepted["first"]), str(upstreams.accepted["second"])]


def overridden(server: ReplayThread, upstreams: Upstreams) -> str:
    _, port = upstreams.start("override", "127.0.0.14")
    server.push_some(CDS, {CLUSTER: cluster(upstream_port_override=port)})
    return reached(("127.0.0.14", 9), source=CLIENT)


def by_entry(server: ReplayThread, proxy: ProxyProcess, upstreams: Upstreams) -> list[str]:
    """The same through the cluster of a ServiceEntry: nothing is reached by any other."""
    there = upstreams.start("entry", "127.0.0.15")
    nobody = ("127.0.0.16", there[1])
    server.push_some(CDS, {CLUSTER: cluster(), ENTRY: entry_cluster()})
    server.push_some(LDS, {messages.LISTENER: listener(ENTRY)})

    def counted() -> int:
        return proxy.stat(f"cluster.{ENTRY};.upstream_cx_total") or proxy.stat(f"cluster.{ENTRY}.upstream_cx_total")

    until(lambda: reached(there, source=CLIENT) == "entry" and counted() > 0, "the entry's cluster serves")
    return [reached(there, source=CLIENT), reached(nobody, source=CLIENT)]


def direct(proxy: ProxyProcess) -> str:
    """A connection to the proxy itself, which nobody redirected."""
    with socket.create_connection(("127.0.0.1", PORT), 10) as client:
        client.sendall(b"who is it\n")
        try:
            return client.recv(100).decode() + f"{proxy.stat(f'cluster.{CLUSTER}.upstream_cx_none_healthy')}"
        except ConnectionResetError:
            return f"reset, {proxy.stat(f'cluster.{CLUSTER}.upstream_cx_none_healthy')} without endpoint"


def members(proxy: ProxyProcess) -> list[str]:
    statuses = proxy.json("/clusters?format=json")["cluster_statuses"]
    hosts = next(one for one in statuses if one["name"] == CLUSTER).get("host_statuses", [])
    return [host["address"]["socket_address"]["address"] for host in hosts]


def main() -> None:
    kind = sys.argv[1]
    bring_up()
    redirect()
    steps = Steps()
    resources = {CDS: {CLUSTER: cluster()}, EDS: {}, LDS: {messages.LISTENER: listener()}}
    with Upstreams() as upstreams, ReplayThread(resources) as server, start(kind, server.address) as proxy:
        proxy.wait_ready()
        proxy.bound_address(messages.LISTENER)
        steps.take("reached", reached_names, upstreams)
        if kind == "eastgate":
            # Envoy connects to itself until its descriptors are used up.
            steps.take("direct", direct, proxy)
            steps.take("members", members, proxy)
        steps.take("overridden", overridden, server, upstreams)
        steps.take("entry", by_entry, server, proxy, upstreams)
    steps.print()


if __name__ == "__main__":
    main()
