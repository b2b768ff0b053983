"""To which endpoints TLS is spoken: the first match of an endpoint's metadata wins, as in Envoy."""

from typing import Any

from eastgate.xds.message import encode
from eastgate.xds.tls_records import PLAIN, UpstreamTls
from eastgate.xds.tls_settings import tls_settings
from eastgate.xds.upstream_tls import upstream_tls

from .test_tls_settings import socket

ONE, OTHER = socket("UpstreamTlsContext", sni="one"), socket("UpstreamTlsContext", sni="other")
RAW = encode("envoy.config.core.v3.TransportSocket", {"name": "envoy.transport_sockets.raw_buffer"})
ISTIO = {"tlsMode": "istio"}


def match(transport: bytes, wanted: dict[str, Any]) -> bytes:
    message = {"name": "m", "match": wanted, "transport_socket": transport}
    return encode("envoy.config.cluster.v3.Cluster.TransportSocketMatch", message)


def test_istiods_choice() -> None:
    found = upstream_tls({"transport_socket_matches": [match(ONE, ISTIO), match(RAW, {})]})
    assert found == UpstreamTls(mesh=tls_settings(ONE))


def test_one_socket_is_for_all() -> None:
    assert upstream_tls({"transport_socket": ONE}) == UpstreamTls(tls_settings(ONE), tls_settings(ONE))
    assert upstream_tls({"transport_socket": RAW}) == upstream_tls({}) == PLAIN


def test_what_no_match_fits_gets_the_clusters_own() -> None:
    found = upstream_tls({"transport_socket_matches": [match(ONE, ISTIO)], "transport_socket": OTHER})
    assert found == UpstreamTls(tls_settings(ONE), tls_settings(OTHER))
    assert upstream_tls({"transport_socket_matches": [match(ONE, ISTIO)]}) == UpstreamTls(tls_settings(ONE))


def test_the_first_match_wins() -> None:
    found = upstream_tls({"transport_socket_matches": [match(RAW, {}), match(ONE, ISTIO)]})
    assert found == PLAIN


def test_another_match_is_never_taken_for_this_one() -> None:
    found = upstream_tls({"transport_socket_matches": [match(ONE, {"tlsMode": "other"}), match(RAW, {})]})
    assert found.refusal == "transport_socket_matches m: only tlsMode istio is looked for"
    nothing = encode("envoy.config.cluster.v3.Cluster.TransportSocketMatch", {"name": "m"})
    assert upstream_tls({"transport_socket_matches": [nothing]}).refusal.endswith("m: no transport socket")
    both = upstream_tls({"transport_socket_matches": [match(ONE, {**ISTIO, "more": "x"}), match(RAW, {})]})
    assert both.refusal == found.refusal
