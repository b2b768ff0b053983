"""Filter chains as the fast path wants them: what the control side compiles into a RouteTable."""

from eastgate.fastpath.match.chain_counts import ChainCounts
from eastgate.fastpath.match.http_routes import HttpRoutes
from eastgate.fastpath.match.policy import PolicySet
from eastgate.fastpath.reason import Reason
from eastgate.fastpath.tls.context import Context
from eastgate.xds.record import record

# ALPN values of Istio clients. A connection to an SNI-DNAT name without one of them is refused, whatever the chain
# says: SNI alone is never enough for a mesh service.
ISTIO_ALPN = ("istio", "istio-peer-exchange", "istio-http/1.0", "istio-http/1.1", "istio-h2")
SNI_DNAT_PREFIX = "outbound_."

# Endpoints that a connection tries before it is refused, unless tcp_proxy says otherwise.
DEFAULT_CONNECT_ATTEMPTS = 3
# How long the TLS handshake with a client may take, unless the chain says otherwise; Envoy has no limit then.
DEFAULT_HANDSHAKE_MS = 15_000

Prefix = tuple[bytes, int]
"""Addresses that share their first bits: 4 or 16 bytes in network order, and how many bits. The others are ignored."""

Ports = tuple[tuple[int, int], ...]
"""Half-open ranges of ports, ascending, none next to another."""


@record
class Inspection:
    """What a listener looks for in the first bytes, by destination port.

    ``tls_skipped``: where a listener that looks for a ClientHello does not. ``http``: whether it looks for an HTTP
    request where there is none; ``http_skipped``: where not.
    """

    tls_skipped: Ports = ()
    http: bool = False
    http_skipped: Ports = ()


NO_INSPECTION = Inspection()


@record
class ChainSpec:
    """One filter chain: its match (Envoy's FilterChainMatch, empty field = any) and where its connections go.

    ``source_type``: Envoy's name of it. ``targets`` are (cluster slot, weight) pairs in configuration order; weights
    are positive. ``refusal`` other than NONE closes every connection of the chain with that reason.
    ``max_connect_attempts``: at least 1, 100 at most count. ``hash_source_ip``: clusters that find endpoints by a hash
    take that of the client's address, else a random one. ``tls``: what is terminated; None for connections that are
    taken as they come; ``handshake_timeout_ms``: how long that may take, positive. ``policies``: whom it lets in.
    ``http_routes`` choose the cluster by the first request, in place of ``targets``; ``is_http``: such a request may be
    answered; ``sets_alpn``: the ALPN offered to endpoints of the mesh goes by its protocol.
    ``counts``: what its connections count in; ``telemetry``: whether Istio's metrics count them, and how (SOURCE,
    DESTINATION, or 0); ``log``: the number by which events say which access logs want a line of them, 1 to 65535, 0 for
    none. ``number``: the same for a chain that is the same in the next table, and for no other; 0 where nobody says.
    """

    name: str
    destination_port: int = 0
    destination_prefixes: tuple[Prefix, ...] = ()
    server_names: tuple[str, ...] = ()
    transport_protocol: str = ""
    application_protocols: tuple[str, ...] = ()
    direct_source_prefixes: tuple[Prefix, ...] = ()
    source_type: str = "ANY"
    source_prefixes: tuple[Prefix, ...] = ()
    source_ports: tuple[int, ...] = ()
    targets: tuple[tuple[int, int], ...] = ()
    refusal: Reason = Reason.NONE
    idle_timeout_ms: int = 3_600_000
    max_duration_ms: int = 0
    max_connect_attempts: int = DEFAULT_CONNECT_ATTEMPTS
    hash_source_ip: bool = False
    tls: Context | None = None
    handshake_timeout_ms: int = DEFAULT_HANDSHAKE_MS
    policies: PolicySet | None = None
    http_routes: HttpRoutes | None = None
    is_http: bool = False
    sets_alpn: bool = False
    counts: ChainCounts | None = None
    telemetry: int = 0
    log: int = 0
    number: int = 0
