# The columns of one assignment as C pointers: checked, immutable, kept alive by an EndpointRows.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

cdef enum:
    FAMILY_UNIX = 1
    FAMILY_IPV4 = 4
    FAMILY_IPV6 = 6
    NO_ROW = 0xFFFFFFFF

cdef struct RowName:
    const uint8_t* path
    uint32_t length

cdef struct Rows:               # borrowed from the EndpointRows that made it
    uint32_t count
    uint32_t locality_count
    const uint8_t* family
    const uint8_t* address      # 16 bytes a row
    const uint16_t* port
    const uint32_t* weight
    const uint32_t* pick_weight  # what decides inside a list: the weights, less where an endpoint is in slow start
    const uint8_t* health
    const uint8_t* priority
    const uint16_t* locality
    const uint8_t* failed       # NULL: none
    RowName* names              # NULL: no Unix sockets
    # Addresses beside the first: by row, and once more behind the last, where its own begin. NULL: nobody has any.
    const uint32_t* further_first
    const uint8_t* further_family
    const uint8_t* further_address  # 16 bytes each
    const uint16_t* further_port

cdef struct RowIndex:           # open addressing; the first row of each address wins
    uint64_t* slots             # hash tag << 32 | row
    uint64_t mask
    uint32_t duplicates         # rows whose address an earlier row has

cdef int row_index_build(RowIndex* index, const Rows* rows, uint32_t* first_of) except -1
# First row of `index` (built from `indexed`) with the address, port and family of rows[row]; NO_ROW when there is none.
cdef uint32_t row_index_find(
    const RowIndex* index, const Rows* indexed, const Rows* rows, uint32_t row) noexcept nogil
cdef void row_index_free(RowIndex* index) noexcept nogil
cdef bint same_address(const Rows* left, uint32_t i, const Rows* right, uint32_t j) noexcept nogil

cdef class EndpointRows:
    cdef Rows rows
    cdef readonly object columns
    cdef bytes family
    cdef bytes address
    cdef bytes port
    cdef bytes weight
    cdef bytes pick_weight      # empty: the weights
    cdef bytes health
    cdef bytes priority
    cdef bytes locality
    cdef bytes failed
    cdef object further         # of the columns: what the pointers of `rows` to further addresses point into
    cdef tuple names
    cdef tuple localities       # (region, zone, sub_zone) tuples, by index
    cdef tuple locality_priorities
    cdef tuple locality_weights  # None counts as 0
    cdef bint same_identities(self, EndpointRows other)
    cdef str address_text(self, uint32_t row)
    cdef load_localities(self, object entries)
    cdef check_rows(self)
    cdef load_further(self, object further)
    cdef bytes weighed(self, object factors)
