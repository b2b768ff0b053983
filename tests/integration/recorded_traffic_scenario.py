"""In a pod's namespace: traffic through a sidecar by what a real istiod sent, redirected by the rules that we print.

Usage: recorded_traffic_scenario <eastgate|envoy> <role> <connections> [<stage> ...]. Prints one JSON document: by stage
how often each endpoint was reached, by what the client did; test_recorded_traffic judges it.

What stock Envoy cannot load is left out for both: Istio's own filters, and TLS, whose keys pilot-agent alone has. All
endpoints are one server in a second namespace, which says at which of its addresses it was reached.
"""

import http.client
import os
import selectors
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from eastgate.proxy.interception import PROXY_ID, plan
from envoy_data_plane.envoy.config.cluster.v3 import Cluster
from envoy_data_plane.envoy.config.endpoint.v3 import ClusterLoadAssignment
from envoy_data_plane.envoy.config.listener.v3 import Filter, FilterChain, Listener
from envoy_data_plane.envoy.config.route.v3 import RouteConfiguration
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpConnectionManager

from ..support.gateway_process import EASTGATE, Eastgate, Envoy, ProxyProcess
from ..support.messages import pack
from ..support.netns import Elsewhere, Steps, pod_beside
from ..support.recordings import CDS, EDS, LDS, RDS, Resources, recorded, recorded_node
from ..support.replay_ads import ReplayThread
from ..support.waiting import until

NOWHERE, PEER, APPLICATION = "10.77.0.1", "10.77.0.2", 8080
NETWORKS = "10.0.0.0/8", "172.16.0.0/12"
# Where a place leads to one endpoint at most.
FEW = 3
ISTIOS_OWN = ("istio.",)
HTTP_MANAGER = "envoy.filters.network.http_connection_manager"
TIMEOUT_S = 10


class Everybody:
    """Listens at ports of all addresses and tells everybody at which one they came."""

    def __init__(self, ports: Iterable[int]) -> None:
        self._selector = selectors.DefaultSelector()
        for port in sorted(ports):
            self._selector.register(socket.create_server(("0.0.0.0", port), backlog=128), selectors.EVENT_READ)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            for key, _ in self._selector.select():
                assert isinstance(key.fileobj, socket.socket)
                accepted, _ = key.fileobj.accept()
                threading.Thread(target=_answer, args=(accepted,), daemon=True).start()


def _answer(accepted: socket.socket) -> None:
    with accepted, suppress(OSError):
        accepted.settimeout(10)
        host, port = accepted.getsockname()
        text = f"{host}:{port}".encode()
        if accepted.recv(65536).startswith(b"GET "):
            head = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(text)
            accepted.sendall(head + text)
        else:
            accepted.sendall(text)
        accepted.shutdown(socket.SHUT_WR)
        while accepted.recv(65536):
            pass


def without_istios_own(filters: Iterable[Filter]) -> list[Filter]:
    """Filters of a chain that stock Envoy has; those of HTTP inside of them, too."""
    kept = [one for one in filters if not one.name.startswith(ISTIOS_OWN)]
    for one in kept:
        if one.name == HTTP_MANAGER:
            assert one.typed_config
            manager = HttpConnectionManager.parse(one.typed_config.value)
            manager.http_filters = [each for each in manager.http_filters if not each.name.startswith(ISTIOS_OWN)]
            manager.access_log = []
            one.typed_config = pack(manager)
    return kept


def listener_for_both(raw: bytes) -> bytes:
    """Without Istio's own filters, and without chains that want a client's TLS to end here."""
    parsed = Listener.parse(raw)
    chains: list[FilterChain] = [one for one in parsed.filter_chains if one.transport_socket is None]
    for chain in chains:
        chain.filters = without_istios_own(chain.filters)
    parsed.filter_chains = chains
    if parsed.default_filter_chain:
        parsed.default_filter_chain.filters = without_istios_own(parsed.default_filter_chain.filters)
    return bytes(parsed)


def cluster_for_both(raw: bytes) -> bytes:
    parsed = Cluster.parse(raw)
    parsed.filters = [one for one in parsed.filters if not one.name.startswith(ISTIOS_OWN)]
    parsed.transport_socket, parsed.transport_socket_matches = None, []
    return bytes(parsed)


def for_both(found: Resources) -> Resources:
    return {
        **found,
        CDS: {name: cluster_for_both(one) for name, one in found[CDS].items()},
        LDS: {name: listener_for_both(one) for name, one in found[LDS].items()},
    }


def assigned(found: Resources) -> Iterator[list[tuple[str, int]]]:
    """Endpoints of each cluster."""
    for raw in found[EDS].values():
        localities = ClusterLoadAssignment.parse(raw).endpoints
        every = [one.endpoint for locality in localities for one in locality.lb_endpoints]
        places = [one.address.socket_address for one in every if one and one.address and one.address.socket_address]
        assert len(places) == len(every)
        yield [(one.address, one.port_value or 0) for one in places]


def places(found: Resources) -> dict[str, tuple[str, int]]:
    """Where a client of each listener without a socket goes."""
    there = {}
    for name, raw in found[LDS].items():
        parsed = Listener.parse(raw)
        if parsed.bind_to_port is False:
            assert parsed.address
            assert parsed.address.socket_address
            where = parsed.address.socket_address
            there[name] = (NOWHERE if where.address == "0.0.0.0" else where.address, where.port_value or 0)
    return there


def hosts(found: Resources) -> list[tuple[str, str, int]]:
    """Each service of a route by name, host and port, as a client of HTTP asks for it."""
    there = []
    for name, raw in found[RDS].items():
        for one in RouteConfiguration.parse(raw).virtual_hosts:
            host, _, port = one.name.rpartition(":")
            if port.isdigit():
                there.append((f"{name} {one.name}", host, int(port)))
    return there


def answer(address: tuple[str, int]) -> str:
    """Who was reached by a client that speaks no protocol; "end" when nobody was."""
    try:
        with socket.create_connection(address, TIMEOUT_S) as client:
            client.sendall(b"\0hello\n")
            got = b""
            while more := client.recv(65536):
                got += more
    except ConnectionError:
        return "end"
    return got.decode() or "end"


def http_answer(address: tuple[str, int], host: str) -> str:
    """Who was reached by a request for this host, else the status, or "end"."""
    client = http.client.HTTPConnection(*address, timeout=TIMEOUT_S)
    try:
        client.request("GET", "/", headers={"host": host, "connection": "close"})
        response = client.getresponse()
        body = response.read().decode()
    except (ConnectionError, http.client.BadStatusLine):
        return "end"
    finally:
        client.close()
    return body if response.status == 200 else str(response.status)


@dataclass(frozen=True)
class Pod:
    """One that has a sidecar, and everybody else. ``connections``: to each place that leads to several endpoints."""

    address: str
    elsewhere: Elsewhere
    connections: int

    def traffic(self, found: Resources) -> dict[str, dict[str, int]]:
        """By what a client does, how often it reaches whom."""
        several = {f"{host}:{port}" for group in assigned(found) if len(group) > 1 for host, port in group}

        def reached(ask: Any, *arguments: Any) -> dict[str, int]:
            seen = Counter(ask(*arguments) for _ in range(FEW))
            if seen.keys() & several:
                seen.update(ask(*arguments) for _ in range(self.connections - FEW))
            return dict(seen)

        def from_elsewhere(*arguments: Any) -> str:
            answered: str = self.elsewhere.call(*arguments)
            return answered

        own = (self.address, APPLICATION)
        return {
            **{f"raw {name}": reached(answer, address) for name, address in places(found).items()},
            **{f"http {name}": reached(http_answer, (NOWHERE, port), host) for name, host, port in hosts(found)},
            "raw to no service": reached(answer, (NOWHERE, APPLICATION)),
            "raw inbound": reached(from_elsewhere, answer, own),
            "http inbound": reached(from_elsewhere, http_answer, own, "echo"),
        }


@contextmanager
def as_group(group: int) -> Iterator[None]:
    """Whose the sockets are of processes that begin meanwhile."""
    before = os.getegid()
    os.setegid(group)
    try:
        yield
    finally:
        os.setegid(before)


def started(kind: str, discovery: str, node: dict[str, Any]) -> ProxyProcess:
    """By its group, the rules know what the proxy sends; it stays root to read what root may."""
    with as_group(PROXY_ID):
        if kind == "envoy":
            return Envoy(discovery, node=node)
        one = Eastgate.__new__(Eastgate)
        command = [EASTGATE, "sidecar", "--discovery", discovery, "--admin", "127.0.0.1:0", "--drain-time", "0"]
        # Each worker takes endpoints in turn by itself.
        ProxyProcess.__init__(one, [*command, "--node-id", node["id"], "--workers", "1"])
        return one


def settled(server: ReplayThread, proxy: ProxyProcess) -> None:
    """Everything was taken, and serves."""
    server.wait_answered()
    assert not server.nacks, server.nacks

    def warm() -> bool:
        stats = proxy.stats()
        return not stats.get("cluster_manager.warming_clusters") and not stats.get(
            "listener_manager.total_listeners_warming"
        )

    until(warm, "nothing warms any more")


def stage(pod: Pod, server: ReplayThread, proxy: ProxyProcess, resources: Resources) -> dict[str, dict[str, int]]:
    server.push(resources)
    settled(server, proxy)
    seen = pod.traffic(resources)
    assert proxy.running, proxy.stderr
    return seen


def main() -> None:
    kind, role, connections, *stages = sys.argv[1:]
    node = recorded_node(stages[0], role)
    pod = Pod(node["id"].split("~")[1], Elsewhere(), int(connections))
    pod_beside(pod.elsewhere, pod.address, PEER, *NETWORKS)
    subprocess.run(["iptables-restore", "--noflush"], input=plan("iptables"), text=True, check=True, timeout=20)
    every = {name: for_both(recorded(name, role)) for name in stages}
    ports = {port for found in every.values() for group in assigned(found) for _, port in group} | {APPLICATION, 15021}
    pod.elsewhere.call(Everybody, ports | {port for found in every.values() for _, port in places(found).values()})
    Everybody([APPLICATION])
    steps = Steps()
    with ReplayThread(every[stages[0]]) as server, started(kind, server.address, node) as proxy:
        proxy.wait_ready()
        for name, found in every.items():
            steps.take(name, stage, pod, server, proxy, found)
    steps.print()


if __name__ == "__main__":
    main()
