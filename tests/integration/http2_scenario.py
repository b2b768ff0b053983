"""In a namespace of its own: gRPC through a sidecar while pushes move what it came by, and at last where it leads.

Prints one JSON document with what was seen; test_http2_moved judges it. A service has the address VIP, which netfilter
redirects to 15001. A connection of HTTP/2 is routed by the virtual host that holds its address, once: a client waits
for SETTINGS before it sends a request.
"""

import os
import subprocess
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from datetime import timedelta
from types import TracebackType
from typing import Any, Self

import grpc
from envoy_data_plane.envoy.config.core.v3 import AggregatedConfigSource, ConfigSource
from envoy_data_plane.envoy.config.listener.v3 import Filter as NetworkFilter
from envoy_data_plane.envoy.config.listener.v3 import FilterChain, FilterChainMatch, ListenerFilter
from envoy_data_plane.envoy.config.route.v3 import Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost
from envoy_data_plane.envoy.extensions.filters.http.router.v3 import Router
from envoy_data_plane.envoy.extensions.filters.listener.http_inspector.v3 import HttpInspector
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    HttpConnectionManager,
    HttpFilter,
    Rds,
)

from ..support import messages
from ..support.gateway_process import EASTGATE, Eastgate, ProxyProcess
from ..support.netns import Steps, bring_up
from ..support.recordings import CDS, EDS, LDS, RDS
from ..support.replay_ads import ReplayThread
from ..support.waiting import until
from .capture_scenario import OUTBOUND, chain, clusters, listener

PORT, VIP, MOVED = 8080, "127.0.0.21", "127.0.0.22"
SERVICE, OTHER = "outbound|8080||grpc.test", "outbound|8080||other.test"
PUSHES, TIMEOUT_S = 12, 10.0
NODE = "sidecar~127.0.0.1~client.shop~shop.svc.cluster.local"


class Sidecar(Eastgate):
    kind = "eastgate sidecar"

    def __init__(self, discovery: str) -> None:
        command = [EASTGATE, "sidecar", "--discovery", discovery, "--admin", "127.0.0.1:0", "--drain-time", "0"]
        ProxyProcess.__init__(self, [*command, "--node-id", NODE])


class Named(AbstractContextManager["Named"]):
    """A gRPC server that answers its name and whom it sees; `Stay` says that again and again, when it is asked to."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._server = grpc.server(ThreadPoolExecutor(8))
        handlers = {
            "Who": grpc.unary_unary_rpc_method_handler(self._who),
            "Stay": grpc.stream_stream_rpc_method_handler(self._stay),
        }
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("a.Echo", handlers),))
        self.address = ("127.0.0.1", self._server.add_insecure_port("127.0.0.1:0"))
        self._server.start()

    def _who(self, _: bytes, context: grpc.ServicerContext) -> bytes:
        return f"{self._name} {context.peer()}".encode()

    def _stay(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        for one in requests:
            yield self._who(one, context)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.stop(None)


class Channel:
    """A client with a connection of its own; one call stays open on it."""

    def __init__(self, host: str) -> None:
        self._channel = grpc.insecure_channel(f"{host}:{PORT}", options=[("grpc.use_local_subchannel_pool", 1)])
        self._who = self._channel.unary_unary("/a.Echo/Who")
        self._asking = True
        self._call = self._channel.stream_stream("/a.Echo/Stay")(iter(self._requests, None), timeout=60)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._asking = False
        self._channel.close()

    def _requests(self) -> bytes | None:
        return b"" if self._asking else None

    def who(self) -> str:
        """Who answers a new request; why nobody does."""
        try:
            answer: bytes = self._who(b"", timeout=TIMEOUT_S)
            return answer.decode()
        except grpc.RpcError as error:
            return str(error.code().name)

    def stays(self) -> str:
        """Who answers in the call that was there from the beginning."""
        try:
            answer: bytes = next(self._call)
            return answer.decode()
        except grpc.RpcError as error:
            return str(error.code().name)


def by_request(host: str) -> bytes:
    """istiod's listener of an HTTP port: by protocol; what is not HTTP goes where it wanted to."""
    source = ConfigSource(ads=AggregatedConfigSource())
    router = HttpFilter(name="envoy.filters.http.router", typed_config=messages.pack(Router()))
    manager = HttpConnectionManager(
        stat_prefix="outbound", rds=Rds(config_source=source, route_config_name=str(PORT)), http_filters=[router]
    )
    name = "envoy.filters.network.http_connection_manager"
    http = FilterChain(
        filters=[NetworkFilter(name=name, typed_config=messages.pack(manager))],
        filter_chain_match=FilterChainMatch(application_protocols=["http/1.1", "h2c"]),
    )
    inspector = ListenerFilter(
        name="envoy.filters.listener.http_inspector", typed_config=messages.pack(HttpInspector())
    )
    return listener(
        f"{host}_{PORT}", host, PORT, http, chain("PassthroughCluster"),
        bind_to_port=False, listener_filters=[inspector], listener_filters_timeout=timedelta(0),
        continue_on_listener_filters_timeout=True,
    )  # fmt: skip


def listeners(host: str = "0.0.0.0") -> dict[str, bytes]:
    outbound = listener(
        "virtualOutbound", "0.0.0.0", OUTBOUND,
        chain("BlackHoleCluster", "virtualOutbound-blackhole", OUTBOUND),
        chain("PassthroughCluster", "virtualOutbound-catchall-tcp"),
        use_original_dst=True,
    )  # fmt: skip
    return {"virtualOutbound": outbound, f"{host}_{PORT}": by_request(host)}


def routes(address: str, cluster: str = SERVICE) -> dict[str, bytes]:
    """The service's virtual host holds its names and its address; everything else goes where it wanted to."""

    def host(name: str, cluster: str, *domains: str) -> VirtualHost:
        route = Route(match=RouteMatch(prefix="/"), route=RouteAction(cluster=cluster))
        return VirtualHost(name=name, domains=list(domains), routes=[route])

    hosts = [
        host(f"grpc.test:{PORT}", cluster, "grpc.test", f"grpc.test:{PORT}", address, f"{address}:{PORT}"),
        host("allow_any", "PassthroughCluster", "*"),
    ]
    return {str(PORT): bytes(RouteConfiguration(name=str(PORT), virtual_hosts=hosts))}


def kept(server: ReplayThread, elsewhere: Named) -> dict[str, Any]:
    """A connection through pushes that move the service's address, its listener and its endpoint."""
    home = server.resources[EDS][SERVICE]
    with Channel(VIP) as held:
        first = held.who()
        answers: Counter[str] = Counter()
        for number in range(PUSHES):
            step = number % 4
            if step == 0:
                server.push_some(RDS, routes(MOVED))
            elif step == 1:
                server.push_some(LDS, listeners(MOVED))
            elif step == 2:
                server.push_some(EDS, {SERVICE: messages.assignment(SERVICE, [messages.At(elsewhere.address)])})
                with Channel(MOVED) as new:
                    answers["new: " + new.who().split()[0]] += 1
            else:
                server.push_some(LDS, listeners())
                server.push_some(RDS, routes(VIP))
                server.push_some(EDS, {SERVICE: home})
            answers["held: " + ("same" if held.who() == held.stays() == first else held.who())] += 1
    return {"first": first.split()[0], **answers}


def ended(server: ReplayThread) -> dict[str, Any]:
    """The same when its host leads to another cluster."""
    with Channel(VIP) as held:
        seen = {"before": held.stays().split()[0]}
        server.push_some(RDS, routes(VIP, OTHER))
        codes: list[str] = []

        def gone() -> bool:
            codes.append(held.stays())
            return " " not in codes[-1]

        until(gone, "the call ends with its connection")
        return {**seen, "the call": codes[-1], "after": held.who().split()[0]}


def main() -> None:
    bring_up()
    for host in (VIP, MOVED):
        rule = ["-p", "tcp", "-d", host, "--dport", str(PORT), "-j", "REDIRECT", "--to-ports", str(OUTBOUND)]
        subprocess.run(["iptables", "-t", "nat", "-A", "OUTPUT", *rule], check=True, timeout=20)
    os.environ["NO_COLOR"] = "1"
    steps = Steps()
    with Named("service") as service, Named("elsewhere") as elsewhere, Named("other") as other:
        ends = {SERVICE: [messages.At(service.address)], OTHER: [messages.At(other.address)]}
        resources = messages.resources(ends)
        resources[CDS] |= clusters()
        resources[LDS] = listeners()
        resources[RDS] = routes(VIP)
        with ReplayThread(resources) as server, Sidecar(server.address) as proxy:
            proxy.wait_ready()
            proxy.bound_address("virtualOutbound")
            steps.take("kept", kept, server, elsewhere)
            steps.take("ended", ended, server)
    steps.print()


if __name__ == "__main__":
    main()
