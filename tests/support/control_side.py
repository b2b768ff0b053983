"""The control side of a gateway and its engine without a stream: bytes of responses in, what became of them out, and
whether a connection still gets through.
"""

import random
import socket
from collections.abc import Callable
from types import TracebackType
from typing import Self

from eastgate.fastpath.loop.cluster_slots import ClusterSlots
from eastgate.fastpath.loop.engine import Engine
from eastgate.proxy.compile.compiler import Compiler
from eastgate.proxy.control_errors import ControlErrors
from eastgate.proxy.listeners import Listeners
from eastgate.proxy.membership.ejections import Ejections
from eastgate.proxy.membership.health_checks import HealthChecks
from eastgate.xds.decode import CDS, LDS
from eastgate.xds.message import encode
from eastgate.xds.resources import Locality, Rejection
from eastgate.xds.response import Response
from eastgate.xds.store import Store

from .encoded import field
from .hellos import client_hello
from .upstreams import Upstreams

GOOD = "outbound_.80_._.good.svc"
TIMEOUT_S = 10.0


def packed(type_url: str, payload: bytes) -> bytes:
    return encode("google.protobuf.Any", {"type_url": type_url, "value": payload})


class _Never:
    """A timer that does not come."""

    def cancel(self) -> None:
        return None


def _later(_: float, __: Callable[[], None]) -> _Never:
    return _Never()


class ControlSide:
    """With one route that is known to be good, to an upstream that answers its name. One native worker serves."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._upstreams = Upstreams().__enter__()
        host, port = self._upstreams.start(GOOD)
        self.store = Store(router=False, clock=lambda: self.now_s)
        self.errors = ControlErrors()
        self.slots = ClusterSlots(4096)
        self.engine = Engine(self.slots, seed=1, workers=1)
        self._health = HealthChecks(
            self._no_probe, changed=lambda _: None, has_traffic=lambda _: False, random=lambda: 0.5
        )
        self.compiler = Compiler(
            self.slots,
            judge=self._health.follow,
            own_locality=Locality("r", "z", ""),
            clock=lambda: self.now_s,
            errors=self.errors,
        )
        ejections = Ejections(
            self.compiler.health,
            self.slots,
            refresh=lambda _: None,
            call_later=_later,
            clock=lambda: self.now_s,
            random=lambda: random.getrandbits(64),
            errors=self.errors,
        )
        self.compiler.observers.append(ejections.published)
        self.listeners = Listeners(self.engine, call_later=_later, errors=self.errors)
        endpoint = field(1, field(1, _address(host, port)))
        assignment = field(1, GOOD.encode()) + field(2, field(2, endpoint))
        cluster = {"name": GOOD, "type": "STATIC", "load_assignment": assignment, "connect_timeout": "5s"}
        self.good = {
            CDS: encode("envoy.config.cluster.v3.Cluster", cluster),
            LDS: encode("envoy.config.listener.v3.Listener", _listener()),
        }
        for type_url in (CDS, LDS):
            assert self.push(type_url, "good", [packed(type_url, self.good[type_url])]) == ()
        assert self.serves()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.listeners.stop_accepting()
        self.engine.close()
        self._upstreams.__exit__(kind, error, at)

    def push(
        self, type_url: str, version: str, resources: list[bytes], *, removed: list[str] | None = None
    ) -> tuple[Rejection, ...]:
        """Apply the Anys of a response as the stream does, and publish; return what was rejected.

        ``removed`` makes it a response of Delta.
        """
        applied = self.store.apply_response(Response(type_url, version, resources=resources, removed=removed))
        rejected = applied.rejected
        if applied.changed:
            rejected += self.publish()
        return rejected

    def expire(self) -> None:
        """End what has come to its end by the clock, and publish."""
        if self.store.expire().changed:
            self.publish()

    def faults(self) -> list[str]:
        """Exceptions that were caught at the edge of a part, and that nothing from outside should be able to raise."""
        return [f"{one.part} {one.about}: {one.cause} ({', '.join(one.places)})" for one in self.errors.latest]

    def publish(self) -> tuple[Rejection, ...]:
        """Compile and publish what the store holds; return what had to be taken back."""
        errors = self.compiler.apply(self.store.snapshot)
        self.listeners.apply(self.compiler.listeners)
        return self.store.revoke(errors).rejected

    def serves(self) -> bool:
        """Whether a connection by the good route reaches its upstream."""
        (bound,) = self.listeners.open["good"].bound.values()
        with socket.create_connection((bound.host, bound.port), TIMEOUT_S) as client:
            client.sendall(client_hello(GOOD) + b"\n")
            found = b""
            while GOOD.encode() not in found and (part := client.recv(100)):
                found += part
        return GOOD.encode() in found

    async def _no_probe(self, *_: object) -> object:
        raise NotImplementedError


def _address(host: str, port: int) -> bytes:
    return encode("envoy.config.core.v3.Address", {"socket_address": {"address": host, "port_value": port}})


def _listener() -> dict[str, object]:
    proxy = "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"
    chain = {
        "filter_chain_match": {"server_names": [GOOD], "application_protocols": ["istio"]},
        "filters": [{"name": "tcp", "typed_config": {"@type": proxy, "stat_prefix": "good", "cluster": GOOD}}],
    }
    inspector = "type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"
    return {
        "name": "good",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
        "filter_chains": [encode("envoy.config.listener.v3.FilterChain", chain)],
        "listener_filters": [{"name": "tls", "typed_config": {"@type": inspector, "@value": b""}}],
    }
