# What the workers of an engine have counted, summed. For the control thread, with the GIL; workers go on meanwhile.
from libc.stdint cimport uint32_t, uint64_t
from eastgate.fastpath.loop.worker_state cimport Worker

cdef uint64_t total_events_dropped(Worker** workers, uint32_t count) noexcept
cdef uint64_t total_pipes_refused(Worker** workers, uint32_t count) noexcept
cdef object total_polls(Worker** workers, uint32_t count)
cdef object total_inspected(Worker** workers, uint32_t count)
# Of workers with threads of their own: those whose turn began `after_s` seconds ago or earlier.
cdef list stuck_workers(Worker** workers, uint32_t count, object after_s)
