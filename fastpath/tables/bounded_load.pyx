"""Consistent hashing with bounded load: pass over endpoints that hold more connections than their part.

Rule (Envoy's thread_aware_lb_impl, hash_balance_factor): all endpoints together may have ((active + 1) * factor + 99) /
100 connections, and one of normalised weight w ceil(that * w) of them, at least 1. Who has more stands back: the others
are looked at in an order drawn by a Mersenne Twister that the hash seeds, and the first that is not overloaded takes
the connection; with none, the least overloaded does.

Worked example: factor 150, 10 active, two endpoints of weight 0.5: (11 * 150 + 99) / 100 = 17, so 9 each. One that has
9 (9 / 9 = 1.0) still takes more; one that has 10 does not.

Where it differs from Envoy: nowhere. The order is drawn only as far as it is needed.
"""
from libc.math cimport ceil
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free, malloc

from eastgate.fastpath.tables.endpoint_state cimport StateMap, state_of

cdef extern from *:
    """
    #define eg_relaxed_load(p) __atomic_load_n((p), __ATOMIC_RELAXED)
    """
    uint32_t relaxed_load "eg_relaxed_load"(const uint32_t* place) nogil

cdef enum:
    WORDS = 624
    MIDDLE = 397

cdef struct Twister:            # MT19937, 32 bits
    uint32_t at
    uint32_t words[624]

# What is asked for how full an endpoint is: the states of a table, or plain numbers.
cdef struct Loads:
    const StateMap* states
    const uint32_t* rows
    const double* weights
    uint32_t slots
    const double* overloads     # instead of all that


cdef void twister_seed(Twister* twister, uint32_t seed) noexcept nogil:
    cdef uint32_t index
    twister.at = WORDS
    twister.words[0] = seed
    for index in range(1, <uint32_t>WORDS):
        seed = 1812433253 * (seed ^ (seed >> 30)) + index
        twister.words[index] = seed


cdef uint32_t twister_draw(Twister* twister) noexcept nogil:
    cdef uint32_t index, word
    if twister.at == WORDS:
        for index in range(<uint32_t>WORDS):
            word = (twister.words[index] & <uint32_t>0x80000000) | (
                twister.words[(index + 1) % WORDS] & <uint32_t>0x7FFFFFFF)
            twister.words[index] = (
                twister.words[(index + MIDDLE) % WORDS] ^ (word >> 1) ^ (<uint32_t>0x9908B0DF if word & 1 else 0))
        twister.at = 0
    word = twister.words[twister.at]
    twister.at += 1
    word ^= word >> 11
    word ^= (word << 7) & <uint32_t>0x9D2C5680
    word ^= (word << 15) & <uint32_t>0xEFC60000
    return word ^ (word >> 18)


cdef uint32_t draw_below(Twister* twister, uint32_t left) noexcept nogil:
    """libstdc++'s way to a number below `left`, at least 1."""
    cdef uint64_t scaling = (<uint64_t>1 << 32) // left
    cdef uint64_t drawn = twister_draw(twister) // scaling
    while drawn >= left:
        drawn = twister_draw(twister) // scaling
    return <uint32_t>drawn


cdef inline void swap_places(uint32_t* order, uint32_t one, uint32_t other) noexcept nogil:
    cdef uint32_t held = order[one]
    order[one] = order[other]
    order[other] = held


cdef uint32_t slots_of_all(uint32_t active, uint32_t factor) noexcept nogil:
    return ((active + 1) * factor + 99) // 100


cdef inline uint32_t slots_of_one(uint32_t slots, double weight) noexcept nogil:
    cdef double part = ceil(<double>slots * weight)
    return <uint32_t>part if part > 1.0 else 1


cdef double overload(uint32_t active, uint32_t slots, double weight) noexcept nogil:
    return <double>active / <double>slots_of_one(slots, weight)


cdef double load_of(const Loads* loads, uint32_t index) noexcept nogil:
    if loads.overloads != NULL:
        return loads.overloads[index]
    return overload(
        relaxed_load(&state_of(loads.states, loads.rows[index]).active), loads.slots, loads.weights[index])


cdef uint32_t probe(
    const Loads* loads, uint32_t count, uint32_t candidate, uint64_t hash, uint32_t* order, uint32_t* drawn
) noexcept nogil:
    cdef Twister twister
    cdef uint32_t index, place
    cdef uint32_t looked = 0
    cdef uint32_t chosen = candidate
    cdef double least = load_of(loads, candidate)
    cdef double one
    if least <= 1.0:
        return candidate
    twister_seed(&twister, <uint32_t>hash)
    while looked < count:
        place = looked + draw_below(&twister, count - looked)
        drawn[looked] = place
        swap_places(order, looked, place)
        index = order[looked]
        looked += 1
        if index == candidate:
            continue
        one = load_of(loads, index)
        if one <= 1.0 or one < least:
            least = one
            chosen = index
            if one <= 1.0:
                break
    while looked > 0:
        looked -= 1
        swap_places(order, looked, drawn[looked])
    return chosen


cdef uint32_t choose_bounded(
    const StateMap* states, const uint32_t* rows, const double* weights, uint32_t count, uint32_t candidate,
    uint64_t hash, uint32_t slots, uint32_t* order, uint32_t* drawn
) noexcept nogil:
    cdef Loads loads
    loads.states = states
    loads.rows = rows
    loads.weights = weights
    loads.slots = slots
    loads.overloads = NULL
    return probe(&loads, count, candidate, hash, order, drawn)


def probing_order(hash_value, count):
    """In which order the alternatives of a full endpoint are looked at, itself among them."""
    cdef Twister twister
    cdef uint32_t seed = hash_value & 0xFFFFFFFF
    cdef uint32_t looked, place
    cdef uint32_t length = count
    cdef list order = list(range(length))
    twister_seed(&twister, seed)
    for looked in range(length):
        place = looked + draw_below(&twister, length - looked)
        order[looked], order[place] = order[place], order[looked]
    return order


def slots(active, factor, weight):
    """How many connections all endpoints may have, and how many of them one of this normalised weight."""
    cdef uint32_t together = slots_of_all(active, factor)
    return together, slots_of_one(together, weight)


def choose_by_overload(hash_value, candidate, overloads):
    """The endpoint that takes the connection, for how full each is."""
    cdef Loads loads
    cdef uint32_t count = <uint32_t>len(overloads)
    cdef uint32_t index
    if not 0 <= candidate < count:
        raise IndexError(f"endpoint {candidate} of {count}")
    cdef double* values = <double*>malloc(count * (sizeof(double) + 2 * sizeof(uint32_t)))
    cdef uint32_t* order = <uint32_t*>(values + count)
    if values == NULL:
        raise MemoryError
    try:
        for index in range(count):
            values[index] = overloads[index]
            order[index] = index
        loads.overloads = values
        return probe(&loads, count, candidate, hash_value, order, order + count)
    finally:
        free(values)
