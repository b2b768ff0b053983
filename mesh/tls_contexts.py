"""Transport sockets: what a client says and accepts, in mesh mTLS or by a rule of its own, and what a server does.

Source of the rules: istio, pilot/pkg/networking/core/cluster_tls.go and pilot/pkg/security/authn/utils.
"""

from collections.abc import Sequence

from envoy_data_plane.envoy.config.core.v3 import DataSource, TransportSocket
from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import (
    CertificateValidationContext,
    CommonTlsContext,
    CommonTlsContextCombinedCertificateValidationContext,
    DownstreamTlsContext,
    SdsSecretConfig,
    TlsParameters,
    TlsParametersTlsProtocol,
    UpstreamTlsContext,
)
from envoy_data_plane.envoy.type.matcher.v3 import StringMatcher

from .endpoints import ClusterKey, endpoint_port
from .istio import ClientTls
from .messages import EXCHANGE_ALPN, from_sds, pack
from .model import Mesh, Service

CERTIFICATE, ROOTS = "default", "ROOTCA"
"""Names under which sidecars ask for their certificate and for those that they trust."""
HTTP2 = frozenset({"http2", "grpc", "grpc-web"})
HTTP_ALPN = ("h2", "http/1.1")
CIPHERS = (
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "AES256-GCM-SHA384",
    "AES128-GCM-SHA256",
)


def client_socket(mesh: Mesh, key: ClusterKey, tls: ClientTls | None) -> TransportSocket:
    """What clients of a cluster do. ``tls``: what its rule says of it."""
    names = list(tls.subject_alt_names) if tls and tls.subject_alt_names else spiffe_ids(mesh, key.service)
    return upstream_socket(
        (tls.sni if tls else "") or key.sni, _client_alpn(mesh, http2=key.port.protocol in HTTP2), names
    )


def origination_socket(mesh: Mesh, key: ClusterKey, tls: ClientTls) -> TransportSocket | None:
    """What clients of a cluster do by modes SIMPLE and MUTUAL of its rule: files, of which agents make secrets.

    None where the rule names a credential instead: to a sidecar istiod sends no socket for it.
    """
    if tls.credential_name:
        return None
    names = tls.subject_alt_names or (spiffe_ids(mesh, key.service) if key.service.is_entry else [])
    common = CommonTlsContext(tls_params=_tls_params(), alpn_protocols=["h2"] if key.port.protocol in HTTP2 else [])
    if tls.mode == "MUTUAL":
        common.tls_certificate_sds_secret_configs = [
            _from_file(f"file-cert:{tls.client_certificate}~{tls.private_key}")
        ]
    if tls.insecure_skip_verify:
        common.validation_context = CertificateValidationContext()
    else:
        common.combined_validation_context = CommonTlsContextCombinedCertificateValidationContext(
            default_validation_context=CertificateValidationContext(
                match_subject_alt_names=[StringMatcher(exact=name) for name in names],
                crl=DataSource(filename=tls.ca_crl) if tls.ca_crl else None,
            ),
            validation_context_sds_secret_config=_from_file(f"file-root:{tls.ca_certificates or 'system'}"),
        )
    return _socket(UpstreamTlsContext(sni=tls.sni, common_tls_context=common))


def _from_file(name: str) -> SdsSecretConfig:
    """A secret that the agent reads from files. Unlike the mesh's own it is not waited for without a limit."""
    source = from_sds()
    source.initial_fetch_timeout = None
    return SdsSecretConfig(name=name, sds_config=source)


def upstream_socket(server_name: str, alpn: list[str], names: list[str]) -> TransportSocket:
    """A client of the mesh, and who it takes for a server."""
    common = _common(alpn, [StringMatcher(exact=name) for name in names])
    return _socket(UpstreamTlsContext(sni=server_name, common_tls_context=common))


def server_socket(mesh: Mesh, *, http: bool) -> TransportSocket:
    """What an inbound chain does: a client must show a certificate of a trust domain of the mesh."""
    exchange = not http and mesh.options.metadata_exchange and mesh.options.metadata_exchange_alpn
    return downstream_socket([*([EXCHANGE_ALPN] if exchange else []), *HTTP_ALPN], mesh.config.trust_domains)


def downstream_socket(alpn: list[str], trust_domains: Sequence[str], *, resumption: bool = True) -> TransportSocket:
    """A server of the mesh, to clients of these trust domains. ``resumption``: it gives them tickets."""
    common = _common(alpn, [StringMatcher(prefix=f"spiffe://{domain}/") for domain in trust_domains])
    assert common.tls_params
    common.tls_params.cipher_suites = list(CIPHERS)
    context = DownstreamTlsContext(common_tls_context=common, require_client_certificate=True)
    if not resumption:
        context.disable_stateless_session_resumption = context.disable_stateful_session_resumption = True
    return _socket(context)


def spiffe_ids(mesh: Mesh, service: Service) -> list[str]:
    """Names that the service's workloads may have in their certificates: those that listen on one of its ports."""
    domain = mesh.config.trust_domain
    own = (
        one.spiffe_id(domain)
        for one in mesh.behind(service)
        if one.service_account and any(endpoint_port(service, one, port) for port in service.ports)
    )
    return sorted({*own, *service.accounts})


def _client_alpn(mesh: Mesh, *, http2: bool) -> list[str]:
    exchange = mesh.options.metadata_exchange and mesh.options.metadata_exchange_alpn
    return [*([EXCHANGE_ALPN] if exchange else []), "istio", *(["h2"] if http2 else [])]


def _common(alpn: list[str], names: list[StringMatcher]) -> CommonTlsContext:
    return CommonTlsContext(
        alpn_protocols=alpn,
        tls_params=_tls_params(),
        tls_certificate_sds_secret_configs=[SdsSecretConfig(name=CERTIFICATE, sds_config=from_sds())],
        combined_validation_context=CommonTlsContextCombinedCertificateValidationContext(
            default_validation_context=CertificateValidationContext(match_subject_alt_names=names),
            validation_context_sds_secret_config=SdsSecretConfig(name=ROOTS, sds_config=from_sds()),
        ),
    )


def _tls_params() -> TlsParameters:
    return TlsParameters(
        tls_minimum_protocol_version=TlsParametersTlsProtocol.TLSv1_2,
        tls_maximum_protocol_version=TlsParametersTlsProtocol.TLSv1_3,
    )


def _socket(context: UpstreamTlsContext | DownstreamTlsContext) -> TransportSocket:
    return TransportSocket(name="envoy.transport_sockets.tls", typed_config=pack(context))
