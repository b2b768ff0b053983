"""Roles: what a proxy is to istiod, and what it asks for."""

from dataclasses import FrozenInstanceError

import pytest
from eastgate.proxy.errors import SettingsError
from eastgate.proxy.role import GATEWAY, SIDECAR, Role
from eastgate.proxy.settings import parse_node_id


@pytest.mark.parametrize(("role", "node_type"), [(GATEWAY, "router"), (SIDECAR, "sidecar")])
def test_node_id_is_that_of_the_role(role: Role, node_type: str) -> None:
    assert role.node_type == node_type
    assert parse_node_id("--node-id", f"{node_type}~10.0.0.1~pod.ns~ns.svc.cluster.local", role).pod == "pod"
    other = "sidecar" if role is GATEWAY else "router"
    with pytest.raises(SettingsError, match=f"a {role.command}'s node type is {node_type}, not '{other}'"):
        parse_node_id("--node-id", f"{other}~10.0.0.1~pod.ns~ns.svc.cluster.local", role)


def test_gateway_asks_only_for_what_is_routed() -> None:
    assert GATEWAY.routed_only
    assert not SIDECAR.routed_only


def test_role_does_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        GATEWAY.node_type = "sidecar"  # type: ignore[misc]
