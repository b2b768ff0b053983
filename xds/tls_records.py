"""What transport sockets say of TLS, as records. Reads nothing."""

from typing import NamedTuple

from .config_source import ADS, FETCH_TIMEOUT_S
from .record import record


class SecretRef(NamedTuple):
    """A secret by name, and where it is to be asked for: what config_source.source_of says. Two that have both alike
    are one secret.

    ``fetch_timeout_s``: how long a process that starts waits for the first one, 0 for as long as it takes.
    """

    name: str
    source: str = ADS
    fetch_timeout_s: float = FETCH_TIMEOUT_S

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SecretRef) and self[:2] == other[:2]

    def __hash__(self) -> int:
        return hash(self[:2])


@record
class NameMatch:
    """One accepted subject alternative name. ``kind``: DNS, URI, EMAIL, IP_ADDRESS, or empty for any;
    ``how``: exact, prefix, suffix, contains or safe_regex.
    """

    how: str
    value: str
    kind: str = ""
    ignore_case: bool = False


@record
class TlsSettings:
    """One side of TLS. ``certificate`` and ``roots``: secrets to use, None for none. ``names``: names that the peer's
    certificate may have, beside those of the roots' secret. ``protocols``: ALPN. Versions are "1.2" or "1.3".
    """

    is_server: bool
    certificate: SecretRef | None = None
    roots: SecretRef | None = None
    names: tuple[NameMatch, ...] = ()
    protocols: tuple[str, ...] = ()
    server_name: str = ""
    requires_certificate: bool = False
    minimum_version: str = "1.2"
    maximum_version: str = "1.3"
    ciphers: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    refusal: str = ""
    warnings: tuple[str, ...] = ()


@record
class UpstreamTls:
    """``mesh``: how endpoints are spoken to whose metadata says tlsMode istio, ``others``: all others; None for plain
    text. ``refusal``: why neither can be told, empty otherwise.
    """

    mesh: TlsSettings | None = None
    others: TlsSettings | None = None
    refusal: str = ""

    @property
    def settings(self) -> tuple[TlsSettings, ...]:
        """The different ones in use."""
        return tuple(dict.fromkeys(one for one in (self.mesh, self.others) if one is not None))


PLAIN = UpstreamTls()
