"""HTTP connection managers: which of their filters serve, which close the chain by name."""

from typing import Any

import pytest
from eastgate.xds.decode_http import http_manager
from eastgate.xds.message import encode, read
from eastgate.xds.rbac import RbacFilter, Rules
from eastgate.xds.resources import HttpManager

from ..support.encoded import field

MANAGER = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
URL = "type.googleapis.com/"
HTTP = URL + "envoy.extensions.filters.http."
ROUTER = {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{HTTP}router.v3.Router", "@value": b""}}


def http_filter(name: str, kind: str, value: bytes = b"", **fields: Any) -> dict[str, Any]:
    return {"name": name, "typed_config": {"@type": kind, "@value": value}, **fields}


def manager(*filters: dict[str, Any], **fields: Any) -> HttpManager:
    message = {"stat_prefix": "x", "http_filters": [*filters, ROUTER], **fields}
    return http_manager(read(MANAGER, encode(MANAGER, message)))[0]


def test_nothing_but_a_router_serves():
    assert manager() == HttpManager()


INERT = [
    http_filter("istio.stats", URL + "stats.PluginConfig", b"0\1"),
    http_filter("envoy.filters.http.grpc_stats", f"{HTTP}grpc_stats.v3.FilterConfig", b"\x08\1"),
    http_filter("envoy.filters.http.fault", f"{HTTP}fault.v3.HTTPFault"),
    http_filter("envoy.filters.http.cors", f"{HTTP}cors.v3.Cors"),
    http_filter(
        "istio.metadata_exchange",
        URL + "udpa.type.v1.TypedStruct",
        field(1, (URL + "io.istio.http.peer_metadata.Config").encode()),
    ),
    http_filter("envoy.filters.http.lua", f"{HTTP}lua.v3.Lua", disabled=True),
]


@pytest.mark.parametrize("inert", INERT, ids=lambda one: one["name"])
def test_what_decides_nothing_is_inert(inert: dict[str, Any]):
    assert manager(inert) == HttpManager()


CLOSING = [
    http_filter("envoy.filters.http.jwt_authn", f"{HTTP}jwt_authn.v3.JwtAuthentication"),
    http_filter("envoy.filters.http.ext_authz", f"{HTTP}ext_authz.v3.ExtAuthz"),
    http_filter("envoy.filters.http.lua", f"{HTTP}lua.v3.Lua"),
    http_filter("envoy.filters.http.fault", f"{HTTP}fault.v3.HTTPFault", b"\x0a\0"),
    http_filter("istio.stats", f"{HTTP}wasm.v3.Wasm"),
    http_filter("x", URL + "udpa.type.v1.TypedStruct", field(1, f"{HTTP}ext_authz.v3.ExtAuthz".encode())),
    {"name": "envoy.filters.http.router"},
]


@pytest.mark.parametrize("closing", CLOSING, ids=lambda one: one["name"])
def test_what_may_decide_closes_by_name(closing: dict[str, Any]):
    assert closing["name"] in manager(closing).refusal


def test_a_filter_by_ecds_closes():
    assert "ECDS" in manager({"name": "x", "config_discovery": b""}).refusal


def test_policies_become_policies_of_http():
    policy = {"@type": f"{HTTP}rbac.v3.RBAC", "rules": {"action": "DENY"}}
    found = manager({"name": "rbac", "typed_config": policy}, {"name": "rbac", "typed_config": policy})
    assert found.policies == (RbacFilter(Rules("DENY", ()), is_http=True),) * 2
    assert found.refusal == ""


def test_istios_alpn_filter_is_seen():
    alpn = http_filter("istio.alpn", URL + "istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig", b"\x0a\0")
    assert manager(alpn) == HttpManager(sets_alpn=True)


def test_how_hosts_and_paths_are_compared():
    assert manager(strip_any_host_port=True).ignores_port
    assert manager(normalize_path=True).normalizes_path
    assert manager(merge_slashes=True).normalizes_path
    assert "strip_matching_host_port" in manager(strip_matching_host_port=True).refusal


def test_what_it_would_change_is_a_warning():
    message = {"stat_prefix": "x", "http_filters": [ROUTER], "via": "me"}
    found, warnings = http_manager(read(MANAGER, encode(MANAGER, message)))
    assert (found.refusal, warnings) == ("", ("http_connection_manager.via: headers are not changed",))


def test_unknown_fields_close():
    found, _ = http_manager(read(MANAGER, encode(MANAGER, {"stat_prefix": "x"}) + b"\xc8\x3e\x01"))
    assert "unknown fields" in found.refusal
