"""Busy polling that switches itself off: before it sleeps, a worker asks epoll again for a short while.

Being woken costs the answer some 20 to 50 us (an interrupt to a sleeping CPU, the scheduler). Who asks instead of
sleeping saves that, and burns a CPU meanwhile. It pays while the next event comes soon and the CPU has nothing else to
do; so two things end it:

    missed      nothing came within the window. The next sleeps follow at once: 1 of them, after the next failure 3,
                then 7, ... at most PENALTY_MOST. An event that was found halves that.
    crowded     asking took much longer than asking takes: another thread had the CPU meanwhile, which means that it
                had to take it from us. The next 15 sleeps follow at once, then 75, then 315, ...

Worked example: window 50 us, one connection with a request every 80 us of which 40 us pass elsewhere: each wait finds
its event, no sleep. A request every 10 ms: ten failures later one wait of 1,024 asks, and 50 us of CPU go in 10 s.
"""
from libc.stdint cimport uint32_t, uint64_t

from eastgate.fastpath.posix cimport CLOCK_MONOTONIC, clock_ns, count, epoll_event, epoll_wait

cdef enum:
    PENALTY_MOST = 1023
    # One question takes a microsecond; an interrupt with its packets may take some more.
    CROWDED_NS = 25000


cdef int busy_poll(BusyPoll* poll, int epoll, epoll_event* events, int most) noexcept nogil:
    cdef uint64_t began, asked, now
    cdef int found
    if poll.pause:
        poll.pause -= 1
        return 0
    began = asked = clock_ns(CLOCK_MONOTONIC)
    while True:
        found = epoll_wait(epoll, events, most, 0)
        now = clock_ns(CLOCK_MONOTONIC)
        if now - asked > CROWDED_NS:
            count(&poll.crowded, 1)
            poll.penalty = min(4 * poll.penalty + 15, <uint32_t>PENALTY_MOST)
            poll.pause = poll.penalty
            return found
        if found != 0:
            count(&poll.found, 1)
            poll.penalty >>= 1
            return found
        if now - began >= poll.window:
            break
        asked = now
    count(&poll.missed, 1)
    poll.penalty = min(2 * poll.penalty + 1, <uint32_t>PENALTY_MOST)
    poll.pause = poll.penalty
    return 0
