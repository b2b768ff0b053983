from typing import NamedTuple, final

SOURCE: int
DESTINATION: int

class ChainCounters(NamedTuple):
    """Totals of a stat_prefix. rx_bytes are from downstream, tx_bytes to downstream."""

    cx_total: int
    rx_bytes: int
    tx_bytes: int
    no_route: int
    idle_timeout: int
    max_duration: int

@final
class ChainCounts:
    """The counters of one stat_prefix. Whoever makes chains keeps one object for each prefix."""

    prefix: str
    def __init__(self, prefix: str) -> None: ...
    def counters(self) -> ChainCounters:
        """ChainCounters as they are now."""
