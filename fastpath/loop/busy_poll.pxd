# Asking for events again and again before sleeping, for as long as that finds some. No allocation, no error.
from libc.stdint cimport uint32_t, uint64_t
from eastgate.fastpath.posix cimport epoll_event

cdef struct BusyPoll:
    uint64_t window             # nanoseconds that a worker asks before it sleeps; 0: never
    uint32_t pause              # sleeps to come before which it does not ask
    uint32_t penalty            # sleeps that the next failure costs
    # Written by the worker alone, read by anybody.
    uint64_t found              # times that asking found something
    uint64_t missed             # times that it did not
    uint64_t crowded            # times that it was given up because another thread took the CPU meanwhile

# Events found before the window was over, or 0: then it is time to sleep.
cdef int busy_poll(BusyPoll* poll, int epoll, epoll_event* events, int most) noexcept nogil
