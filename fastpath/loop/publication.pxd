# When may what was replaced be freed? Once every worker has passed a quiet point after the replacement.
from libc.stdint cimport uint64_t, UINT64_MAX
from eastgate.fastpath.posix cimport atomic_fence, atomic_load_acquire64, atomic_store64, atomic_store_release64

# A worker's place, written by the worker alone. Between reader_online and the next call of either function it may
# follow published pointers; it keeps none past that.
cdef struct Reader:
    const uint64_t* epoch       # of the Publication
    uint64_t seen               # epoch of the last quiet point; the largest uint64 while offline
    char padding[48]            # a cache line of its own

cdef inline void reader_online(Reader* reader) noexcept nogil:
    # The fence keeps reads of published pointers behind the store: whoever still sees this reader offline has replaced
    # his pointer before it reads one.
    atomic_store64(&reader.seen, atomic_load_acquire64(reader.epoch))
    atomic_fence()


cdef inline void reader_offline(Reader* reader) noexcept nogil:
    atomic_store_release64(&reader.seen, UINT64_MAX)


cdef class Publication:
    cdef uint64_t epoch
    cdef list readers           # addresses of Readers
    cdef object retired         # deque of (epoch, object, function or None)
    # The reader must stay in memory until it is removed. It starts offline, and is removed when its worker has ended.
    cdef int add_reader(self, Reader* reader) except -1
    cdef int remove_reader(self, Reader* reader) except -1
    # Drop `held`, and call `then`, once no worker can still use what was published before this call.
    cdef int retire(self, object held, object then) except -1
    # Returns how many retired objects still wait.
    cdef Py_ssize_t reclaim(self) except -1
