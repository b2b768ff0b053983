"""TLS of a rule's own, modes SIMPLE and MUTUAL: the sockets of its clusters, and what istiod refuses.

What is expected is what istiod's source writes (pilot/pkg/networking/core/cluster_tls.go).
"""

from typing import Any

import pytest
from eastgate.mesh.errors import MeshError
from eastgate.mesh.messages import CDS
from eastgate.xds.decode_cluster import decode_cluster
from envoy_data_plane.envoy.config.cluster.v3 import Cluster
from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import UpstreamTlsContext
from envoy_data_plane.envoy.extensions.upstreams.http.v3 import HttpProtocolOptions

from .test_control_plane import HOST, MESH, ROUTERS, applied, parse, read, sent

NAME = f"outbound|80||{HOST}"
HTTP2 = MESH.replace("{name: tcp, port: 80", "{name: grpc, port: 80")
ENTRY = """---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: bank}
spec:
  hosts: [bank.example]
  ports: [{number: 443, name: tls, protocol: TLS}]
  resolution: DNS
  subjectAltNames: [spiffe://bank.example/a]
"""


def rule(tls: str, *, host: str = "web", rest: str = "") -> str:
    return applied("DestinationRule", f"{{host: {host}, trafficPolicy: {{tls: {{{tls}}}}}{rest}}}")


def cluster(tls: str, name: str = NAME, **node: Any) -> Cluster:
    return Cluster.parse(sent(read(rule(tls)).mesh, **node)[CDS][name])


def context(found: Cluster) -> UpstreamTlsContext:
    assert found.transport_socket
    assert found.transport_socket.name == "envoy.transport_sockets.tls"
    assert found.transport_socket.typed_config
    assert found.transport_socket_matches == []
    return UpstreamTlsContext.parse(found.transport_socket.typed_config.value)


def secrets(found: UpstreamTlsContext) -> tuple[list[str], str]:
    """Names of certificates and of roots."""
    common = found.common_tls_context
    assert common
    combined = common.combined_validation_context
    roots = combined and combined.validation_context_sds_secret_config
    return [one.name for one in common.tls_certificate_sds_secret_configs], roots.name if roots else ""


def names(found: UpstreamTlsContext) -> list[str]:
    assert found.common_tls_context
    combined = found.common_tls_context.combined_validation_context
    assert combined
    assert combined.default_validation_context is not None
    return [one.exact or "" for one in combined.default_validation_context.match_subject_alt_names]


@pytest.mark.parametrize(
    ("tls", "certificates", "roots"),
    [
        ("mode: SIMPLE", [], "file-root:system"),
        ("mode: SIMPLE, caCertificates: /etc/ca.pem", [], "file-root:/etc/ca.pem"),
        ("mode: MUTUAL, clientCertificate: /c, privateKey: /k", ["file-cert:/c~/k"], "file-root:system"),
        (
            "mode: MUTUAL, clientCertificate: /c, privateKey: /k, caCertificates: /a",
            ["file-cert:/c~/k"],
            "file-root:/a",
        ),
    ],
)
def test_files_are_names_of_secrets(tls: str, certificates: list[str], roots: str) -> None:
    found = cluster(tls)
    assert secrets(context(found)) == (certificates, roots)
    assert found.metadata
    assert found.metadata.filter_metadata["istio"].to_dict()["alpn_override"] == "false"
    # As every proxy of ours reads it.
    assert {ref.name for ref in decode_cluster(bytes(found)).secrets} == {*certificates, roots}


def test_the_socket_is_istiods() -> None:
    found = context(cluster("mode: SIMPLE, sni: web.example, subjectAltNames: [a.example, b.example], caCrl: /crl"))
    common = found.common_tls_context
    assert common
    assert common.combined_validation_context
    validation = common.combined_validation_context.default_validation_context
    assert validation
    assert validation.crl
    assert (found.sni, names(found), validation.crl.filename) == ("web.example", ["a.example", "b.example"], "/crl")
    assert common.alpn_protocols == []
    assert common.tls_params
    assert (common.tls_params.tls_minimum_protocol_version, common.tls_params.tls_maximum_protocol_version) == (3, 4)
    roots = common.combined_validation_context.validation_context_sds_secret_config
    assert roots
    assert roots.sds_config
    assert roots.sds_config.api_config_source
    (service,) = roots.sds_config.api_config_source.grpc_services
    assert service.envoy_grpc
    assert service.envoy_grpc.cluster_name == "sds-grpc"
    # Unlike the mesh's own secrets these are waited for as long as Envoy waits for any.
    assert roots.sds_config.initial_fetch_timeout is None


def test_nothing_is_checked_where_the_rule_says_so() -> None:
    common = context(cluster("mode: SIMPLE, insecureSkipVerify: true")).common_tls_context
    assert common
    assert common.validation_context is not None
    assert common.combined_validation_context is None


def test_http2_says_so() -> None:
    mesh = parse(HTTP2 + rule("mode: SIMPLE"), "mesh.yaml").mesh
    common = context(Cluster.parse(sent(mesh)[CDS][NAME])).common_tls_context
    assert common
    assert common.alpn_protocols == ["h2"]


@pytest.mark.parametrize(
    ("tls", "wanted"),
    [
        ("mode: SIMPLE", (True, True)),
        ("mode: SIMPLE, subjectAltNames: [a.example]", (True, False)),
        ("mode: SIMPLE, insecureSkipVerify: true", (True, False)),
        ("mode: SIMPLE, sni: web.example", None),
        ("mode: ISTIO_MUTUAL", None),
        ("mode: DISABLE", None),
    ],
)
def test_http_asks_by_the_name_of_the_request(tls: str, wanted: tuple[bool, bool] | None) -> None:
    options = cluster(tls).typed_extension_protocol_options
    found = next((HttpProtocolOptions.parse(one.value) for one in options.values()), None)
    http = found and found.upstream_http_protocol_options
    assert (http and (http.auto_sni, http.auto_san_validation)) == wanted
    if found:
        # Envoy takes no options without a version.
        assert found.explicit_http_config


def test_names_of_an_entry_hold_where_the_rule_names_none() -> None:
    mesh = read(ENTRY, rule("mode: SIMPLE", host="bank.example")).mesh
    assert names(context(Cluster.parse(sent(mesh)[CDS]["outbound|443||bank.example"]))) == ["spiffe://bank.example/a"]
    mesh = read(ENTRY, rule("mode: SIMPLE, subjectAltNames: [bank.example]", host="bank.example")).mesh
    assert names(context(Cluster.parse(sent(mesh)[CDS]["outbound|443||bank.example"]))) == ["bank.example"]
    # Names of pods are the mesh's: no rule of its own TLS asks for them.
    assert names(context(cluster("mode: SIMPLE"))) == []


def test_a_subset_has_its_own_word() -> None:
    rest = ", subsets: [{name: v1, labels: {version: v1}, trafficPolicy: {tls: {mode: SIMPLE, caCertificates: /a}}}]"
    clusters = sent(read(rule("mode: ISTIO_MUTUAL", rest=rest)).mesh)[CDS]
    assert secrets(context(Cluster.parse(clusters[f"outbound|80|v1|{HOST}"]))) == ([], "file-root:/a")
    assert secrets(context(Cluster.parse(clusters[NAME]))) == (["default"], "ROOTCA")


def test_clusters_behind_a_server_name_have_no_socket() -> None:
    clusters = sent(read(rule("mode: SIMPLE"), ROUTERS).mesh, kind="router")[CDS]
    assert secrets(context(Cluster.parse(clusters[NAME]))) == ([], "file-root:system")
    dnat = Cluster.parse(clusters[f"outbound_.80_._.{HOST}"])
    assert dnat.transport_socket is None
    assert not dnat.typed_extension_protocol_options


def test_a_credential_is_named_and_makes_no_socket() -> None:
    found = read(rule("mode: SIMPLE, credentialName: bank"))
    assert any("secrets of Kubernetes are not sent" in line for line in found.findings)
    assert Cluster.parse(sent(found.mesh)[CDS][NAME]).transport_socket is None


@pytest.mark.parametrize(
    ("tls", "reason"),
    [
        ("mode: MUTUAL", "needs clientCertificate and privateKey"),
        ("mode: MUTUAL, clientCertificate: /c", "needs clientCertificate and privateKey"),
        ("mode: SIMPLE, credentialName: a, caCertificates: /a", "no files beside it"),
        ("mode: MUTUAL, credentialName: a, privateKey: /a", "no files beside it"),
        ("mode: SIMPLE, insecureSkipVerify: true, caCertificates: /a", "leaves nothing to caCertificates"),
        ("mode: SIMPLE, insecureSkipVerify: true, credentialName: a", "credentialName of mode SIMPLE"),
    ],
)
def test_what_istiod_refuses_is_refused(tls: str, reason: str) -> None:
    with pytest.raises(MeshError, match=reason):
        read(rule(tls))


def test_modes_of_the_mesh_may_name_what_they_do_not_read() -> None:
    assert secrets(context(cluster("mode: ISTIO_MUTUAL, caCertificates: /a"))) == (["default"], "ROOTCA")
