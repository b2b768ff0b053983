# Tables of RING_HASH and MAGLEV.
from libc.stdint cimport uint32_t, uint64_t
from eastgate.fastpath.tables.hash_lists cimport HashLists
from eastgate.fastpath.tables.picker cimport Table

cdef struct HashOptions:
    bint maglev
    bint murmur
    uint64_t minimum            # of the ring
    uint64_t maximum
    uint32_t size               # of the Maglev table
    uint32_t balance_factor     # percent; 0: no bounded load

# A new block, to be freed with free(); NULL without memory. `rows`: how many there are.
cdef Table* hashed_build(const HashLists* lists, const HashOptions* options) noexcept nogil
# Add to shares[rows] what each endpoint gets of connections with hashes spread evenly, from the compiled table alone.
cdef void hashed_shares(const Table* table, double* shares) noexcept nogil
# By list: (hash, row) of each entry of the ring, or the row of each place.
cdef list hashed_entries(const Table* table)
