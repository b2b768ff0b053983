"""Roles: what a proxy is to istiod, and what it asks for."""

from dataclasses import FrozenInstanceError
from types import MappingProxyType

import pytest
from eastgate.fastpath.loop.cluster_slots import ClusterSlots
from eastgate.fastpath.match.facts import Observed
from eastgate.fastpath.reason import Reason
from eastgate.proxy.compile.compiler import Compiler
from eastgate.proxy.errors import SettingsError
from eastgate.proxy.given import given
from eastgate.proxy.role import GATEWAY, SIDECAR, Role
from eastgate.proxy.settings import parse_node_id, resolve
from eastgate.xds.resources import FilterChain, FilterChainMatch, Listener, Snapshot


@pytest.mark.parametrize(("role", "node_type"), [(GATEWAY, "router"), (SIDECAR, "sidecar")])
def test_node_id_is_that_of_the_role(role: Role, node_type: str) -> None:
    assert role.node_type == node_type
    assert parse_node_id("--node-id", f"{node_type}~10.0.0.1~pod.ns~ns.svc.cluster.local", role).pod == "pod"
    other = "sidecar" if role is GATEWAY else "router"
    with pytest.raises(SettingsError, match=f"a {role.command}'s node type is {node_type}, not '{other}'"):
        parse_node_id("--node-id", f"{other}~10.0.0.1~pod.ns~ns.svc.cluster.local", role)


def test_a_sidecar_is_not_in_the_root_namespace_unless_told() -> None:
    def place(role: Role, **more: str) -> tuple[str, str]:
        settings = resolve(given({"discovery": ["127.0.0.1:15010"], **more}), role)
        return settings.namespace, settings.workload.name

    assert place(GATEWAY)[0] == "istio-system"
    assert place(SIDECAR) == ("default", "spiffe://cluster.local/ns/default/sa/default")
    assert place(SIDECAR, namespace="shop") == ("shop", "spiffe://cluster.local/ns/shop/sa/default")


def test_gateway_asks_only_for_what_is_routed() -> None:
    assert GATEWAY.routed_only
    assert not SIDECAR.routed_only


def test_a_sidecar_asks_for_endpoints_of_all_networks_unless_told() -> None:
    def view(role: Role, **more: str) -> tuple[str, ...]:
        return resolve(given({"discovery": ["127.0.0.1:15010"], "network": "n1", **more}), role).network_view

    assert (view(GATEWAY), view(SIDECAR)) == (("n1",), ())
    assert view(SIDECAR, network_view="n1,n2") == ("n1", "n2")
    assert view(GATEWAY, network_view="") == ()


@pytest.mark.parametrize("role", [GATEWAY, SIDECAR])
def test_only_a_gateway_guards_the_names_of_mesh_services(role: Role) -> None:
    # As a client of the mesh comes to a sidecar's inbound port, whose chains name nobody.
    inbound = FilterChain("inbound", FilterChainMatch(transport_protocol="tls"), clusters=(("inbound|8080||", 1),))
    compiler = Compiler(ClusterSlots(8), guards_names=role.guards_names)
    one = Listener("virtualInbound", (("0.0.0.0", 15006),), (inbound,))
    compiler.apply(Snapshot(listeners=MappingProxyType({one.name: one})))
    client = Observed(server_name="outbound_.80_._.a.b.svc.cluster.local", application_protocols=["istio"])
    found = compiler.listeners[one.name].routes.match(client)
    assert found == (-Reason.UNKNOWN_SERVER_NAME if role is GATEWAY else 0)


def test_role_does_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        GATEWAY.node_type = "sidecar"  # type: ignore[misc]
