# Hierarchical timer wheel: schedule and cancel in constant time, no allocation. Ticks are the caller's unit.
from libc.stdint cimport uint64_t

cdef enum:
    WHEEL_LEVELS = 4
    WHEEL_SLOTS = 64            # per level, so that one 64-bit word says which are occupied

# Embedded in what it times (first member, so that a Timer* is its owner); owned by it, linked while scheduled.
cdef struct Timer:
    Timer* previous
    Timer* next
    uint64_t deadline
    bint scheduled              # lies in a wheel, as opposed to in a list of due timers or nowhere

cdef struct TimerWheel:
    Timer slots[4][64]
    uint64_t occupied[4]
    uint64_t now                # everything due at or before this tick has been handed out
    uint64_t count

cdef void wheel_init(TimerWheel* wheel, uint64_t now) noexcept nogil
cdef void timer_init(Timer* timer) noexcept nogil
# Moves the timer when it is scheduled already. A deadline in the past is due at the next advance; one further away than
# the wheel reaches (64^4 ticks) is carried round until it is due.
cdef void wheel_schedule(TimerWheel* wheel, Timer* timer, uint64_t deadline) noexcept nogil
cdef void wheel_cancel(TimerWheel* wheel, Timer* timer) noexcept nogil
# Appends all timers due at `now` to the list `due` (initialised with timer_init); they no longer count as scheduled,
# but wheel_cancel and wheel_schedule still take one out of that list.
cdef void wheel_advance(TimerWheel* wheel, uint64_t now, Timer* due) noexcept nogil
cdef Timer* timer_pop(Timer* due) noexcept nogil
# A tick at or before the next deadline, at which wheel_advance should be called; the largest uint64 for none.
cdef uint64_t wheel_next(TimerWheel* wheel) noexcept nogil
