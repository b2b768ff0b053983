"""What connections began with where a PROXY header is looked for. Filters of several listeners may share one."""
cimport cython

from eastgate.fastpath.match.proxy_protocol cimport PROXY_OUTCOMES
from eastgate.fastpath.posix cimport atomic_load64

from typing import NamedTuple


class Proxied(NamedTuple):
    """What connections of listeners that take PROXY headers began with: no header, or one of these versions.

    `disallowed`: of a version that the listener does not take; `error`: one that is none.
    """

    not_found_allowed: int
    not_found_disallowed: int
    v1_found: int
    v1_disallowed: int
    v1_error: int
    v2_found: int
    v2_disallowed: int
    v2_error: int


@cython.final
cdef class ProxyCounts:
    """The counters of one stat_prefix. Whoever opens listeners keeps one object for each prefix."""

    def __reduce__(self):
        raise TypeError("ProxyCounts cannot be pickled")

    def counters(self):
        """Proxied, as it is now."""
        return Proxied(*[atomic_load64(&self.state.outcomes[kind]) for kind in range(<int>PROXY_OUTCOMES)])
