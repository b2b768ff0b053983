"""Where clients of a sidecar reach services: listeners by address, shared ports, and those that bind."""

from envoy_data_plane.envoy.config.listener.v3 import Listener
from envoy_data_plane.envoy.extensions.filters.network.tcp_proxy.v3 import TcpProxy

from .sidecars import applied, kind_of, listeners, read, sidecar


def cluster_of(listener: Listener) -> str | None:
    """Where the default of a listener leads, or its only chain."""
    chain = listener.default_filter_chain or listener.filter_chains[0]
    packed = chain.filters[-1].typed_config
    assert packed
    return TcpProxy.parse(packed.value).cluster


def test_each_kind_of_port_has_its_place() -> None:
    mesh = read().mesh
    found = listeners(mesh, sidecar(mesh, "client"))
    assert set(found) == {
        "0.0.0.0_80",  # web and api: HTTP, told apart by host
        "10.9.0.3_5432",
        "10.9.0.4_7000",
        "10.9.0.5_5432",
        "10.1.0.1_9000",  # headless: one for each pod
        "10.1.0.2_9000",
        "virtualOutbound",
        "virtualInbound",
    }
    assert [kind_of(one) for one in found["10.9.0.4_7000"].filter_chains] == ["raw_buffer[http/1.1,h2c] http"]
    assert cluster_of(found["10.9.0.4_7000"]) == "outbound|7000||any.shop.svc.cluster.local"
    assert cluster_of(found["0.0.0.0_80"]) == "PassthroughCluster"


def test_a_pod_is_no_place_for_itself() -> None:
    mesh = read().mesh
    assert "10.1.0.1_9000" not in listeners(mesh, sidecar(mesh, "web-1"))


def test_only_what_is_known_is_reached_under_registry_only() -> None:
    mesh = read(applied("Sidecar", "{outboundTrafficPolicy: {mode: REGISTRY_ONLY}}")).mesh
    found = listeners(mesh, sidecar(mesh, "client"))
    assert cluster_of(found["0.0.0.0_80"]) == "BlackHoleCluster"
    rest = found["virtualOutbound"].filter_chains[1].filters[-1].typed_config
    assert rest
    assert TcpProxy.parse(rest.value).cluster == "BlackHoleCluster"


def test_without_interception_everything_binds_loopback_and_the_first_service_of_a_port_has_it() -> None:
    mesh = read().mesh
    found = listeners(mesh, sidecar(mesh, "client", INTERCEPTION_MODE="NONE"))
    assert set(found) == {f"127.0.0.1_{port}" for port in (80, 5432, 7000, 9000)}
    assert cluster_of(found["127.0.0.1_5432"]) == "outbound|5432||data.shop.svc.cluster.local"
    assert [kind_of(one) for one in found["127.0.0.1_80"].filter_chains] == [" http"]
    assert all(one.bind_to_port is None for one in found.values())


def test_without_privilege_ports_below_1024_are_left_out() -> None:
    mesh = read().mesh
    found = listeners(mesh, sidecar(mesh, "client", INTERCEPTION_MODE="NONE", UNPRIVILEGED_POD="true"))
    assert set(found) == {f"127.0.0.1_{port}" for port in (5432, 7000, 9000)}


def test_the_proxys_own_ports_are_nobody_elses() -> None:
    mesh = read().mesh
    assert "0.0.0.0_80" not in listeners(mesh, sidecar(mesh, "client", ENVOY_STATUS_PORT=80))


EGRESS = """{egress: [
  {port: {number: 19001, protocol: TCP}, bind: 127.0.0.9, captureMode: NONE, hosts: ["./data.shop.svc.cluster.local"]},
  {hosts: ["./web.shop.svc.cluster.local"]}]}"""


def test_a_port_of_a_sidecar_leads_to_the_port_of_a_service_that_has_only_one() -> None:
    spec = EGRESS.replace("19001", "5432")
    mesh = read(applied("Sidecar", spec)).mesh
    found = listeners(mesh, sidecar(mesh, "client"))
    assert set(found) == {"127.0.0.9_5432", "0.0.0.0_80", "virtualOutbound", "virtualInbound"}
    assert found["127.0.0.9_5432"].bind_to_port is None
    assert cluster_of(found["127.0.0.9_5432"]) == "outbound|5432||data.shop.svc.cluster.local"


def test_tcp_beside_a_port_of_unknown_protocol_shares_it() -> None:
    spec = '{egress: [{bind: 127.0.0.9, captureMode: NONE, hosts: ["./*"]}]}'
    more = "  - {name: late, namespace: shop, selector: {app: web}, ports: [{name: tcp, port: 7000}]}\n"
    mesh = read(more, applied("Sidecar", spec)).mesh
    place = listeners(mesh, sidecar(mesh, "client"))["127.0.0.9_7000"]
    # Nobody could tell the second one's connections from the first one's.
    assert cluster_of(place) == "outbound|7000||any.shop.svc.cluster.local"
    assert len(place.filter_chains) == 1
