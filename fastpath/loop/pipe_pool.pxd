# Pipes for splice, of one worker: made on demand, kept while empty, bounded.
from libc.stdint cimport uint32_t, uint64_t

cdef enum:
    PIPE_WIDE = 1048576         # asked for by the first PIPES_WIDE of a pool; what the kernel grants is read back
    PIPE_WANTED = 262144        # asked for by the others, and where a wide one is refused
    PIPE_LEAST = 65536          # a smaller one is not worth its two descriptors
    PIPES_WIDE = 16             # in use or idle
    PIPES_KEPT = 64             # idle ones, for reuse
    PIPES_LIMIT = 1024          # in use or idle, unless there are fewer descriptors; beyond that flows copy

# One end to write, one to read. Owned by the pool, or by the flow that took it.
cdef struct Pipe:
    int read_fd
    int write_fd
    uint32_t capacity
    uint32_t held               # bytes in it; kept up to date by its flow
    Pipe* next                  # while idle

cdef struct PipePool:
    Pipe* idle
    uint32_t idle_count
    uint32_t count              # idle or taken
    uint32_t limit              # of `count`
    uint64_t retry_at           # nanoseconds: none is made before; after the kernel refused one or made it too small
    uint64_t refused            # times that a flow went without

# A pipe with nothing in it, or NULL: copy instead. `now` in nanoseconds.
cdef Pipe* pipe_take(PipePool* pool, uint64_t now) noexcept nogil
# Take it back; one that still holds bytes is closed, never used again.
cdef void pipe_give(PipePool* pool, Pipe* pipe) noexcept nogil
# Close the idle ones.
cdef void pool_free(PipePool* pool) noexcept nogil
