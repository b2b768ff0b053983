"""TLS contexts of the fast path from what listeners and clusters ask for and the secrets that are accepted now.

A context is built once for each combination and kept while somebody may ask again; a rotation of a secret makes new
ones, and connections keep what they began with.
"""

from collections.abc import Mapping
from dataclasses import replace

from eastgate.fastpath.tls.context import Context, TlsContextError
from eastgate.fastpath.tls.context_spec import ContextSpec
from eastgate.xds.record import record
from eastgate.xds.resources import Cluster, Listener
from eastgate.xds.secret import Secret
from eastgate.xds.tls_records import SecretRef, TlsSettings


@record
class TlsUse:
    """What a chain or a cluster does with TLS. Exactly one is there: a context, or why its connections are refused.

    ``waits``: for a secret that has not been accepted yet, so that it is warming and not wrong.
    """

    context: Context | None = None
    closed: str = ""
    waits: bool = False


@record
class ClusterTls:
    """With what TLS endpoints are spoken to: those of the mesh, and all others; None for plain text."""

    mesh: TlsUse | None = None
    others: TlsUse | None = None


PLAIN_TEXT = ClusterTls()


class TlsContexts:
    """Contexts by settings and secrets. Control thread only. ``resumes`` and ``strict_end``: see ContextSpec."""

    def __init__(self, *, resumes: bool = True, strict_end: bool = False) -> None:
        self._resumes, self._strict_end = resumes, strict_end
        self._built: dict[tuple[TlsSettings, bytes, bytes], TlsUse] = {}
        self._asked: dict[tuple[TlsSettings, bytes, bytes], TlsUse] = {}

    def use(self, settings: TlsSettings, secrets: Mapping[SecretRef, Secret]) -> TlsUse:
        """The context for these settings, or why there is none."""
        if settings.refusal:
            return TlsUse(closed=settings.refusal)
        found = []
        for ref in (settings.certificate, settings.roots):
            secret = secrets.get(ref) if ref is not None else None
            if ref is not None and secret is None:
                return TlsUse(closed=f"secret {ref.name} has not arrived", waits=True)
            found.append(secret)
        certificate, roots = found
        key = (settings, certificate.digest if certificate else b"", roots.digest if roots else b"")
        if key not in self._asked:
            self._asked[key] = self._built.get(key) or self._build(settings, certificate, roots)
        return self._asked[key]

    def of_cluster(self, cluster: Cluster, secrets: Mapping[SecretRef, Secret]) -> ClusterTls:
        """How a cluster's endpoints are spoken to."""
        spoken = cluster.upstream_tls
        if not spoken.settings:
            return PLAIN_TEXT
        return ClusterTls(*(None if one is None else self.use(one, secrets) for one in (spoken.mesh, spoken.others)))

    def of_listener(self, listener: Listener, secrets: Mapping[SecretRef, Secret]) -> tuple[TlsUse | None, ...]:
        """What a listener's chains terminate, in their order, the default chain last."""
        chains = [*listener.filter_chains, *filter(None, (listener.default_filter_chain,))]
        return tuple(None if one.tls is None else self.use(one.tls, secrets) for one in chains)

    def forget_unasked(self) -> None:
        """Called when every chain and cluster has asked: what none of them asked for since the last call goes."""
        self._built, self._asked = self._asked, {}

    def _build(self, settings: TlsSettings, certificate: Secret | None, roots: Secret | None) -> TlsUse:
        for secret in (certificate, roots):
            if secret is not None and secret.refusal:
                return TlsUse(closed=f"secret {secret.name}: {secret.refusal}")
        if certificate is not None and certificate.tls_certificate is None:
            return TlsUse(closed=f"secret {certificate.name} holds no certificate")
        if roots is not None and roots.validation_context is None:
            return TlsUse(closed=f"secret {roots.name} holds nothing to trust")
        try:
            spec = _spec(settings, certificate, roots)
            return TlsUse(Context.build(replace(spec, resumes=self._resumes, strict_end=self._strict_end)))
        except TlsContextError as error:
            return TlsUse(closed=str(error))


def _spec(settings: TlsSettings, certificate: Secret | None, roots: Secret | None) -> ContextSpec:
    own = certificate.tls_certificate if certificate else None
    trust = roots.validation_context if roots else None
    return ContextSpec(
        is_server=settings.is_server,
        chain=own.chain if own else b"",
        private_key=own.private_key.pem() if own else b"",
        roots=trust.trusted_ca if trust else b"",
        names=(*settings.names, *(trust.match_names if trust else ())),
        requires_certificate=settings.requires_certificate,
        protocols=settings.protocols,
        server_name=settings.server_name,
        minimum_version=settings.minimum_version,
        maximum_version=settings.maximum_version,
        ciphers=":".join(settings.ciphers),
        groups=":".join(settings.groups),
    )
