"""How a gRPC channel to a control plane is made: the only place that knows addresses and credentials."""

from typing import Protocol

import grpc
from grpc import aio

# istiod refuses clients that ping more often than once in 15 s; pilot-agent uses these numbers.
KEEPALIVE_TIME_S = 30
KEEPALIVE_TIMEOUT_S = 10
_UNLIMITED = -1

OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_receive_message_length", _UNLIMITED),
    ("grpc.keepalive_time_ms", KEEPALIVE_TIME_S * 1000),
    ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_S * 1000),
    # What ends the connection: gRPC's core waits this long for an answer to a ping, a minute unless told, whatever
    # keepalive_timeout says (seen with grpcio 1.85).
    ("grpc.http2.ping_timeout_ms", KEEPALIVE_TIMEOUT_S * 1000),
    ("grpc.keepalive_permit_without_calls", 0),
    ("grpc.http2.max_pings_without_data", 0),
    # One reconnect policy is enough: the caller's.
    ("grpc.enable_retries", 0),
    # Channels to one address must not share a connection that is just being given up.
    ("grpc.use_local_subchannel_pool", 1),
)

# pilot-agent's SDS has gRPC's own limit: pings more often than once in 5 minutes end the connection. A process on the
# other side of a Unix socket is seen to end without pings.
QUIET_OPTIONS = tuple(option for option in OPTIONS if "keepalive" not in option[0])


class ChannelFactory(Protocol):
    """Opens a channel to an address. Called once per connection attempt, so credentials may be read anew each time."""

    def __call__(self, address: str) -> aio.Channel: ...


def plaintext(address: str) -> aio.Channel:
    """A channel without credentials to `host:port` or `unix:path`, as on istiod's port 15010."""
    return aio.insecure_channel(address, options=list(OPTIONS))


def without_pings(address: str) -> aio.Channel:
    """As `plaintext`, for a server of the same machine."""
    return aio.insecure_channel(address, options=list(QUIET_OPTIONS))


def with_credentials(credentials: grpc.ChannelCredentials, *, server_name: str = "") -> ChannelFactory:
    """A factory of TLS channels; `server_name` is what the certificate must say, empty for the dialled host."""
    options = list(OPTIONS)
    if server_name:
        options.append(("grpc.ssl_target_name_override", server_name))  # type: ignore[arg-type]

    def open_channel(address: str) -> aio.Channel:
        return aio.secure_channel(address, credentials, options=options)

    return open_channel
