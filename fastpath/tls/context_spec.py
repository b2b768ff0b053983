"""What a TLS context is made of, as frozen records."""

from collections.abc import Sequence
from typing import Protocol

from eastgate.xds.record import record


class AcceptedName(Protocol):
    """A subject alternative name that is accepted; `eastgate.xds.secret.NameMatch` is one."""

    @property
    def how(self) -> str:
        """exact, prefix, suffix or contains."""

    @property
    def value(self) -> str:
        """What to compare with."""

    @property
    def kind(self) -> str:
        """URI, DNS, or empty for either."""

    @property
    def ignore_case(self) -> bool:
        """Whether letters match in either case."""


@record
class ContextSpec:
    """One side of TLS. ``chain``, ``private_key``, ``roots``: PEM. ``names``: one must match a name of the peer's
    certificate where there are any. ``requires_certificate``: a server refuses clients without one. ``protocols``:
    what a client offers, or a server chooses from in its own order. Versions are "1.2" or "1.3"; empty ciphers: Istio's
    list. ``resumes``: sessions may be resumed. ``strict_end``: a FIN without close_notify is a fault at a record's end
    too.
    """

    is_server: bool
    chain: bytes = b""
    private_key: bytes = b""
    roots: bytes = b""
    names: Sequence[AcceptedName] = ()
    requires_certificate: bool = False
    protocols: tuple[str, ...] = ()
    server_name: str = ""
    minimum_version: str = "1.2"
    maximum_version: str = "1.3"
    ciphers: str = ""
    groups: str = ""
    resumes: bool = True
    strict_end: bool = False

    def __repr__(self) -> str:
        return f"ContextSpec({'server' if self.is_server else 'client'}, server_name={self.server_name!r})"
