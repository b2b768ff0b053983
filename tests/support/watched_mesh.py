"""A gateway with everything that a dashboard shows: traffic out and in, failures, telemetry as Istio asks for it."""

import socket
import ssl
import threading
from contextlib import suppress
from tempfile import NamedTemporaryFile
from typing import Any

from eastgate.xds.message import encode, read
from envoy_data_plane.envoy.config.core.v3 import TrafficDirection
from envoy_data_plane.envoy.config.listener.v3 import Filter, FilterChain, Listener
from envoy_data_plane.google.protobuf import Any as PackedAny

from . import messages, tls_messages
from .authority import Authority, Identity
from .gateway_process import Eastgate
from .hellos import client_hello
from .outlier_mesh import outlier_detection
from .recordings import CDS, EDS, LDS, SDS, Resources
from .replay_ads import ReplayThread
from .switched_endpoints import SwitchedEndpoints
from .waiting import until

WEB, DEAD, EMPTY, INBOUND = messages.sni("web"), messages.sni("dead"), messages.sni("empty"), "inbound|8080||"
SERVER, CLIENT = "spiffe://cluster.local/ns/test/sa/web", "spiffe://cluster.local/ns/test/sa/caller"
STATS = Filter(name="istio.stats", typed_config=PackedAny(type_url="type.googleapis.com/stats.PluginConfig"))
NODE = {
    "WORKLOAD_NAME": "web-v1",
    "NAMESPACE": "test",
    "ISTIO_VERSION": "1.31.0",
    "SERVICE_ACCOUNT": "web",
}


def _metadata(**istio: object) -> bytes:
    return encode("envoy.config.core.v3.Metadata", {"filter_metadata": {"istio": istio}})


def _cluster(name: str, service: str, **settings: Any) -> bytes:
    found = read("envoy.config.cluster.v3.Cluster", messages.cluster(name, **settings))
    host = f"{service}.test.svc.cluster.local"
    found["metadata"] = _metadata(services=[{"host": host, "name": service, "namespace": "test"}])
    return encode("envoy.config.cluster.v3.Cluster", found)


def _assignment(name: str, endpoints: list[messages.At]) -> bytes:
    """The endpoints, each a workload of its own: P0 in the cluster gke, further ones in anthos."""
    found = read("envoy.config.endpoint.v3.ClusterLoadAssignment", messages.assignment(name, endpoints))
    for group in found.get("endpoints", ()):
        place = "anthos" if group.get("priority") else "gke"
        for number, one in enumerate(group["lb_endpoints"]):
            one["metadata"] = _metadata(workload=f"web-{place}-{number};test;web;v1;{place}")
    return encode("envoy.config.endpoint.v3.ClusterLoadAssignment", found)


class WatchedMesh:
    """``gateway`` has a TLS passthrough listener to three endpoints of WEB (two at P0), one that is dead, one cluster
    without any; and an inbound listener with mutual TLS.
    """

    def __init__(self) -> None:
        self._root = Authority("root")
        self._identity = self._root.issue(SERVER)
        self.endpoints = SwitchedEndpoints(3)
        self.server = ReplayThread(self._resources())
        flags = [f"--meta={key}={value}" for key, value in NODE.items()]
        flags += ["--label=service.istio.io/canonical-name=web", "--cluster-id=gke"]
        self.gateway = Eastgate(self.server.address, "--metrics", "127.0.0.1:0", *flags)
        self.gateway.wait_ready()
        self._context = self._client_context(self._root.issue(CLIENT))
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._talk, daemon=True)

    def at(self, number: int, priority: int = 0) -> messages.At:
        return messages.At(self.endpoints.address(number), priority=priority)

    def _resources(self) -> Resources:
        ejecting = outlier_detection({"consecutive_5xx": 3, "interval": 0.5, "max_ejection_percent": 100})
        with socket.create_server(("127.0.0.1", 0)) as free:
            dead = messages.At(free.getsockname())
        chains = [messages.chain(name, filters=[STATS], max_connect_attempts=1) for name in (WEB, DEAD, EMPTY)]
        plain = messages.plain_chain(INBOUND)
        inbound = FilterChain(filters=[STATS, *plain.filters], transport_socket=tls_messages.downstream())
        listening = Listener.parse(messages.listener([inbound], name="inbound"))
        listening.traffic_direction = TrafficDirection.INBOUND
        return {
            CDS: {
                WEB: _cluster(WEB, "web", outlier_detection=ejecting),
                DEAD: _cluster(DEAD, "dead", outlier_detection=outlier_detection({"enforcing_consecutive_5xx": 0})),
                EMPTY: _cluster(EMPTY, "empty"),
                INBOUND: _cluster(INBOUND, "web"),
            },
            EDS: {
                WEB: _assignment(WEB, [self.at(0), self.at(1), self.at(2, priority=1)]),
                DEAD: _assignment(DEAD, [dead]),
                EMPTY: _assignment(EMPTY, []),
                INBOUND: _assignment(INBOUND, [self.at(0)]),
            },
            LDS: {messages.LISTENER: messages.listener(chains), "inbound": bytes(listening)},
            SDS: tls_messages.secrets(self._identity, self._root.pem),
        }

    def _client_context(self, own: Identity) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        with NamedTemporaryFile() as file:
            file.write(own.chain + own.key)
            file.flush()
            context.load_cert_chain(file.name)
        return context

    @property
    def metrics(self) -> tuple[str, int]:
        def line() -> str:
            return next((one for one in list(self.gateway.lines) if " serving flag=--metrics " in one), "")

        until(line, "metrics are served")
        fields = dict(word.split("=", 1) for word in line().split() if "=" in word)
        return fields["address"], int(fields["port"])

    def connect(self, name: str) -> bytes:
        """The first byte that comes back through the gateway; nothing when it refuses."""
        with socket.create_connection(self.gateway.bound_address(messages.LISTENER), 10) as peer:
            peer.settimeout(10)
            with suppress(ConnectionResetError):
                peer.sendall(client_hello(name))
                return peer.recv(1)
        return b""

    def call_inbound(self) -> bytes:
        """The same of the workload, with mutual TLS."""
        with (
            socket.create_connection(self.gateway.bound_address("inbound"), 10) as plain,
            self._context.wrap_socket(plain) as peer,
        ):
            peer.sendall(b"hello")
            return peer.recv(1)

    def start_traffic(self) -> None:
        """Of all kinds, until `close`."""
        self._thread.start()

    def _talk(self) -> None:
        while not self._ended.wait(0.1):
            for name in (WEB, WEB, DEAD, EMPTY, messages.sni("wab")):
                self.connect(name)
            self.call_inbound()

    def close(self) -> None:
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(20)
        self.gateway.stop()
        self.server.close()
        self.endpoints.close()
