"""Find rows of an assignment by address. One pass over the rows, whatever the number of addresses that are wanted.

Rule: of duplicates the first row counts, as in Envoy. A row whose folded address nobody wants costs a nanosecond or
two; the others are looked up by their bytes.

Worked example: wanted are 10.0.0.2:80 and 10.0.0.9:80, rows 10.0.0.1:80, 10.0.0.2:80, 10.0.0.2:80. The first is at row
1, the second is missing from the answer.
"""
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

import struct

cdef enum:
    PLACES = 65536              # one byte each, on the stack

cdef object packing = struct.Struct("=16sHB")


cdef inline uint32_t place_of(const uint8_t* address, uint16_t port) noexcept nogil:
    cdef uint64_t halves[2]
    cdef uint64_t folded
    memcpy(halves, address, 16)
    folded = halves[0] ^ halves[1] * <uint64_t>0x9E3779B97F4A7C15 ^ port
    return <uint32_t>(folded * <uint64_t>0xD6E8FEB86659FD93 >> 48)


def find_rows(columns, wanted):
    """(address, port, family) -> its first row, of those in `wanted` that are there. Addresses are 16 bytes as in
    columns: Unix sockets, whose bytes are an index there, cannot be asked for."""
    cdef uint8_t places[PLACES]
    cdef bytes addresses = columns.address
    cdef bytes ports = columns.port
    cdef bytes families = columns.family
    cdef const uint8_t* address = <const uint8_t*>PyBytes_AS_STRING(addresses)
    cdef const uint8_t* port_bytes = <const uint8_t*>PyBytes_AS_STRING(ports)
    cdef const uint8_t* family = <const uint8_t*>PyBytes_AS_STRING(families)
    cdef uint32_t count = <uint32_t>PyBytes_GET_SIZE(families)
    cdef uint32_t row
    cdef uint16_t port
    cdef bytes packed
    cdef dict names = {packing.pack(*one): one for one in wanted}
    cdef dict found = {}
    if PyBytes_GET_SIZE(addresses) != 16 * <Py_ssize_t>count or PyBytes_GET_SIZE(ports) != 2 * <Py_ssize_t>count:
        raise ValueError(f"columns: address and port do not have {count} rows")
    memset(places, 0, PLACES)
    for packed in names:
        memcpy(&port, PyBytes_AS_STRING(packed) + 16, 2)
        places[place_of(<const uint8_t*>PyBytes_AS_STRING(packed), port)] = 1
    for row in range(count):
        memcpy(&port, port_bytes + 2 * row, 2)
        if not places[place_of(address + 16 * row, port)]:
            continue
        one = names.pop(packing.pack(addresses[16 * row:16 * row + 16], port, family[row]), None)
        if one is not None:
            found[one] = row
            if not names:
                break
    return found
