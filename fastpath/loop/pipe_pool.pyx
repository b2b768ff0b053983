"""Pipes for splice: made on demand, kept while empty, bounded. Moves no bytes.

Rule: ask for 1 MiB where few pipes are in use and for 256 KiB beyond, and read the size back. A wide pipe moves four
times as much with two system calls. The kernel gives an unprivileged user 16,384 pages for all his pipes and then makes
new ones of two pages; every proxy of a node runs as one user, so only 16 pipes of a worker are wide. Below 64 KiB
copying is as cheap: the pipe is closed, and none is asked for again for a second. The same holds when there are no
descriptors left.

A pipe that still holds bytes when its flow ends is closed: what one connection left in it must never reach another.
"""
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free, malloc

from eastgate.fastpath.posix cimport F_GETPIPE_SZ, F_SETPIPE_SZ, O_CLOEXEC, O_NONBLOCK, close, count, fcntl, pipe2

cdef enum:
    RETRY_NS = 1000000000


cdef void pipe_close(PipePool* pool, Pipe* pipe) noexcept nogil:
    close(pipe.read_fd)
    close(pipe.write_fd)
    free(pipe)
    pool.count -= 1


cdef Pipe* pipe_new(PipePool* pool, uint64_t now) noexcept nogil:
    cdef Pipe* pipe = <Pipe*>malloc(sizeof(Pipe))
    cdef int ends[2]
    cdef int size
    if pipe == NULL or pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0:
        free(pipe)
        pool.retry_at = now + RETRY_NS
        return NULL
    if pool.count >= PIPES_WIDE or fcntl(ends[1], F_SETPIPE_SZ, PIPE_WIDE) < 0:
        fcntl(ends[1], F_SETPIPE_SZ, PIPE_WANTED)
    size = fcntl(ends[1], F_GETPIPE_SZ, 0)
    pipe.read_fd = ends[0]
    pipe.write_fd = ends[1]
    pipe.capacity = <uint32_t>size if size > 0 else 0
    pipe.held = 0
    pipe.next = NULL
    pool.count += 1
    if pipe.capacity < PIPE_LEAST:
        pipe_close(pool, pipe)
        pool.retry_at = now + RETRY_NS
        return NULL
    return pipe


cdef Pipe* pipe_take(PipePool* pool, uint64_t now) noexcept nogil:
    cdef Pipe* pipe = pool.idle
    if pipe != NULL:
        pool.idle = pipe.next
        pool.idle_count -= 1
        pipe.next = NULL
        return pipe
    if pool.count < pool.limit and now >= pool.retry_at:
        pipe = pipe_new(pool, now)
    if pipe == NULL:
        count(&pool.refused, 1)
    return pipe


cdef void pipe_give(PipePool* pool, Pipe* pipe) noexcept nogil:
    if pipe.held or pool.idle_count >= PIPES_KEPT:
        pipe_close(pool, pipe)
        return
    pipe.next = pool.idle
    pool.idle = pipe
    pool.idle_count += 1


cdef void pool_free(PipePool* pool) noexcept nogil:
    cdef Pipe* pipe
    while pool.idle != NULL:
        pipe = pool.idle
        pool.idle = pipe.next
        pipe_close(pool, pipe)
    pool.idle_count = 0
