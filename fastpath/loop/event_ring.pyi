from typing import NamedTuple

class ConnectionEvent(NamedTuple):
    """One finished or refused connection. Times are seconds; `start` is the wall clock since the epoch.

    Addresses are host:port, [host]:port for IPv6, "unix" for a Unix socket, empty when there is none; `downstream` is
    what the PROXY header conveyed when there was one. `reason` is a Reason, NONE for an ordinary end.
    `attempts` counts the endpoints that were tried; `upstream` is the last of them, by its first address. `policy`:
    name of the one that denied it, "none" where none allowed it; `policy_unknown`: for lack of knowledge. `log` is that
    of its chain; what stands behind it is known only where it is not 0: peers are URI names of certificates.
    """

    listener: int
    cluster: str
    server_name: str
    reason: int
    downstream: str
    downstream_local: str
    upstream: str
    alpn: tuple[str, ...]
    rx_bytes: int
    tx_bytes: int
    start: float
    duration: float
    connect_duration: float
    attempts: int = 0
    policy: str = ""
    policy_unknown: bool = False
    log: int = 0
    direct_source: str = ""
    destination: str = ""
    upstream_local: str = ""
    downstream_peer: str = ""
    upstream_peer: str = ""
    upstream_remote: str = ""
