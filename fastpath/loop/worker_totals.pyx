"""What the workers of an engine have counted, summed when asked for, and which of them is stuck. Changes nothing."""
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memset

from eastgate.fastpath.loop.worker_state cimport (
    INSPECTED_ALPN, INSPECTED_COUNT, INSPECTED_NOT_TLS, INSPECTED_SNI, INSPECTED_TOO_LARGE, Worker,
)
from eastgate.fastpath.posix cimport CLOCK_MONOTONIC, atomic_load, atomic_load64, clock_ns

from typing import NamedTuple


class StuckWorker(NamedTuple):
    """A worker whose turn does not end; `thread_id` as in /proc/PID/task."""

    worker: int
    thread_id: int
    seconds: float


class Inspected(NamedTuple):
    """What looking for ClientHellos found, in the words of Envoy's tls_inspector."""

    tls_found: int
    tls_not_found: int
    sni_found: int
    alpn_found: int
    client_hello_too_large: int


class BusyPolls(NamedTuple):
    """Times that asking for events before going to sleep found some, found none, or was crowded out of the CPU."""

    found: int
    missed: int
    crowded: int


cdef uint64_t total_events_dropped(Worker** workers, uint32_t count) noexcept:
    cdef uint64_t dropped = 0
    cdef uint32_t number
    for number in range(count):
        dropped += atomic_load64(&workers[number].events.dropped)
    return dropped


cdef uint64_t total_pipes_refused(Worker** workers, uint32_t count) noexcept:
    cdef uint64_t refused = 0
    cdef uint32_t number
    for number in range(count):
        refused += atomic_load64(&workers[number].means.pipes.refused)
    return refused


cdef object total_polls(Worker** workers, uint32_t count):
    cdef uint64_t totals[3]
    cdef uint32_t number
    memset(totals, 0, sizeof(totals))
    for number in range(count):
        totals[0] += atomic_load64(&workers[number].polling.found)
        totals[1] += atomic_load64(&workers[number].polling.missed)
        totals[2] += atomic_load64(&workers[number].polling.crowded)
    return BusyPolls(found=totals[0], missed=totals[1], crowded=totals[2])


cdef void add_up(uint64_t* totals, uint64_t* counted, int kinds) noexcept:
    """Add what one worker counted, by kind."""
    cdef int kind
    for kind in range(kinds):
        totals[kind] += atomic_load64(&counted[kind])


cdef object total_inspected(Worker** workers, uint32_t count):
    cdef uint64_t totals[<int>INSPECTED_COUNT]
    cdef uint32_t number
    memset(totals, 0, sizeof(totals))
    for number in range(count):
        add_up(totals, workers[number].inspected, <int>INSPECTED_COUNT)
    both = totals[<int>INSPECTED_SNI + <int>INSPECTED_ALPN]
    return Inspected(
        tls_found=totals[0] + totals[<int>INSPECTED_SNI] + totals[<int>INSPECTED_ALPN] + both,
        tls_not_found=totals[<int>INSPECTED_NOT_TLS],
        sni_found=totals[<int>INSPECTED_SNI] + both,
        alpn_found=totals[<int>INSPECTED_ALPN] + both,
        client_hello_too_large=totals[<int>INSPECTED_TOO_LARGE],
    )


cdef list stuck_workers(Worker** workers, uint32_t count, object after_s):
    cdef uint64_t now, since
    cdef uint32_t number
    found = []
    for number in range(count):
        since = atomic_load64(&workers[number].awake_since)
        now = clock_ns(CLOCK_MONOTONIC)
        if since and now >= since and (now - since) / 1e9 >= after_s:
            thread_id = atomic_load(<uint32_t*>&workers[number].thread_id)
            found.append(StuckWorker(number, thread_id, (now - since) / 1e9))
    return found
