"""TLS contexts in Envoy's message classes, with secrets from the ADS; shaped like istiod's."""

from collections.abc import Sequence

from envoy_data_plane.envoy.config.core.v3 import (
    AggregatedConfigSource,
    ApiVersion,
    ConfigSource,
    DataSource,
    TransportSocket,
)
from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import (
    CertificateValidationContext,
    CommonTlsContext,
    CommonTlsContextCombinedCertificateValidationContext,
    DownstreamTlsContext,
    SdsSecretConfig,
    Secret,
    TlsCertificate,
    TlsParameters,
    TlsParametersTlsProtocol,
    UpstreamTlsContext,
)
from envoy_data_plane.envoy.type.matcher.v3 import StringMatcher

from .authority import Identity
from .messages import pack

CERTIFICATE, ROOTS = "default", "ROOTCA"


def sds(name: str) -> SdsSecretConfig:
    source = ConfigSource(ads=AggregatedConfigSource(), resource_api_version=ApiVersion.V3)
    return SdsSecretConfig(name=name, sds_config=source)


def secrets(identity: Identity, roots: bytes) -> dict[str, bytes]:
    """The two secrets of a workload."""
    own = TlsCertificate(
        certificate_chain=DataSource(inline_bytes=identity.chain), private_key=DataSource(inline_bytes=identity.key)
    )
    trust = CertificateValidationContext(trusted_ca=DataSource(inline_bytes=roots))
    return {
        CERTIFICATE: bytes(Secret(name=CERTIFICATE, tls_certificate=own)),
        ROOTS: bytes(Secret(name=ROOTS, validation_context=trust)),
    }


def common(names: Sequence[StringMatcher], protocols: Sequence[str]) -> CommonTlsContext:
    return CommonTlsContext(
        tls_params=TlsParameters(
            tls_minimum_protocol_version=TlsParametersTlsProtocol.TLSv1_2,
            tls_maximum_protocol_version=TlsParametersTlsProtocol.TLSv1_3,
        ),
        alpn_protocols=list(protocols),
        tls_certificate_sds_secret_configs=[sds(CERTIFICATE)],
        combined_validation_context=CommonTlsContextCombinedCertificateValidationContext(
            default_validation_context=CertificateValidationContext(match_subject_alt_names=list(names)),
            validation_context_sds_secret_config=sds(ROOTS),
        ),
    )


def downstream(trust_domain: str = "cluster.local", protocols: Sequence[str] = ("h2", "http/1.1")) -> TransportSocket:
    """What istiod writes into an inbound chain that terminates mesh mTLS."""
    names = [StringMatcher(prefix=f"spiffe://{trust_domain}/")]
    context = DownstreamTlsContext(common_tls_context=common(names, protocols), require_client_certificate=True)
    return TransportSocket(name="envoy.transport_sockets.tls", typed_config=pack(context))


def upstream(server_name: str, *identities: str, protocols: Sequence[str] = ("istio",)) -> TransportSocket:
    """What istiod writes into an outbound cluster for endpoints of the mesh."""
    names = [StringMatcher(exact=one) for one in identities]
    context = UpstreamTlsContext(common_tls_context=common(names, protocols), sni=server_name)
    return TransportSocket(name="envoy.transport_sockets.tls", typed_config=pack(context))
