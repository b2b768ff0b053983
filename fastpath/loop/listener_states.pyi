from typing import NamedTuple, final

from .histogram import Durations

class ListenerCounters(NamedTuple):
    """Totals since the listener was opened; `refused` is indexed by Reason.

    `rbac`: connections that policies allowed and denied; verdicts of shadow rules that would have, and of LOG rules.
    """

    cx_total: int
    cx_active: int
    cx_pre_active: int
    rx_bytes: int
    tx_bytes: int
    refused: tuple[int, ...]
    length_ms: Durations = ...
    rbac: tuple[int, ...] = ...
    tls_handshakes: int = 0
    tls_resumed: int = 0

@final
class ListenerStates:
    """One listener: a state for each worker, and its sockets if it has any. Made by an Engine."""

    def counters(self) -> ListenerCounters:
        """ListenerCounters, of all workers."""

@final
class ListenerDirectory:
    """Listeners by the addresses that they stand for; immutable. Made by an Engine."""

    def no_longer_read(self) -> None:
        """No worker can find anything by it any more."""
