"""Native passes over the bytes of an assignment; see endpoint_reader.pxd. Nothing in here is a Python object.

The first pass counts endpoints (about 2 ns each), so that the second writes into columns of the right size. Both skip
what is not honoured by its length. Merging follows protobuf: a later value of a field wins, a second occurrence of a
sub-message continues the first.
"""

from libc.stdint cimport UINT32_MAX, int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy, memset

from eastgate.xds.assignment_columns cimport (
    BAD_PRIORITY, LEDS, MALFORMED, PRIORITY_LAST, ZERO_LOCALITY_WEIGHT, LocalityEndpoints, Reader, fail, read_wrapped,
)
from eastgate.xds.lb_endpoint cimport read_lb_endpoint
from eastgate.xds.protobuf cimport (
    Cursor, LENGTH_DELIMITED, Span, VARINT, read_payload, read_tag, read_varint, skip_value,
)


cdef int read_locality(Reader* reader, Cursor at, Cursor end, LocalityEndpoints* into) noexcept nogil:
    cdef uint32_t field = 0, wire_type = 0
    cdef Cursor before
    into.has_locality = 1
    while at < end:
        before = at
        at = read_tag(at, end, &field, &wire_type)
        if at == NULL:
            return fail(reader, before, MALFORMED)
        if wire_type == LENGTH_DELIMITED and field == 1:
            at = read_payload(at, end, &into.region)
        elif wire_type == LENGTH_DELIMITED and field == 2:
            at = read_payload(at, end, &into.zone)
        elif wire_type == LENGTH_DELIMITED and field == 3:
            at = read_payload(at, end, &into.sub_zone)
        else:
            at = skip_value(at, end, wire_type)
        if at == NULL:
            return fail(reader, before, MALFORMED)
    return 0


cdef int read_locality_endpoints(Reader* reader, Cursor at, Cursor end) noexcept nogil:
    cdef uint32_t field = 0, wire_type = 0
    cdef Cursor start = at
    cdef Cursor before
    cdef Span message
    cdef LocalityEndpoints* into = reader.localities + reader.locality_row
    cdef int fault
    cdef uint64_t number = 0
    into.first = reader.row
    while at < end:
        before = at
        at = read_tag(at, end, &field, &wire_type)
        if at == NULL:
            return fail(reader, before, MALFORMED)
        if wire_type == LENGTH_DELIMITED:
            at = read_payload(at, end, &message)
            if at == NULL:
                return fail(reader, before, MALFORMED)
            fault = 0
            if field == 2:
                fault = read_lb_endpoint(reader, message.start, message.end)
            elif field == 1:
                fault = read_locality(reader, message.start, message.end, into)
            elif field == 3:
                into.has_weight = 1
                fault = read_wrapped(reader, message.start, message.end, &into.weight)
            elif field == 7 or field == 8:
                fault = fail(reader, before, LEDS)
            if fault < 0:
                return fault
        else:
            if field == 5 and wire_type == VARINT:
                at = read_varint(at, end, &number)
                into.priority = <uint32_t> number
            else:
                at = skip_value(at, end, wire_type)
            if at == NULL:
                return fail(reader, before, MALFORMED)
    if into.priority > PRIORITY_LAST:
        return fail(reader, start, BAD_PRIORITY)
    if into.has_weight and into.weight == 0:
        return fail(reader, start, ZERO_LOCALITY_WEIGHT)
    into.last = reader.row
    if into.last > into.first:
        memset(reader.priority + into.first, <int> into.priority, into.last - into.first)
    reader.locality_row += 1
    return 0


cdef int read_duration(Reader* reader, Cursor at, Cursor end) noexcept nogil:
    cdef uint32_t field = 0, wire_type = 0
    cdef Cursor before
    cdef uint64_t number = 0
    while at < end:
        before = at
        at = read_tag(at, end, &field, &wire_type)
        if at == NULL:
            return fail(reader, before, MALFORMED)
        if field == 1 and wire_type == VARINT:
            at = read_varint(at, end, &number)
            reader.stale_after_s = <int64_t> number
        elif field == 2 and wire_type == VARINT:
            at = read_varint(at, end, &number)
            reader.stale_after_ns = <int32_t> <uint32_t> number
        else:
            at = skip_value(at, end, wire_type)
        if at == NULL:
            return fail(reader, before, MALFORMED)
    return 0


cdef int read_policy(Reader* reader, Cursor at, Cursor end) noexcept nogil:
    cdef uint32_t field = 0, wire_type = 0
    cdef Cursor before
    cdef Span message
    cdef int fault
    while at < end:
        before = at
        at = read_tag(at, end, &field, &wire_type)
        if at == NULL:
            return fail(reader, before, MALFORMED)
        if wire_type == LENGTH_DELIMITED:
            at = read_payload(at, end, &message)
            if at == NULL:
                return fail(reader, before, MALFORMED)
            fault = 0
            if field == 3:
                reader.has_factor = 1
                fault = read_wrapped(reader, message.start, message.end, &reader.factor)
            elif field == 4:
                reader.has_stale_after = 1
                fault = read_duration(reader, message.start, message.end)
            if fault < 0:
                return fault
        else:
            if field == 6 and wire_type == VARINT:
                at = read_varint(at, end, &reader.weighted_priority_health)
            else:
                at = skip_value(at, end, wire_type)
            if at == NULL:
                return fail(reader, before, MALFORMED)
    return 0


cdef int count_rows(
    Reader* reader, Cursor at, Cursor end, Py_ssize_t* endpoints, Py_ssize_t* localities
) noexcept nogil:
    """First pass: how many LocalityLbEndpoints and LbEndpoints there are."""
    cdef uint32_t field = 0, wire_type = 0
    cdef Cursor before, inner
    cdef Span message
    while at < end:
        before = at
        at = read_tag(at, end, &field, &wire_type)
        if at == NULL:
            return fail(reader, before, MALFORMED)
        if field == 2 and wire_type == LENGTH_DELIMITED:
            at = read_payload(at, end, &message)
            if at == NULL:
                return fail(reader, before, MALFORMED)
            localities[0] += 1
            inner = message.start
            while inner < message.end:
                before = inner
                inner = read_tag(inner, message.end, &field, &wire_type)
                if inner == NULL:
                    return fail(reader, before, MALFORMED)
                if field == 2 and wire_type == LENGTH_DELIMITED:
                    endpoints[0] += 1
                inner = skip_value(inner, message.end, wire_type)
                if inner == NULL:
                    return fail(reader, before, MALFORMED)
        else:
            at = skip_value(at, end, wire_type)
            if at == NULL:
                return fail(reader, before, MALFORMED)
    return 0


cdef int read_assignment(Reader* reader, Cursor at, Cursor end) noexcept nogil:
    """Second pass. The first has seen that all top-level values are complete."""
    cdef uint32_t field = 0, wire_type = 0
    cdef Span message
    cdef int fault
    while at < end:
        at = read_tag(at, end, &field, &wire_type)
        if wire_type != LENGTH_DELIMITED:
            at = skip_value(at, end, wire_type)
            continue
        at = read_payload(at, end, &message)
        fault = 0
        if field == 2:
            fault = read_locality_endpoints(reader, message.start, message.end)
        elif field == 1:
            reader.cluster_name = message
        elif field == 4:
            fault = read_policy(reader, message.start, message.end)
        if fault < 0:
            return fault
    return 0


cdef inline uint64_t mixed(uint64_t value) noexcept nogil:
    # Finaliser of splitmix64: every bit of the address reaches the low bits that choose a bucket.
    value = (value ^ (value >> 30)) * <uint64_t> 0xBF58476D1CE4E5B9
    value = (value ^ (value >> 27)) * <uint64_t> 0x94D049BB133111EB
    return value ^ (value >> 31)


cdef Py_ssize_t find_duplicates(Reader* reader, Py_ssize_t count, uint8_t* duplicate, bint united) noexcept nogil:
    """Mark rows whose (family, address, port) an earlier row has; return how many, or -1 without memory.

    United: the first row of an address has their weights too, as far as they are of its priority and health.
    """
    cdef Py_ssize_t buckets = 16
    cdef Py_ssize_t row, bucket, other
    cdef Py_ssize_t found = 0
    cdef uint64_t weight
    cdef uint64_t parts[2]
    cdef uint32_t* table
    while buckets < 2 * count:
        buckets *= 2
    table = <uint32_t*> calloc(buckets, sizeof(uint32_t))
    if table == NULL:
        return -1
    for row in range(count):
        memcpy(parts, reader.address + 16 * row, 16)
        bucket = <Py_ssize_t> (
            mixed(parts[0] ^ mixed(parts[1] + reader.port[row] + (<uint64_t> reader.family[row] << 32)))
            & <uint64_t> (buckets - 1)
        )
        while table[bucket]:
            other = <Py_ssize_t> table[bucket] - 1
            if (
                memcmp(reader.address + 16 * other, reader.address + 16 * row, 16) == 0
                and reader.port[other] == reader.port[row]
                and reader.family[other] == reader.family[row]
            ):
                duplicate[row] = 1
                found += 1
                if (
                    united and reader.priority[other] == reader.priority[row]
                    and reader.health[other] == reader.health[row]
                ):
                    weight = <uint64_t> reader.weight[other] + reader.weight[row]
                    reader.weight[other] = <uint32_t> min(weight, UINT32_MAX)
                break
            bucket = (bucket + 1) & (buckets - 1)
        else:
            table[bucket] = <uint32_t> (row + 1)
    free(table)
    return found


cdef void drop_rows(Reader* reader, Py_ssize_t count, const uint8_t* duplicate) noexcept nogil:
    cdef Py_ssize_t row
    cdef Py_ssize_t to = 0
    for row in range(count):
        if duplicate[row]:
            continue
        if to != row:
            memcpy(reader.address + 16 * to, reader.address + 16 * row, 16)
            reader.family[to] = reader.family[row]
            reader.port[to] = reader.port[row]
            reader.weight[to] = reader.weight[row]
            reader.health[to] = reader.health[row]
            reader.priority[to] = reader.priority[row]
            reader.locality[to] = reader.locality[row]
            reader.flags[to] = reader.flags[row]
        to += 1
