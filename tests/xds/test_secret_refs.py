"""Names of secrets in transport sockets, and where they are asked for."""

from typing import Any

from eastgate.xds.config_source import ADS, source_of
from eastgate.xds.decode import decode_cluster, decode_listener
from eastgate.xds.message import encode
from eastgate.xds.secret_refs import secret_refs
from eastgate.xds.tls_records import SecretRef

from . import istiod as build

TLS = "envoy.extensions.transport_sockets.tls.v3."
AGENT = {"api_config_source": {"grpc_services": [{"envoy_grpc": {"cluster_name": "sds-grpc"}}]}}
OVER_ADS = {"ads": b""}


def sds(name: str, config: Any = AGENT) -> bytes:
    return encode(TLS + "SdsSecretConfig", {"name": name, **({} if config is None else {"sds_config": config})})


def socket(context: str = "DownstreamTlsContext", **common: Any) -> bytes:
    config = {
        "@type": f"type.googleapis.com/{TLS}{context}",
        "common_tls_context": encode(TLS + "CommonTlsContext", common),
    }
    name = "envoy.transport_sockets.tls"
    return encode("envoy.config.core.v3.TransportSocket", {"name": name, "typed_config": config})


WORKLOAD = {
    "tls_certificate_sds_secret_configs": [sds("default")],
    "combined_validation_context": {"validation_context_sds_secret_config": sds("ROOTCA")},
}
REFS = (SecretRef("default", "cluster:sds-grpc"), SecretRef("ROOTCA", "cluster:sds-grpc"))


def test_names_in_the_order_of_their_use() -> None:
    assert secret_refs(socket(**WORKLOAD)) == secret_refs(socket("UpstreamTlsContext", **WORKLOAD)) == REFS
    gateway = socket(
        tls_certificate_sds_secret_configs=[sds("kubernetes://web", OVER_ADS), sds("kubernetes://api", OVER_ADS)],
        validation_context_sds_secret_config=sds("kubernetes://web-cacert", OVER_ADS),
    )
    assert secret_refs(gateway) == (
        SecretRef("kubernetes://web", ADS),
        SecretRef("kubernetes://api", ADS),
        SecretRef("kubernetes://web-cacert", ADS),
    )


def test_sockets_without_secrets() -> None:
    raw = {"@type": "type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer", "@value": b""}
    assert secret_refs(encode("envoy.config.core.v3.TransportSocket", {"name": "raw", "typed_config": raw})) == ()
    assert secret_refs(socket()) == secret_refs(b"") == ()


def test_sources() -> None:
    assert source_of(None) == "static"
    assert source_of({"path_config_source": b""}) == source_of({"path": "/x"}) == "path"
    assert source_of({"api_config_source": {"grpc_services": [{"google_grpc": b""}]}}) == "other"
    assert source_of({"self": b""}) == source_of({}) == "other"


def test_clusters_and_chains_say_what_they_would_need() -> None:
    match = encode(
        "envoy.config.cluster.v3.Cluster.TransportSocketMatch",
        {"name": "tlsMode-istio", "transport_socket": socket("UpstreamTlsContext", **WORKLOAD)},
    )
    assert decode_cluster(build.cluster("a", transport_socket_matches=[match, match])).secrets == REFS
    assert decode_cluster(build.cluster("a", transport_socket=socket(**WORKLOAD))).secrets == REFS
    assert decode_cluster(build.cluster("a")).secrets == ()
    listener = decode_listener(build.listener("l", [build.chain("a", transport_socket=socket(**WORKLOAD))]))[0]
    assert listener.filter_chains[0].secrets == REFS
    tls = listener.filter_chains[0].tls
    assert tls is not None
    assert (tls.certificate, tls.roots) == REFS
