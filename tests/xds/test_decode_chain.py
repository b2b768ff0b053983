"""Chains of real sidecars, and what of their filters is evaluated, inert or closes them."""

from typing import Any

import pytest
from eastgate.xds.decode_chain import decode_chain
from eastgate.xds.decode_listener import decode_listener
from eastgate.xds.rbac import Policy, Predicate, RbacFilter, Rules
from eastgate.xds.resources import FilterChain

from ..support.recordings import LDS, recorded, stages
from .istiod import chain, tcp_proxy

NETWORK = "type.googleapis.com/envoy.extensions.filters.network"
ROLES = ("anthos-sidecar", "gke-sidecar", "anthos-sidecar-echo", "gke-sidecar-echo")
ANY = Predicate("any")


def network_filter(kind: str, message: str = "Config", **config: Any) -> dict[str, Any]:
    name = f"envoy.filters.network.{kind}"
    return {"name": name, "typed_config": {"@type": f"{NETWORK}.{kind}.v3.{message}", **(config or {"@value": b""})}}


def one_chain(*filters: dict[str, Any]) -> FilterChain:
    return decode_chain(chain("c", filters=[*filters, tcp_proxy("c")])).chain


def rbac(**config: Any) -> dict[str, Any]:
    return network_filter("rbac", "RBAC", stat_prefix="tcp.", **config)


def recorded_chains(stage: str, role: str) -> list[tuple[str, FilterChain]]:
    found = []
    for name, raw in recorded(stage, role)[LDS].items():
        listener = decode_listener(raw)[0]
        assert listener.warnings == (), (name, listener.warnings)
        chains = [*listener.filter_chains, *filter(None, (listener.default_filter_chain,))]
        found += [(f"{name}/{each.name}", each) for each in chains]
    return found


@pytest.mark.parametrize("role", ROLES)
def test_every_chain_of_a_real_sidecar_serves(role: str):
    looked_at = 0
    for stage in stages():
        try:
            chains = recorded_chains(stage, role)
        except FileNotFoundError:
            continue
        for name, each in chains:
            assert each.refusal == "", (stage, name)
            assert bool(each.clusters) != (each.http is not None)
            looked_at += 1
    assert looked_at > 40


def test_a_real_policy_stands_on_its_chains():
    policies = {name: each.policies for name, each in recorded_chains("11-strict-authz", "gke-sidecar-echo")}
    found = {name: each for name, each in policies.items() if each}
    assert found
    for (one,) in found.values():
        assert one.rules is not None
        assert (one.rules.action, [policy.name for policy in one.rules.policies]) == (
            "ALLOW",
            ["ns[default]-policy[lab]-rule[0]"],
        )


def test_inspectors_of_a_real_sidecar_leave_out_ports():
    inbound = decode_listener(recorded("1-default", "gke-sidecar-echo")[LDS]["virtualInbound"])[0]
    assert inbound.tls_inspector
    assert inbound.http_inspector
    assert inbound.tls_skipped_ports == inbound.http_skipped_ports == ((15006, 15007),)


def test_policies_are_kept_in_their_order():
    policy = {"permissions": [{"any": True}], "principals": [{"any": True}]}
    found = one_chain(rbac(rules={"action": "DENY", "policies": {"p": policy}}), rbac(rules={}), rbac())
    assert found.refusal == ""
    assert found.policies == (
        RbacFilter(Rules("DENY", (Policy("p", (ANY,), (ANY,)),))),
        # Present and empty lets nobody in; absent is no policy.
        RbacFilter(Rules("ALLOW", ())),
        RbacFilter(None),
    )


def test_a_policy_that_is_not_understood_closes_the_chain():
    raw = {"name": "rbac", "typed_config": {"@type": f"{NETWORK}.rbac.v3.RBAC", "@value": b"\xc8\x3e\x01"}}
    found = one_chain(raw)
    assert "authorization policy" in found.refusal or "unknown fields" in found.refusal
    assert found.clusters == ()


def value(key: str) -> dict[str, Any]:
    return {"object_key": key, "format_string": b""}


def test_filter_state_for_telemetry_is_inert():
    found = one_chain(network_filter("set_filter_state", on_new_connection=[value("io.istio.peer_principal")]))
    assert found.refusal == ""


@pytest.mark.parametrize("place", ["on_new_connection", "on_downstream_tls_handshake"])
@pytest.mark.parametrize("key", ["envoy.tcp_proxy.cluster", "envoy.network.upstream_server_name", ""])
def test_filter_state_that_may_route_closes_the_chain(place: str, key: str):
    setting = network_filter("set_filter_state", **{place: [value("istio.x"), value(key)]})
    assert "would set" in one_chain(setting).refusal
