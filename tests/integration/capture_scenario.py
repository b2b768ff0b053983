"""In a namespace of its own: a sidecar's listeners, with connections that netfilter redirects as Istio's rules do.

Usage: capture_scenario <eastgate|envoy>. Prints one JSON document with what was seen; test_capture judges it.

The host stands for a pod at POD. Whoever connects from CLIENT is its application: outbound, to 15001. Who connects to
POD from PEER comes from outside: inbound, to 15006. What the proxy sends is left alone.
"""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

from eastgate.xds.message import encode
from envoy_data_plane.envoy.config.accesslog.v3 import AccessLog
from envoy_data_plane.envoy.config.core.v3 import Address, SocketAddress
from envoy_data_plane.envoy.config.listener.v3 import (
    AdditionalAddress,
    FilterChain,
    FilterChainMatch,
    Listener,
    ListenerFilter,
)
from envoy_data_plane.envoy.extensions.access_loggers.file.v3 import FileAccessLog
from envoy_data_plane.envoy.extensions.filters.listener.original_dst.v3 import OriginalDst

from ..support import messages
from ..support.gateway_process import ProxyProcess, start
from ..support.netns import Steps, bring_up
from ..support.recordings import CDS, EDS, LDS
from ..support.replay_ads import ReplayThread
from ..support.upstreams import Upstreams, reached

POD, CLIENT, PEER, SOURCE = "127.0.0.50", "127.0.0.99", "127.0.0.98", "127.0.0.6"
OUTBOUND, INBOUND = 15001, 15006
VIP, ALSO, UNKNOWN = ("127.0.0.21", 8000), ("127.0.0.22", 8000), ("127.0.0.23", 8000)
WILDCARD_PORT, HELD, PORTS = 8001, 150, "20000 20099"


def original_dst(name: str, **fields: Any) -> bytes:
    return encode(
        "envoy.config.cluster.v3.Cluster",
        {
            "name": name, "type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED", "connect_timeout": "5s",
            "circuit_breakers": {"thresholds": [{"max_connections": 4294967295, "max_pending_requests": 4294967295}]},
            **fields,
        },
    )  # fmt: skip


def clusters() -> dict[str, bytes]:
    source = {"source_address": {"address": SOURCE, "port_value": 0}}
    black_hole = {"name": "BlackHoleCluster", "type": "STATIC", "connect_timeout": "5s"}
    return {
        "PassthroughCluster": original_dst("PassthroughCluster"),
        "BlackHoleCluster": encode("envoy.config.cluster.v3.Cluster", black_hole),
        "InboundPassthroughCluster": original_dst("InboundPassthroughCluster", upstream_bind_config=source),
        "inbound|8080||": original_dst("inbound|8080||", upstream_bind_config=source),
    }


def chain(cluster: str, name: str = "", port: int = 0) -> FilterChain:
    made = messages.plain_chain(cluster)
    made.name = name
    made.filter_chain_match = FilterChainMatch(destination_port=port) if port else None
    return made


def listener(name: str, host: str, port: int, *chains: FilterChain, **fields: Any) -> bytes:
    return bytes(
        Listener(
            name=name,
            address=Address(socket_address=SocketAddress(address=host, port_value=port)),
            filter_chains=list(chains),
            **fields,
        )
    )


def tabled(name: str, host: str, port: int, cluster: str, **fields: Any) -> bytes:
    return listener(name, host, port, chain(cluster), bind_to_port=False, **fields)


def listeners() -> dict[str, bytes]:
    also = AdditionalAddress(address=Address(socket_address=SocketAddress(address=ALSO[0], port_value=ALSO[1])))
    inspect = ListenerFilter(name="envoy.filters.listener.original_dst", typed_config=messages.pack(OriginalDst()))
    return {
        "virtualOutbound": listener(
            "virtualOutbound", "0.0.0.0", OUTBOUND,
            chain("BlackHoleCluster", "virtualOutbound-blackhole", OUTBOUND),
            chain("PassthroughCluster", "virtualOutbound-catchall-tcp"),
            use_original_dst=True,
        ),
        "virtualInbound": listener(
            "virtualInbound", "0.0.0.0", INBOUND,
            chain("BlackHoleCluster", "virtualInbound-blackhole", INBOUND),
            chain("inbound|8080||", "0.0.0.0_8080", 8080),
            chain("InboundPassthroughCluster", "virtualInbound"),
            listener_filters=[inspect],
        ),
        "127.0.0.21_8000": tabled("127.0.0.21_8000", *VIP, "vip", additional_addresses=[also]),
        "0.0.0.0_8001": tabled("0.0.0.0_8001", "0.0.0.0", WILDCARD_PORT, "wild"),
    }  # fmt: skip


def redirect(*rule: str) -> None:
    subprocess.run(["iptables", "-t", "nat", "-A", "OUTPUT", "-p", "tcp", *rule], check=True, timeout=20)


def connect(address: tuple[str, int], source: str = "") -> str:
    """Who is reached; how it ended where nobody is."""
    try:
        return reached(address, source=source) or "end"
    except OSError as error:
        return type(error).__name__


def found(proxy: ProxyProcess) -> dict[str, Any]:
    seen = {
        "vip": connect(VIP, CLIENT),
        "additional address": connect(ALSO, CLIENT),
        "wildcard": connect(("127.0.0.30", WILDCARD_PORT), CLIENT),
        "passthrough": connect(UNKNOWN, CLIENT),
        "nobody there": connect(("127.0.0.24", 8000), CLIENT),
    }
    return {**seen, "counted": counted(proxy)}


def counted(proxy: ProxyProcess) -> dict[str, int]:
    """Connections by address of the listener."""
    ends = "downstream_cx_total"
    stats = proxy.stats("listener.")
    names = [name for name in stats if name.endswith(ends) and "worker" not in name and "admin" not in name]
    return {name.removesuffix(f".{ends}"): stats[name] for name in names if stats[name]}


def inbound(upstreams: Upstreams) -> dict[str, Any]:
    """A port with a chain of its own and one without, and what both see as the peer's address."""
    return {
        "served": [connect((POD, port), PEER) for port in (8080, 8082)],
        "peer": sorted({peer for name, peer in upstreams.peers if name in ("app", "other")}),
    }


def itself(proxy: ProxyProcess) -> dict[str, Any]:
    """Connections to the proxy's own ports, by each way, twenty of each: nobody is served, nothing is left open."""
    ways = {
        "straight to 15001": (("127.0.0.1", OUTBOUND), ""),
        "straight to 15006": (("127.0.0.1", INBOUND), ""),
        "15001 of the pod": ((POD, OUTBOUND), CLIENT),
        "15006 of the pod": ((POD, INBOUND), CLIENT),
        "15006 from outside": ((POD, INBOUND), PEER),
    }
    before = descriptors(proxy)
    seen = {
        name: dict(Counter(connect(address, source) for _ in range(20))) for name, (address, source) in ways.items()
    }
    return {"ends": seen, "descriptors": descriptors(proxy) - before}


def descriptors(proxy: ProxyProcess) -> int:
    return len(list(Path(f"/proc/{proxy.pid}/fd").iterdir()))


def many_held(proxy: ProxyProcess) -> dict[str, Any]:
    """More connections to an application's port than there are local ports, and to a second one."""
    Path("/proc/sys/net/ipv4/ip_local_port_range").write_text("20000 60999")
    with contextlib.ExitStack() as stack:
        held = []
        # The clients' own ports are of no interest: they have them before the range becomes small.
        for port in (8080, 8082):
            for number in range(HELD // 2):
                client = stack.enter_context(socket.socket())
                client.settimeout(10)
                client.bind((PEER, 30000 + 1000 * (port - 8080) + number))
                held.append((client, port))
        Path("/proc/sys/net/ipv4/ip_local_port_range").write_text(PORTS)
        answers: Counter[str] = Counter()
        for client, port in held:
            client.connect((POD, port))
            client.sendall(b"who is it\n")
            answers[client.recv(100).decode().strip()] += 1
    Path("/proc/sys/net/ipv4/ip_local_port_range").write_text("20000 60999")
    return dict(answers)


def shown(proxy: ProxyProcess) -> list[list[Any]]:
    """(name, address, port) of /listeners."""
    statuses = proxy.json("/listeners?format=json")["listener_statuses"]
    places = [(one["name"], one["local_address"]["socket_address"]) for one in statuses]
    return sorted([name, at["address"], at["port_value"]] for name, at in places)


def pushed(server: ReplayThread) -> list[str]:
    """A listener without a socket goes to another cluster, then leaves."""
    seen = [connect(VIP, CLIENT)]
    name = "127.0.0.21_8000"
    for current in ({name: tabled(name, *VIP, "wild")}, {}):
        others = {other: one for other, one in listeners().items() if other != name}
        server.push_some(LDS, {**others, **current})
        seen.append(connect(VIP, CLIENT))
    return seen


class Held:
    """A connection that is asked again and again who is at its other end."""

    def __init__(self, address: tuple[str, int], source: str) -> None:
        self._socket = socket.create_connection(address, 10, source_address=(source, 0))

    def ask(self) -> str:
        try:
            self._socket.sendall(b"who is it\n")
            return self._socket.recv(100).decode().strip() or "end"
        except OSError as error:
            return type(error).__name__

    def close(self) -> None:
        self._socket.close()


def logged(path: str) -> dict[str, Any]:
    log = FileAccessLog(path=path)
    return {"access_log": [AccessLog(name="envoy.access_loggers.file", typed_config=messages.pack(log))]}


def changed(step: int) -> dict[str, bytes]:
    """Listeners as pushes have them that change something about open connections, and nothing of where they go."""
    now = listeners()
    blackhole = chain("BlackHoleCluster", "virtualOutbound-blackhole", OUTBOUND)
    vip = now.pop("127.0.0.21_8000")
    outbound: dict[str, Any] = {"use_original_dst": True}
    passthrough = chain("PassthroughCluster", "virtualOutbound-catchall-tcp")
    if step in (0, 2):
        # The address that was allocated for a host moves; the second time to yet another one.
        moved = f"127.0.0.2{6 + step}"
        now[f"{moved}_8000"] = tabled(f"{moved}_8000", moved, 8000, "vip")
    elif step == 1:
        now["127.0.0.21_8000"] = tabled("127.0.0.21_8000", *VIP, "vip", **logged("/dev/null"))
        outbound |= logged("/dev/null")
    elif step == 3:
        # Each of these is a socket, or a listener, of its own.
        outbound["tcp_backlog_size"] = 64
        timeout = {"listener_filters_timeout": timedelta(seconds=3)}
        now["127.0.0.21_8000"] = tabled("127.0.0.21_8000", *VIP, "vip", **timeout)
    else:
        now["127.0.0.21_8000"] = vip
    now["virtualOutbound"] = listener("virtualOutbound", "0.0.0.0", OUTBOUND, blackhole, passthrough, **outbound)
    return now


PUSHES = 50


def kept(server: ReplayThread, upstreams: Upstreams) -> dict[str, Any]:
    """Connections through pushes that change, move and open anew the listeners and endpoints that they came by."""
    held = {"vip": Held(VIP, CLIENT), "passthrough": Held(UNKNOWN, CLIENT), "inbound": Held((POD, 8080), PEER)}
    elsewhere = upstreams.start("elsewhere")
    home = server.resources[EDS]["vip"]
    answers: dict[str, Counter[str]] = {name: Counter() for name in held}
    for number in range(PUSHES):
        server.push_some(LDS, changed(number % 5))
        if number % 10 == 4:
            server.push_some(EDS, {"vip": messages.assignment("vip", [messages.At(elsewhere)])})
        for name, one in held.items():
            answers[name][one.ask()] += 1
    moved = connect(VIP, CLIENT)
    server.push_some(EDS, {"vip": home})
    for one in held.values():
        one.close()
    return {"answers": {name: dict(found) for name, found in answers.items()}, "new ones": moved}


def ended(server: ReplayThread) -> dict[str, list[str]]:
    """Who is still there after each of the pushes that leave somebody without the cluster that he has."""
    held = {
        "vip": Held(VIP, CLIENT),
        "wild": Held(("127.0.0.30", WILDCARD_PORT), CLIENT),
        "passthrough": Held(UNKNOWN, CLIENT),
        "inbound": Held((POD, 8080), PEER),
    }
    now = listeners()
    blackhole = chain("BlackHoleCluster", "virtualOutbound-blackhole", OUTBOUND)
    block_all = listener(
        "virtualOutbound", "0.0.0.0", OUTBOUND, blackhole, chain("BlackHoleCluster", "block_all"), use_original_dst=True
    )
    seen = {}
    for name, change in (
        ("nothing", {}),
        ("another cluster", {"127.0.0.21_8000": tabled("127.0.0.21_8000", *VIP, "wild")}),
        ("block_all", {"virtualOutbound": block_all}),
        ("a listener left", {"virtualInbound": None}),
    ):
        now |= change
        server.push_some(LDS, {other: one for other, one in now.items() if one is not None})
        still = []
        for one, connection in held.items():
            until_s = time.monotonic() + 0.5
            answer = connection.ask()
            # Connections of what changed end within a tick or two of the loop, and the others never.
            while answer == one_answer(one) and name != "nothing" and time.monotonic() < until_s:
                time.sleep(0.02)
                answer = connection.ask()
            if answer == one_answer(one):
                still.append(one)
        seen[name] = still
    for connection in held.values():
        connection.close()
    return seen


def one_answer(name: str) -> str:
    return {"passthrough": "unknown", "inbound": "app"}.get(name, name)


def main() -> None:
    kind = sys.argv[1]
    bring_up()
    redirect("-s", CLIENT, "-j", "REDIRECT", "--to-ports", str(OUTBOUND))
    redirect("-s", PEER, "-d", POD, "-j", "REDIRECT", "--to-ports", str(INBOUND))
    os.environ["NO_COLOR"] = "1"
    steps = Steps()
    with Upstreams() as upstreams:
        ends = {name: [messages.At(upstreams.start(name))] for name in ("vip", "wild")}
        upstreams.start("unknown", *UNKNOWN)
        upstreams.start("app", POD, 8080)
        upstreams.start("other", POD, 8082)
        resources = messages.resources(ends)
        resources[CDS] |= clusters()
        resources[LDS] = listeners()
        resources.setdefault(EDS, {})
        with ReplayThread(resources) as server, start(kind, server.address) as proxy:
            proxy.wait_ready()
            proxy.bound_address("virtualInbound")
            steps.take("found", found, proxy)
            steps.take("inbound", inbound, upstreams)
            steps.take("itself", itself, proxy)
            steps.take("held", many_held, proxy)
            steps.take("shown", shown, proxy)
            if kind == "eastgate":
                # Envoy drains the old one first: for a while either answers.
                steps.take("pushed", pushed, server)
                server.push_some(LDS, listeners())
                steps.take("kept", kept, server, upstreams)
                server.push_some(LDS, listeners())
                steps.take("ended", ended, server)
    steps.print()


if __name__ == "__main__":
    main()
