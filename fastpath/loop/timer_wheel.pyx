"""Hierarchical timer wheel of four levels with 64 slots each. Knows nothing of what the timers are for.

A timer lies at the lowest level whose span reaches its deadline: level 0 slots are one tick, level 1 slots 64 ticks,
and so on. When level 0 wraps, the next slot of level 1 is spread over level 0. With ticks of 16 ms the levels reach
1 s, 65 s, 70 min and 74 h.

Worked example: now = 100, deadline = 170: 70 ticks away, so level 1, slot (170 >> 6) & 63 = 2. At tick 128 that slot
is spread: 42 ticks away, level 0, slot 170 & 63 = 42. At tick 170 it is due.
"""
from libc.stdint cimport uint64_t, UINT64_MAX
from libc.stdlib cimport calloc, free

cdef extern from *:
    """
    #define eg_ctz64(x) __builtin_ctzll(x)
    """
    int count_trailing_zeros "eg_ctz64"(uint64_t value) nogil


cdef inline uint64_t rotate_right(uint64_t value, int by) noexcept nogil:
    by &= 63
    return (value >> by) | (value << ((64 - by) & 63)) if by else value


cdef inline void unlink(Timer* timer) noexcept nogil:
    timer.previous.next = timer.next
    timer.next.previous = timer.previous
    timer.previous = timer
    timer.next = timer


cdef inline void append(Timer* head, Timer* timer) noexcept nogil:
    timer.previous = head.previous
    timer.next = head
    head.previous.next = timer
    head.previous = timer


cdef void timer_init(Timer* timer) noexcept nogil:
    timer.previous = timer
    timer.next = timer
    timer.deadline = 0
    timer.scheduled = 0


cdef void wheel_init(TimerWheel* wheel, uint64_t now) noexcept nogil:
    cdef int level, slot
    for level in range(WHEEL_LEVELS):
        wheel.occupied[level] = 0
        for slot in range(WHEEL_SLOTS):
            timer_init(&wheel.slots[level][slot])
    wheel.now = now
    wheel.count = 0


cdef void place(TimerWheel* wheel, Timer* timer) noexcept nogil:
    # A timer that is due already goes to the next tick: advance never looks at the current one again.
    cdef uint64_t deadline = timer.deadline
    cdef uint64_t away
    cdef int level = 0
    cdef int slot
    if deadline <= wheel.now:
        deadline = wheel.now + 1
    away = deadline - wheel.now
    if away >= (<uint64_t>1 << 24):
        # One slot short of a full turn, so that it cannot share the slot that is being spread.
        deadline = wheel.now + (<uint64_t>1 << 24) - (<uint64_t>1 << 18)
        away = deadline - wheel.now
    while away >= (<uint64_t>1 << (6 * (level + 1))):
        level += 1
    slot = <int>((deadline >> (6 * level)) & 63)
    append(&wheel.slots[level][slot], timer)
    wheel.occupied[level] |= <uint64_t>1 << slot


cdef void wheel_schedule(TimerWheel* wheel, Timer* timer, uint64_t deadline) noexcept nogil:
    wheel_cancel(wheel, timer)
    timer.deadline = deadline
    timer.scheduled = 1
    place(wheel, timer)
    wheel.count += 1


cdef void wheel_cancel(TimerWheel* wheel, Timer* timer) noexcept nogil:
    cdef Timer* neighbour = timer.previous
    cdef ptrdiff_t index
    if timer.next == timer:
        return
    unlink(timer)
    if not timer.scheduled:
        return
    timer.scheduled = 0
    wheel.count -= 1
    # It was alone when only the head is left, and the head's place in the array names the slot.
    if neighbour.next == neighbour:
        index = neighbour - &wheel.slots[0][0]
        wheel.occupied[index >> 6] &= ~(<uint64_t>1 << (index & 63))


cdef void spread(TimerWheel* wheel, int level) noexcept nogil:
    cdef int slot = <int>((wheel.now >> (6 * level)) & 63)
    cdef Timer* head = &wheel.slots[level][slot]
    cdef Timer moving
    cdef Timer* timer
    if not wheel.occupied[level] >> slot & 1:
        return
    wheel.occupied[level] &= ~(<uint64_t>1 << slot)
    # Detach the list first: a clamped timer may be placed into the same level again.
    moving.next = head.next
    moving.previous = head.previous
    moving.next.previous = &moving
    moving.previous.next = &moving
    timer_init(head)
    while moving.next != &moving:
        timer = moving.next
        unlink(timer)
        # A deadline that is this very tick must be seen by the level 0 scan that follows.
        if timer.deadline <= wheel.now:
            append(&wheel.slots[0][wheel.now & 63], timer)
            wheel.occupied[0] |= <uint64_t>1 << (wheel.now & 63)
        else:
            place(wheel, timer)


cdef void wheel_advance(TimerWheel* wheel, uint64_t now, Timer* due) noexcept nogil:
    cdef Timer* head
    cdef Timer* timer
    cdef uint64_t boundary
    while wheel.now < now:
        if wheel.count == 0:
            wheel.now = now
            return
        if wheel.occupied[0] == 0:
            # Nothing can be due before level 0 wraps: jump there.
            boundary = (wheel.now | 63) + 1
            wheel.now = boundary if boundary <= now else now
        else:
            wheel.now += 1
        if wheel.now & 63 == 0:
            if wheel.now & 0xFFF == 0:
                if wheel.now & 0x3FFFF == 0:
                    spread(wheel, 3)
                spread(wheel, 2)
            spread(wheel, 1)
        head = &wheel.slots[0][wheel.now & 63]
        if wheel.occupied[0] >> (wheel.now & 63) & 1:
            wheel.occupied[0] &= ~(<uint64_t>1 << (wheel.now & 63))
            while head.next != head:
                timer = head.next
                unlink(timer)
                append(due, timer)
                timer.scheduled = 0
                wheel.count -= 1


cdef Timer* timer_pop(Timer* due) noexcept nogil:
    cdef Timer* timer = due.next
    if timer == due:
        return NULL
    unlink(timer)
    return timer


cdef uint64_t wheel_next(TimerWheel* wheel) noexcept nogil:
    cdef uint64_t best = UINT64_MAX
    cdef uint64_t unit, candidate
    cdef int level
    if wheel.count == 0:
        return best
    for level in range(WHEEL_LEVELS):
        if wheel.occupied[level] == 0:
            continue
        unit = (wheel.now >> (6 * level)) + 1
        candidate = (unit + count_trailing_zeros(rotate_right(wheel.occupied[level], <int>(unit & 63)))) << (6 * level)
        if candidate < best:
            best = candidate
    return best


def replay(steps, *, start=0):
    """Drive a wheel through `steps` and return what fired as (tick, timer) pairs, in order.

    Steps are ("schedule", timer, deadline), ("cancel", timer), ("advance", tick) with small integers for timers, or
    ("next", tick): ValueError when wheel_next disagrees with the expectation that nothing is due before `tick` is
    missed. For tests and for looking at a schedule by hand.
    """
    cdef TimerWheel* wheel = <TimerWheel*>calloc(1, sizeof(TimerWheel))
    cdef size_t capacity = 1 + max((step[1] for step in steps if step[0] in ("schedule", "cancel")), default=0)
    cdef Timer* timers = <Timer*>calloc(capacity, sizeof(Timer))
    cdef Timer due
    cdef Timer* timer
    cdef size_t index
    if wheel == NULL or timers == NULL:
        free(wheel)
        free(timers)
        raise MemoryError
    fired = []
    try:
        wheel_init(wheel, start)
        timer_init(&due)
        for index in range(capacity):
            timer_init(&timers[index])
        for step in steps:
            if step[0] == "schedule":
                wheel_schedule(wheel, &timers[<size_t>step[1]], step[2])
            elif step[0] == "cancel":
                wheel_cancel(wheel, &timers[<size_t>step[1]])
            elif step[0] == "next":
                if wheel_next(wheel) > step[1]:
                    raise ValueError(f"wheel_next says {wheel_next(wheel)}, later than {step[1]}")
            else:
                wheel_advance(wheel, step[1], &due)
                timer = timer_pop(&due)
                while timer != NULL:
                    fired.append((wheel.now, timer - timers))
                    timer = timer_pop(&due)
    finally:
        free(wheel)
        free(timers)
    return fired
