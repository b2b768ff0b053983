"""A pair of sidecars whose listeners have an address of each family, as istiod writes them for a dual-stack mesh.

Nothing is redirected (INTERCEPTION_MODE NONE): `eastgate sidecar` stands where the client asks for the service, and
`eastgate-envoy`, in a pod in small, where the endpoint is. Both bind loopback and have no privilege. Between them is
mesh mTLS, on IPv4 and on IPv6; the server's application has an address of each.
"""

import json
import os
import socket
import ssl
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from envoy_data_plane.envoy.config.core.v3 import CidrRange, TrafficDirection
from envoy_data_plane.envoy.config.listener.v3 import AdditionalAddress, FilterChain, FilterChainMatch, Listener

from ..support import messages, tls_messages
from ..support.authority import Authority
from ..support.free_ports import free_ports
from ..support.gateway_process import EASTGATE, Eastgate, ProxyProcess
from ..support.pilot_agent import InEnvoysPlace, Pod
from ..support.recordings import CDS, EDS, LDS, SDS, Resources
from ..support.replay_ads import ReplayThread
from ..support.upstreams import Upstreams, reached, reached_by
from ..support.waiting import until

V4, V6 = "127.0.0.1", "::1"
SERVICE = "outbound|80||echo.shop.svc.cluster.local"
CLIENT, SERVER = "spiffe://cluster.local/ns/shop/sa/client", "spiffe://cluster.local/ns/shop/sa/echo"
ROOT = Authority("root")
WITHOUT_PRIVILEGE = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs", "--"]
NODE = "sidecar~127.0.0.1~client.shop~shop.svc.cluster.local"


class Sidecar(Eastgate):
    kind = "eastgate sidecar"

    def __init__(self, discovery: str, log: Path) -> None:
        command = [EASTGATE, "sidecar", "--discovery", discovery, "--admin", "127.0.0.1:0", "--drain-time", "0"]
        command += ["--node-id", NODE, "--meta", "INTERCEPTION_MODE=NONE", "--access-log", str(log)]
        # Each worker takes endpoints in turn by itself.
        command += ["--access-log-format", "json", "--workers", "1"]
        # Root has every capability; whoever else runs this has none.
        ProxyProcess.__init__(self, [*(WITHOUT_PRIVILEGE if os.geteuid() == 0 else ()), *command])


def dual(port: int, direction: TrafficDirection, chains: list[FilterChain], hosts: tuple[str, ...] = (V4, V6)) -> bytes:
    """A listener of this port at each of these addresses, by the name that istiod gives it: of the first."""
    raw = messages.listener(
        chains, name=f"{hosts[0]}_{port}", host=hosts[0], port=port, tls_inspector=direction.name == "INBOUND"
    )
    made = Listener.parse(raw)
    made.traffic_direction = direction
    made.additional_addresses = [AdditionalAddress(address=messages.address(host, port)) for host in hosts[1:]]
    return bytes(made)


def to_application(name: str, prefix: str, length: int) -> FilterChain:
    """A chain that ends mesh mTLS, of connections to these addresses."""
    made = messages.plain_chain(name)
    ranges = [CidrRange(address_prefix=prefix, prefix_len=length)]
    made.name = name
    made.filter_chain_match = FilterChainMatch(
        prefix_ranges=ranges, transport_protocol="tls", application_protocols=["istio"]
    )
    made.transport_socket = tls_messages.downstream()
    return made


def of_client(service_port: int, inbound_port: int) -> Resources:
    at = [messages.At((V4, inbound_port)), messages.At((V6, inbound_port))]
    found = messages.resources({SERVICE: at})
    cluster = messages.Cluster.parse(found[CDS][SERVICE])
    cluster.transport_socket = tls_messages.upstream("outbound_.80_._.echo.shop.svc.cluster.local", SERVER)
    listener = dual(service_port, TrafficDirection.OUTBOUND, [messages.plain_chain(SERVICE)])
    return {
        CDS: {SERVICE: bytes(cluster)},
        EDS: found[EDS],
        LDS: {f"{V4}_{service_port}": listener},
        SDS: tls_messages.secrets(ROOT.issue(CLIENT), ROOT.pem),
    }


def of_server(inbound_port: int, applications: dict[str, tuple[str, int]]) -> Resources:
    found = messages.resources({name: [messages.At(where)] for name, where in applications.items()})
    chains = [to_application("app4", "127.0.0.0", 8), to_application("app6", V6, 128)]
    listener = dual(inbound_port, TrafficDirection.INBOUND, chains)
    secrets = tls_messages.secrets(ROOT.issue(SERVER), ROOT.pem)
    return {**found, LDS: {f"{V4}_{inbound_port}": listener}, SDS: secrets}


@dataclass
class World:
    istiod: ReplayThread
    client: Sidecar
    server: InEnvoysPlace
    service_port: int
    inbound_port: int
    upstreams: Upstreams
    log: Path

    def at(self, host: str) -> tuple[str, int]:
        """Where an application asks for the service."""
        return host, self.service_port


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    service_port, inbound_port = free_ports(2)
    with ExitStack() as stack:
        upstreams = stack.enter_context(Upstreams())
        applications = {"app4": upstreams.start("app4", V4), "app6": upstreams.start("app6", V6)}
        pod = stack.enter_context(Pod(tmp_path, of_server(inbound_port, applications), {}))
        istiod = stack.enter_context(ReplayThread(of_client(service_port, inbound_port)))
        server = stack.enter_context(pod.proxy())
        client = stack.enter_context(Sidecar(istiod.address, tmp_path / "access.log"))
        client.wait_ready()
        server.wait_ready()
        # Secrets that come by the ADS, as here, do not keep it from being ready.
        until(lambda: all(reached((host, service_port)) for host in (V4, V6)), "certificates are there")
        upstreams.accepted.clear()
        yield World(istiod, client, server, service_port, inbound_port, upstreams, tmp_path / "access.log")


def listed(proxy: ProxyProcess, name: str) -> list[tuple[str, int]]:
    """Addresses of a listener in /listeners, the first one and the others."""

    def of(address: dict[str, Any]) -> tuple[str, int]:
        return address["socket_address"]["address"], address["socket_address"]["port_value"]

    found = [one for one in proxy.json("/listeners?format=json")["listener_statuses"] if one["name"] == name]
    return [of(at) for one in found for at in (one["local_address"], *one.get("additional_local_addresses", ()))]


def test_clients_of_both_families_are_served_over_both(world: World) -> None:
    assert "CapEff:\t0000000000000000" in Path(f"/proc/{world.client.pid}/status").read_text()
    total, sealed = f"listener.{V4}_{world.service_port}.downstream_cx_total", f"cluster.{SERVICE}.ssl.handshake"
    before, sealed_before, served = world.client.stat(total), world.client.stat(sealed), Counter[str]()
    for host in (V4, V6):
        served += reached_by(world.at(host), 20)
    # Endpoints in turn, whichever the client's own family is.
    assert served == {"app4": 20, "app6": 20}
    # Each application is dialled in its own family, by the server's sidecar.
    assert set(world.upstreams.peers) == {("app4", V4), ("app6", V6)}
    assert (world.client.stat(total) - before, world.client.stat(sealed) - sealed_before) == (40, 40)
    active = f"listener.{V4}_{world.inbound_port}.downstream_cx_active"
    until(lambda: world.server.stat(active) == 0, "all of them have ended")
    for proxy, port in ((world.client, world.service_port), (world.server, world.inbound_port)):
        assert sorted(listed(proxy, f"{V4}_{port}")) == sorted([(V4, port), (V6, port)])


def asked(client: socket.socket) -> bytes:
    client.sendall(b"who is it\n")
    return client.recv(100)


def test_the_access_log_names_addresses_of_both_families(world: World) -> None:
    clients = {}
    for host in (V4, V6) * 2:
        with socket.create_connection(world.at(host), 10) as client:
            assert asked(client)
            clients[written(host, client.getsockname()[1])] = written(*world.at(host))

    def found() -> list[dict[str, str]]:
        lines = map(json.loads, world.log.read_text().splitlines())
        return [line for line in lines if line["downstream_remote_address"] in clients]

    until(lambda: len(found()) == 4, "all of them are written")
    assert {line["downstream_remote_address"]: line["downstream_local_address"] for line in found()} == clients
    endpoints = [written(host, world.inbound_port) for host in (V4, V6)]
    assert Counter(line["upstream_host"] for line in found()) == dict.fromkeys(endpoints, 2)


def written(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def answer(world: World, host: str, context: ssl.SSLContext | None) -> bytes:
    """What somebody is told who goes past the client's sidecar."""
    try:
        with socket.create_connection((host, world.inbound_port), 10) as plain:
            if context is None:
                return asked(plain)
            with context.wrap_socket(plain) as stranger:
                return asked(stranger)
    except (ConnectionError, ssl.SSLError):
        return b""


def test_plain_text_and_strangers_are_refused_in_both_families(world: World, tmp_path: Path) -> None:
    stranger, known = (ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) for _ in range(2))
    for context in (stranger, known):
        context.load_verify_locations(cadata=ROOT.pem.decode())
        context.check_hostname = False
        context.set_alpn_protocols(["istio"])
    identity = ROOT.issue(CLIENT)
    (tmp_path / "chain.pem").write_bytes(identity.chain)
    (tmp_path / "key.pem").write_bytes(identity.key)
    known.load_cert_chain(tmp_path / "chain.pem", tmp_path / "key.pem")
    for host, application in ((V4, b"app4\n"), (V6, b"app6\n")):
        assert [answer(world, host, context) for context in (None, stranger, known)] == [b"", b"", application]


def test_a_family_that_leaves_is_closed_and_the_other_serves_on(world: World) -> None:
    with socket.create_connection(world.at(V4), 10) as held:
        first = asked(held)
        only4 = dual(world.service_port, TrafficDirection.OUTBOUND, [messages.plain_chain(SERVICE)], (V4,))
        world.istiod.push_some(LDS, {f"{V4}_{world.service_port}": only4})
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(world.at(V6), 10).close()
        assert reached(world.at(V4))
        both = dual(world.service_port, TrafficDirection.OUTBOUND, [messages.plain_chain(SERVICE)])
        world.istiod.push_some(LDS, {f"{V4}_{world.service_port}": both})
        assert {reached(world.at(host)) for host in (V4, V6) * 2} == {"app4", "app6"}
        assert asked(held) == first
