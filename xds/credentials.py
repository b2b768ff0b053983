"""What istiod asks for on port 15012: trust in its root, our token or certificate, our cluster.

Files are read at each connection: Kubernetes rotates the token file in place, pilot-agent the
certificates.
"""

import ssl
from collections.abc import Sequence

import grpc
from grpc import aio

from .channel import plaintext, with_credentials
from .errors import XdsError
from .record import record

UNIX_PREFIX = "unix:"


@record(kw_only=True)
class Credentials:
    """Paths of files, empty for none. Without ``root_cert`` channels are plaintext, and nothing secret is sent.

    ``token``: a bearer token; ``client_cert`` and ``client_key`` go together; ``cluster_id``: sent as ClusterID, by
    which istiod knows whose token it is; ``server_name``: what its certificate must say, empty for the dialled host.
    """

    root_cert: str = ""
    token: str = ""
    client_cert: str = ""
    client_key: str = ""
    cluster_id: str = ""
    server_name: str = ""

    def check(self) -> None:
        """Read every file once. Raises XdsError(field, path, reason) for what cannot be used or does not match."""
        if not self.root_cert:
            for field, path in (
                ("token", self.token),
                ("client_cert", self.client_cert),
                ("client_key", self.client_key),
            ):
                if path:
                    raise XdsError(field, path, "it would be sent over plaintext: istiod's root certificate is missing")
            return
        try:
            root = _read("root_cert", self.root_cert).decode("ascii")
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=root)
        except (ssl.SSLError, ValueError):
            raise XdsError("root_cert", self.root_cert, "it holds no PEM certificate") from None
        if self.token:
            self._read_token()
        if bool(self.client_cert) != bool(self.client_key):
            field, other = ("client_cert", "client_key") if self.client_cert else ("client_key", "client_cert")
            raise XdsError(field, self.client_cert or self.client_key, f"{other} is missing: they go together")
        if self.client_cert:
            for field, path in (("client_cert", self.client_cert), ("client_key", self.client_key)):
                _read(field, path)
            try:
                ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(
                    self.client_cert, self.client_key, password=_none
                )
            except (ssl.SSLError, ValueError, OSError) as error:
                reason = getattr(error, "reason", None) or str(error)
                raise XdsError(
                    "client_cert", self.client_cert, f"no certificate of {self.client_key}: {reason}"
                ) from None

    def open_channel(self, address: str) -> aio.Channel:
        """A channel with these credentials; a Unix socket has none: pilot-agent adds its own. Raises XdsError."""
        if not self.root_cert or address.startswith(UNIX_PREFIX):
            return plaintext(address)
        credentials = grpc.ssl_channel_credentials(
            _read("root_cert", self.root_cert),
            _read("client_key", self.client_key) if self.client_key else None,
            _read("client_cert", self.client_cert) if self.client_cert else None,
        )
        return with_credentials(credentials, server_name=self.server_name)(address)

    def metadata(self, address: str) -> Sequence[tuple[str, str]]:
        """What goes with each stream to this address, as pilot-agent sends it. Raises XdsError."""
        sent = [("clusterid", self.cluster_id)] if self.cluster_id else []
        if self.token and self.root_cert and not address.startswith(UNIX_PREFIX):
            sent.append(("authorization", f"Bearer {self._read_token()}"))
        return sent

    def _read_token(self) -> str:
        try:
            token = _read("token", self.token).decode("ascii").strip()
        except ValueError:
            token = ""
        if not token or any(character.isspace() for character in token):
            raise XdsError("token", self.token, "it holds no token")
        return token


def _read(field: str, path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise XdsError(field, path, f"cannot be read: {error.strerror}") from None


def _none() -> str:
    # Without it OpenSSL asks for the password of an encrypted key on the terminal.
    return ""
