# Which known server name a client may have meant: for admin, never on the path of a connection.
from libc.stdint cimport uint8_t, uint32_t

# Name of the table (see route_nodes.pxd) within `limit` changes, which is lowered to its distance, else `best`. Of two
# as close, the lesser one. `text` has at most 255 bytes.
cdef uint32_t nearest_name(
    const uint32_t* words, const uint32_t* table, const uint8_t* text, uint32_t length, uint32_t* limit, uint32_t best
) noexcept nogil
