"""Certificates that came by SDS, in the shapes of Envoy's admin interface. Pure functions; sees no key."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from eastgate.xds.resources import Snapshot
from eastgate.xds.secret import Certificate
from eastgate.xds.secret_store import SecretSnapshot
from eastgate.xds.tls_records import SecretRef

KINDS = ("dns", "uri", "ip_address")


def days_until_first_expires(secrets: SecretSnapshot, now: datetime) -> int | None:
    """Whole days until the first certificate of any secret expires; None while there is none."""
    return min((one.days_left(now) for one in secrets.certificates), default=None)


def seconds_until_own_expires(secrets: SecretSnapshot, now: datetime) -> int | None:
    """Seconds until the first certificate of our own expires, below 0 when it has; None while there is none.

    Certificates of a mesh live for a day, of which whole days say nothing.
    """
    own = (secret.certificates[0] for secret in secrets.secrets.values() if secret.tls_certificate)
    return min((int((one.not_after - now).total_seconds()) for one in own), default=None)


def certs_json(snapshot: Snapshot, secrets: SecretSnapshot, now: datetime) -> dict[str, Any]:
    """envoy.admin.v3.Certificates: one entry for each set of secrets that transport sockets name together.

    Envoy has an entry for each cluster and listener; equal ones are shown once here.
    """
    entries = []
    for refs in sorted(_sets(snapshot)):
        if not secrets.wanted.issuperset(refs):
            continue
        held = [secrets.secrets[ref] for ref in refs if ref in secrets.secrets]
        trusted = [one for secret in held if secret.validation_context for one in secret.certificates]
        # Of a chain Envoy shows the certificate itself.
        own = [secret.certificates[0] for secret in held if secret.tls_certificate]
        if trusted or own:
            entries.append({"ca_cert": list(_shown(trusted, now)), "cert_chain": list(_shown(own, now))})
    return {"certificates": entries}


def _sets(snapshot: Snapshot) -> set[tuple[SecretRef, ...]]:
    chains = (
        chain
        for listener in snapshot.listeners.values()
        for chain in (*listener.filter_chains, listener.default_filter_chain)
        if chain is not None
    )
    named = {chain.secrets for chain in chains} | {cluster.secrets for cluster in snapshot.clusters.values()}
    return named - {()}


def _shown(certificates: Iterable[Certificate], now: datetime) -> Iterator[dict[str, Any]]:
    for one in certificates:
        yield {
            "path": "<inline>",
            "serial_number": one.serial,
            # Envoy goes by kind, and "dns" comes before "uri" before "ip_address" to it.
            "subject_alt_names": [{kind: text} for wanted in KINDS for kind, text in one.names if kind == wanted],
            "days_until_expiration": str(one.days_left(now)),
            "valid_from": _text(one.not_before),
            "expiration_time": _text(one.not_after),
        }


def _text(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def own_principal(secrets: SecretSnapshot) -> str:
    """Our SPIFFE name: the first URI name of our certificate, which is istiod's `default` where there are several.

    Empty without a certificate, or a name of that kind.
    """
    held = {ref.name: secret for ref, secret in secrets.secrets.items() if secret.tls_certificate is not None}
    own = held.get("default") or next(iter(held.values()), None)
    if own is None or not own.certificates:
        return ""
    return next((text for kind, text in own.certificates[0].names if kind == "uri"), "")
