# The native half of the assignment reader: bytes of a ClusterLoadAssignment to rows of typed columns.

from libc.stdint cimport uint8_t

from eastgate.xds.assignment_columns cimport Reader
from eastgate.xds.protobuf cimport Cursor

# First pass: how many LocalityLbEndpoints and LbEndpoints there are.
cdef int count_rows(
    Reader* reader, Cursor at, Cursor end, Py_ssize_t* endpoints, Py_ssize_t* localities
) noexcept nogil
# Second pass: fills the columns, except for the locality index, and the table of localities.
cdef int read_assignment(Reader* reader, Cursor at, Cursor end) noexcept nogil
# Marks rows whose (family, address, port) an earlier row has, which gets their weights where they are to be united;
# answers how many, or -1 without memory.
cdef Py_ssize_t find_duplicates(Reader* reader, Py_ssize_t count, uint8_t* duplicate, bint united) noexcept nogil
# Closes the gaps that marked rows leave.
cdef void drop_rows(Reader* reader, Py_ssize_t count, const uint8_t* duplicate) noexcept nogil
