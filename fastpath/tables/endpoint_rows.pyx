"""Check the columns of an assignment and give them out as C pointers; find duplicate addresses. Computes no shares.

Rule for duplicates (Envoy's eds.cc): over the whole assignment, all priorities and localities, the first row of an
address in message order is kept and later ones are dropped. Two rows are the same when family, address bytes and port
are (an IPv4-mapped IPv6 address is not its IPv4 address: Envoy compares text), Unix sockets when the path is.

Rule for factors (slow start): inside a list an endpoint has its weight times its factor. Weights stay whole numbers, so
all are scaled up first, to 2^20 times or as far as they do not sum past 2^32 - 1: 1 at a factor of 0.1 among five
endpoints of weight 1 becomes 104858 of 1048576.

Where it differs from Envoy: weights that sum past 2^32 - 1 in a priority are refused whatever the policy.

Worked example: rows 10.0.0.1:80 in P0, 10.0.0.2:80 in P0, 10.0.0.1:80 in P1: the first occurrences are rows 0, 1, 0,
so row 2 is never picked and does not count in P1's total.
"""
cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy, memset

from eastgate.fastpath.tables.priority_load cimport PRIORITY_LIMIT
from eastgate.fastpath.random cimport fold

from socket import AF_INET6, inet_ntop

cdef enum:
    # sockaddr_un.sun_path holds 108 bytes, one of them the terminator.
    PATH_LIMIT = 107
    SCALE_LIMIT = 1 << 20


cdef bytes column(object columns, str field, uint32_t count, int width):
    cdef object value = getattr(columns, field)
    cdef bytes held = value if type(value) is bytes else bytes(memoryview(value))
    if PyBytes_GET_SIZE(held) != <Py_ssize_t>count * width:
        raise ValueError(f"{field}: {len(held)} bytes for {count} rows of {width}")
    return held


cdef object uint32_or_error(object value, str what):
    if type(value) is not int or not 0 <= value <= 0xFFFFFFFF:
        raise ValueError(f"{what} {value!r} is outside 0..4294967295")
    return value


@cython.final
cdef class EndpointRows:
    """Columns once checked. Keeps the buffers alive that `rows` points into; immutable."""

    def __cinit__(self):
        memset(&self.rows, 0, sizeof(Rows))

    def __init__(self, columns, failed, factors=b""):
        cdef Rows* rows = &self.rows
        cdef uint32_t count, index
        cdef bytes path
        number = columns.count
        if type(number) is not int or not 0 <= number < 0x7FFFFFFF:
            raise ValueError(f"count {number!r} is outside 0..2147483646")
        count = number
        self.columns = columns
        self.family = column(columns, "family", count, 1)
        self.address = column(columns, "address", count, 16)
        self.port = column(columns, "port", count, 2)
        self.weight = column(columns, "weight", count, 4)
        self.health = column(columns, "health", count, 1)
        self.priority = column(columns, "priority", count, 1)
        self.locality = column(columns, "locality", count, 2)
        self.failed = bytes(failed)
        if self.failed and len(self.failed) != count:
            raise ValueError(f"failed: {len(self.failed)} bytes for {count} rows of 1")
        self.names = tuple(columns.names)
        self.load_localities(columns.localities)
        rows.count = count
        rows.family = <const uint8_t*>PyBytes_AS_STRING(self.family)
        rows.address = <const uint8_t*>PyBytes_AS_STRING(self.address)
        rows.port = <const uint16_t*>PyBytes_AS_STRING(self.port)
        rows.weight = <const uint32_t*>PyBytes_AS_STRING(self.weight)
        rows.health = <const uint8_t*>PyBytes_AS_STRING(self.health)
        rows.priority = <const uint8_t*>PyBytes_AS_STRING(self.priority)
        rows.locality = <const uint16_t*>PyBytes_AS_STRING(self.locality)
        if self.failed:
            rows.failed = <const uint8_t*>PyBytes_AS_STRING(self.failed)
        if self.names:
            rows.names = <RowName*>malloc(len(self.names) * sizeof(RowName))
            if rows.names == NULL:
                raise MemoryError
            for index in range(<uint32_t>len(self.names)):
                entry = self.names[index]
                if type(entry) is not bytes or not 0 < len(entry) <= PATH_LIMIT:
                    raise ValueError(f"names: entry {index} is no path of 1..{<int>PATH_LIMIT} bytes")
                path = entry
                rows.names[index].path = <const uint8_t*>PyBytes_AS_STRING(path)
                rows.names[index].length = <uint32_t>PyBytes_GET_SIZE(path)
        self.check_rows()
        self.load_further(columns.further)
        self.pick_weight = self.weighed(factors) if factors else b""
        rows.pick_weight = <const uint32_t*>PyBytes_AS_STRING(self.pick_weight) if factors else rows.weight

    def __dealloc__(self):
        free(self.rows.names)

    def __reduce__(self):
        raise TypeError("EndpointRows cannot be pickled")

    cdef load_localities(self, entries):
        cdef list names = []
        cdef list priorities = []
        cdef list weights = []
        cdef dict totals = {}
        for index, entry in enumerate(entries):
            name = tuple(entry.locality)
            if len(name) != 3:
                raise ValueError(f"localities: entry {index} is no (region, zone, sub_zone)")
            priority = uint32_or_error(entry.priority, f"localities: priority of entry {index}:")
            weight = entry.weight
            weight = 0 if weight is None else uint32_or_error(weight, f"localities: weight of entry {index}:")
            totals[priority] = totals.get(priority, 0) + weight
            if totals[priority] > 0xFFFFFFFF:
                raise ValueError(f"localities: weights of priority {priority} sum past 4294967295 at entry {index}")
            names.append(name)
            priorities.append(priority)
            weights.append(weight)
        if len(names) > 65536:
            raise ValueError(f"localities: {len(names)} entries; a row's index is 16 bits")
        self.rows.locality_count = <uint32_t>len(names)
        self.localities = tuple(names)
        self.locality_priorities = tuple(priorities)
        self.locality_weights = tuple(weights)

    cdef check_rows(self):
        cdef Rows* rows = &self.rows
        cdef uint64_t totals[256]
        cdef uint32_t row, name, position
        cdef uint8_t family, priority
        cdef uint32_t name_count = <uint32_t>len(self.names)
        cdef uint32_t* entry_priority
        memset(totals, 0, sizeof(totals))
        entry_priority = <uint32_t*>malloc((rows.locality_count + 1) * sizeof(uint32_t))
        if entry_priority == NULL:
            raise MemoryError
        try:
            for position in range(rows.locality_count):
                entry_priority[position] = self.locality_priorities[position]
            for row in range(rows.count):
                family = rows.family[row]
                priority = rows.priority[row]
                if family != FAMILY_IPV4 and family != FAMILY_IPV6:
                    if family != FAMILY_UNIX:
                        raise ValueError(f"family: {family} at row {row} is none of 4, 6, 1")
                    memcpy(&name, rows.address + 16 * <size_t>row, 4)
                    if name >= name_count:
                        raise ValueError(f"address: name {name} at row {row}, but names has {name_count}")
                if rows.weight[row] == 0:
                    raise ValueError(f"weight: 0 at row {row}; the least is 1")
                if rows.health[row] > 5:
                    raise ValueError(f"health: {rows.health[row]} at row {row} is no EDS HealthStatus (0..5)")
                if priority >= PRIORITY_LIMIT:
                    raise ValueError(f"priority: {priority} at row {row}; the highest is 127")
                if rows.locality[row] >= rows.locality_count:
                    raise ValueError(
                        f"locality: index {rows.locality[row]} at row {row}, but localities has {rows.locality_count}")
                if entry_priority[rows.locality[row]] != priority:
                    raise ValueError(
                        f"priority: {priority} at row {row}, but its locality entry says "
                        f"{entry_priority[rows.locality[row]]}")
                totals[priority] += rows.weight[row]
                if totals[priority] > 0xFFFFFFFFu:
                    raise ValueError(f"weight: priority {priority} sums past 4294967295 at row {row}")
        finally:
            free(entry_priority)

    cdef load_further(self, further):
        cdef Rows* rows = &self.rows
        cdef bytes first, family, address, port
        cdef const uint32_t* begin
        cdef uint32_t row, number, total
        self.further = further
        if further is None:
            return
        first, family, address, port = further.first, further.family, further.address, further.port
        total = <uint32_t>len(family)
        if len(first) != 4 * (<Py_ssize_t>rows.count + 1) or len(address) != 16 * len(family) or (
            len(port) != 2 * len(family)
        ):
            raise ValueError(f"further: no addresses of {rows.count} rows")
        begin = <const uint32_t*>PyBytes_AS_STRING(first)
        if begin[0] != 0 or begin[rows.count] != total:
            raise ValueError(f"further: {begin[0]}..{begin[rows.count]} of {total} addresses are of some row")
        for row in range(rows.count):
            if begin[row] > begin[row + 1]:
                raise ValueError(f"further: those of row {row} end before they begin")
        for number in range(total):
            if family[number] != FAMILY_IPV4 and family[number] != FAMILY_IPV6:
                raise ValueError(f"further: family {family[number]} of address {number} is none of 4, 6")
        rows.further_first = begin
        rows.further_family = <const uint8_t*>PyBytes_AS_STRING(family)
        rows.further_address = <const uint8_t*>PyBytes_AS_STRING(address)
        rows.further_port = <const uint16_t*>PyBytes_AS_STRING(port)

    cdef bytes weighed(self, factors):
        cdef const double[::1] parts
        cdef uint64_t total = 0
        cdef uint64_t scale
        cdef uint32_t row
        cdef double exact
        cdef uint32_t* weights
        cdef bytes made
        if len(factors) != 8 * <Py_ssize_t>self.rows.count:
            raise ValueError(f"factors: {len(factors)} bytes for {self.rows.count} rows of 8")
        parts = memoryview(factors).cast("d")
        made = bytes(4 * <Py_ssize_t>self.rows.count)
        weights = <uint32_t*>PyBytes_AS_STRING(made)
        for row in range(self.rows.count):
            total += self.rows.weight[row]
        scale = 0xFFFFFFFFu // total if total else 1
        scale = min(max(scale, 1), <uint64_t>SCALE_LIMIT)
        for row in range(self.rows.count):
            if not 0.0 < parts[row] <= 1.0:
                raise ValueError(f"factors: {parts[row]} at row {row} is outside 0..1")
            exact = <double>self.rows.weight[row] * <double>scale * parts[row] + 0.5
            weights[row] = <uint32_t>exact if exact >= 1.0 else 1
        return made

    cdef bint same_identities(self, EndpointRows other):
        # bytes of an unchanged column are often the very same object; else this is a memcmp.
        return (
            self.rows.count == other.rows.count
            and self.family == other.family
            and self.address == other.address
            and self.port == other.port
            and self.locality == other.locality
            and self.localities == other.localities
            and self.names == other.names
        )

    cdef str address_text(self, uint32_t row):
        cdef const uint8_t* address = self.rows.address + 16 * <size_t>row
        cdef uint32_t name
        if self.rows.family[row] == FAMILY_IPV4:
            return f"{address[0]}.{address[1]}.{address[2]}.{address[3]}:{self.rows.port[row]}"
        if self.rows.family[row] == FAMILY_IPV6:
            return f"[{inet_ntop(AF_INET6, address[:16])}]:{self.rows.port[row]}"
        memcpy(&name, address, 4)
        return "unix:" + self.names[name].decode("utf-8", "backslashreplace")


cdef inline uint64_t row_hash(const Rows* rows, uint32_t row) noexcept nogil:
    cdef const uint8_t* address = rows.address + 16 * <size_t>row
    cdef uint64_t low = 0
    cdef uint64_t high = 0
    cdef uint32_t name, position
    if rows.family[row] == FAMILY_IPV4:
        memcpy(&low, address, 4)
    elif rows.family[row] == FAMILY_IPV6:
        memcpy(&low, address, 8)
        memcpy(&high, address + 8, 8)
    else:
        memcpy(&name, address, 4)
        for position in range(rows.names[name].length):
            low = (low ^ rows.names[name].path[position]) * <uint64_t>0x100000001b3
        return fold(low ^ <uint64_t>0x9e3779b97f4a7c15, <uint64_t>0xd6e8feb86659fd93)
    low ^= <uint64_t>rows.port[row] << 40
    return fold(low ^ <uint64_t>0x9e3779b97f4a7c15, (high + rows.family[row]) ^ <uint64_t>0xd6e8feb86659fd93)


cdef bint same_address(const Rows* left, uint32_t i, const Rows* right, uint32_t j) noexcept nogil:
    cdef const uint8_t* address = left.address + 16 * <size_t>i
    cdef const uint8_t* other = right.address + 16 * <size_t>j
    cdef uint32_t name, other_name
    if left.family[i] != right.family[j]:
        return False
    if left.family[i] == FAMILY_UNIX:
        memcpy(&name, address, 4)
        memcpy(&other_name, other, 4)
        return (
            left.names[name].length == right.names[other_name].length
            and memcmp(left.names[name].path, right.names[other_name].path, left.names[name].length) == 0
        )
    return left.port[i] == right.port[j] and memcmp(address, other, 4 if left.family[i] == FAMILY_IPV4 else 16) == 0


cdef int row_index_build(RowIndex* index, const Rows* rows, uint32_t* first_of) except -1:
    """Index the first row of each address; `first_of`, when not NULL, receives that row for every row."""
    cdef uint64_t size = 16
    cdef uint64_t hash, place, found
    cdef uint32_t row
    while size < 2 * <uint64_t>rows.count:
        size *= 2
    index.mask = size - 1
    index.duplicates = 0
    # An empty slot is 0; row + 1 is stored, which fits because count is below 2^31.
    index.slots = <uint64_t*>calloc(size, sizeof(uint64_t))
    if index.slots == NULL:
        raise MemoryError
    for row in range(rows.count):
        hash = row_hash(rows, row)
        place = hash & index.mask
        while True:
            found = index.slots[place]
            if found == 0:
                index.slots[place] = (hash >> 32 << 32) | (row + 1)
                if first_of != NULL:
                    first_of[row] = row
                break
            if found >> 32 == hash >> 32 and same_address(rows, <uint32_t>found - 1, rows, row):
                index.duplicates += 1
                if first_of != NULL:
                    first_of[row] = <uint32_t>found - 1
                break
            place = (place + 1) & index.mask
    return 0


cdef uint32_t row_index_find(
    const RowIndex* index, const Rows* indexed, const Rows* rows, uint32_t row
) noexcept nogil:
    cdef uint64_t hash = row_hash(rows, row)
    cdef uint64_t place = hash & index.mask
    cdef uint64_t found
    while True:
        found = index.slots[place]
        if found == 0:
            return NO_ROW
        if found >> 32 == hash >> 32 and same_address(indexed, <uint32_t>found - 1, rows, row):
            return <uint32_t>found - 1
        place = (place + 1) & index.mask


cdef void row_index_free(RowIndex* index) noexcept nogil:
    free(index.slots)
    index.slots = NULL


def first_occurrences(columns):
    """Return for each row the first row with its address: itself, unless it is a duplicate, which Envoy drops.

    Raises ValueError naming field and row for impossible columns.
    """
    cdef EndpointRows checked = EndpointRows(columns, b"")
    cdef RowIndex index
    cdef uint32_t* first_of = <uint32_t*>malloc((checked.rows.count + 1) * sizeof(uint32_t))
    cdef uint32_t row
    index.slots = NULL
    if first_of == NULL:
        raise MemoryError
    try:
        row_index_build(&index, &checked.rows, first_of)
        return [first_of[row] for row in range(checked.rows.count)]
    finally:
        row_index_free(&index)
        free(first_of)
