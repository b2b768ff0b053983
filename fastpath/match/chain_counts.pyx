"""What connections count by the stat_prefix of their filter chain. Chains of several listeners may share one."""
cimport cython
from libc.stdlib cimport calloc, free

from eastgate.fastpath.posix cimport atomic_load64, atomic_sub_release

from typing import NamedTuple

SOURCE = <int>TELEMETRY_SOURCE
DESTINATION = <int>TELEMETRY_DESTINATION


class ChainCounters(NamedTuple):
    """Totals of a stat_prefix. rx_bytes are from downstream, tx_bytes to downstream."""

    cx_total: int
    rx_bytes: int
    tx_bytes: int
    no_route: int
    idle_timeout: int
    max_duration: int


cdef void chain_release(ChainState* state) noexcept nogil:
    if atomic_sub_release(&state.refs, 1) == 1:
        free(state)


@cython.final
cdef class ChainCounts:
    """The counters of one stat_prefix. Whoever makes chains keeps one object for each prefix."""

    def __cinit__(self, str prefix not None):
        self.prefix = prefix
        self.state = <ChainState*>calloc(1, sizeof(ChainState))
        if self.state == NULL:
            raise MemoryError
        self.state.refs = 1

    def __dealloc__(self):
        if self.state != NULL:
            chain_release(self.state)

    def __reduce__(self):
        raise TypeError("ChainCounts cannot be pickled")

    def counters(self):
        """ChainCounters as they are now."""
        return ChainCounters(
            cx_total=atomic_load64(&self.state.cx_total),
            rx_bytes=atomic_load64(&self.state.rx_bytes),
            tx_bytes=atomic_load64(&self.state.tx_bytes),
            no_route=atomic_load64(&self.state.no_route),
            idle_timeout=atomic_load64(&self.state.idle_timeout),
            max_duration=atomic_load64(&self.state.max_duration),
        )
