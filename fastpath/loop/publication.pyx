"""Free what was replaced when nobody can use it any more. No locks, no count per pick, and a push wakes nobody.

Rule (quiescent states): the control side replaces a pointer, then moves the epoch on and notes it beside the old
object. A worker notes the epoch each time it starts to handle events, holding no published pointer from before; while
it sleeps in epoll_wait it is offline. An object may go when each worker is offline or has noted its epoch.

Worked example: epoch 7, workers A (seen 7) and B (offline). A table is replaced: epoch 8, table retired with 8. B does
not matter. A finishes its turn and goes to sleep, offline: the table is freed at the next look.

A loop that is hosted by the control thread itself never overlaps with it, and stays offline always.
"""
cimport cython
from libc.stdint cimport uint64_t, UINT64_MAX

from eastgate.fastpath.posix cimport atomic_fence, atomic_load_acquire64, atomic_store_release64

from collections import deque


@cython.final
cdef class Publication:
    """Keeps what was replaced until no worker can use it any more. Made by ClusterSlots; control side only."""

    def __cinit__(self):
        self.epoch = 1
        self.readers = []
        self.retired = deque()

    def __reduce__(self):
        raise TypeError("a Publication cannot be pickled")

    cdef int add_reader(self, Reader* reader) except -1:
        reader.epoch = &self.epoch
        reader.seen = UINT64_MAX
        self.readers.append(<size_t>reader)
        return 0

    cdef int remove_reader(self, Reader* reader) except -1:
        self.readers.remove(<size_t>reader)
        return 0

    cdef int retire(self, object held, object then) except -1:
        atomic_store_release64(&self.epoch, self.epoch + 1)
        self.retired.append((self.epoch, held, then))
        self.reclaim()
        return 0

    cdef Py_ssize_t reclaim(self) except -1:
        cdef uint64_t oldest = UINT64_MAX
        cdef uint64_t seen
        if not self.retired:
            return 0
        atomic_fence()
        for address in self.readers:
            seen = atomic_load_acquire64(&(<Reader*><size_t>address).seen)
            if seen < oldest:
                oldest = seen
        while self.retired and self.retired[0][0] <= oldest:
            _, _, then = self.retired.popleft()
            if then is not None:
                then()
        return len(self.retired)
