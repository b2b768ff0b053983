# One LbEndpoint of an assignment to a row of typed columns: its address, health, weight and what its metadata says of
# TLS. Inline only: there is no module of this name, so that the reader of assignments is one translation unit.
#
# Nothing in here is a Python object. What is not honoured is skipped by its length. Merging follows protobuf: a later
# value of a field wins, a second occurrence of a sub-message continues the first.
#
# Each message has a loop of its own: one step shared by all, which read a field into a record, made decoding take 12 to
# 19 % more instructions (`make callgrind`, four ways tried).

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memchr, memcmp, memcpy, memset

from eastgate.xds.assignment_columns cimport (
    BAD_HEALTH, BAD_PATH, BAD_PORT, EMPTY_ADDRESS, EMPTY_PATH, FAMILY_IPV4, FAMILY_IPV6, FAMILY_UNIX,
    FLAG_OWN_HEALTH_CHECK, FLAG_TLS_MODE_ISTIO, FURTHER_PATH, HEALTH_LAST, INTERNAL_ADDRESS, MALFORMED, NAMED_PORT,
    NO_ADDRESS, NO_PORT, NOT_AN_ADDRESS, NOT_TCP, PATH_LIMIT, ZERO_WEIGHT, Reader, fail, read_wrapped,
)
from eastgate.xds.protobuf cimport (
    Cursor, FIXED64, LENGTH_DELIMITED, Span, VARINT, read_payload, read_tag, read_varint, skip_value,
)

cdef extern from "<arpa/inet.h>" nogil:
    int inet_pton(int family, const char* text, void* address)
    int AF_INET6

cdef struct Endpoint:
    # One LbEndpoint while it is being read. family 0 until an address is complete.
    uint8_t has_socket_address
    uint8_t has_pipe
    uint8_t has_port
    uint8_t port_kind_is_name
    uint8_t other_address
    uint8_t has_weight
    uint8_t has_further
    uint8_t flags
    uint64_t protocol
    uint64_t port
    uint64_t weight
    uint64_t health
    Span address
    Span path


cdef inline bint equals(Span span, const char* text, Py_ssize_t length) noexcept nogil:
    return span.end - span.start == length and memcmp(span.start, text, length) == 0


cdef inline int read_tls_mode(Reader* reader, Cursor at, Cursor end, uint8_t* is_istio) noexcept nogil:
    """Read a Struct: is its field tlsMode the string "istio"? Entries of one key: the last one counts."""
    cdef uint32_t field = 0, wire_type = 0
    cdef Cursor before, entry_at
    cdef Span entry, key, kind
    cdef uint8_t value_is_istio
    while at < end:
        before = at
        at = read_tag(at, end, &field, &wire_type)
        if at == NULL:
            return fail(reader, before, MALFORMED)
        if field != 1 or wire_type != LENGTH_DELIMITED:
            at = skip_value(at, end, wire_type)
            if at == NULL:
                return fail(reader, before, MALFORMED)
            continue
        at = read_payload(at, end, &entry)
        if at == NULL:
            return fail(reader, before, MALFORMED)
        key.start = entry.start
        key.end = entry.start
        value_is_istio = 0
        entry_at = entry.start
        while entry_at < entry.end:
            before = entry_at
            entry_at = read_tag(entry_at, entry.end, &field, &wire_type)
            if entry_at == NULL:
                return fail(reader, before, MALFORMED)
            if field == 1 and wire_type == LENGTH_DELIMITED:
                entry_at = read_payload(entry_at, entry.end, &key)
            elif field == 2 and wire_type == LENGTH_DELIMITED:
                entry_at = read_payload(entry_at, entry.end, &kind)
                if entry_at != NULL and read_value_is_istio(reader, kind.start, kind.end, &value_is_istio) < 0:
                    return MALFORMED
            else:
                entry_at = skip_value(entry_at, entry.end, wire_type)
            if entry_at == NULL:
                return fail(reader, before, MALFORMED)
        if equals(key, b"tlsMode", 7):
            is_istio[0] = value_is_istio
    return 0


cdef inline int read_value_is_istio(Reader* reader, Cursor at, Cursor end, uint8_t* is_istio) noexcept nogil:
    """Read a google.protobuf.Value: its kinds 1 to 6 exclude each other, 3 is string_value."""
    cdef uint32_t field = 0, wire_type = 0
    cdef Cursor before
    cdef Span text
    while at < end:
        before = at
        at = read_tag(at, end, &field, &wire_type)
        if at == NULL:
            return fail(reader, before, MALFORMED)
        if field == 3 and wire_type == LENGTH_DELIMITED:
            at = read_payload(at, end, &text)
            if at != NULL:
                is_istio[0] = equals(text, b"istio", 5)
        else:
            if (
                (wire_type == VARINT and (field == 1 or field == 4))
                or (wire_type == LENGTH_DELIMITED and (field == 5 or field == 6))
                or (wire_type == FIXED64 and field == 2)
            ):
                is_istio[0] = 0
            at = skip_value(at, end, wire_type)
        if at == NULL:
            return fail(reader, before, MALFORMED)
    return 0


cdef inline int read_metadata(Reader* reader, Cursor at, Cursor end, Endpoint* endpoint) noexcept nogil:
    """Look for filter_metadata["envoy.transport_socket_match"].tlsMode; everything else is skipped by length."""
    cdef uint32_t field = 0, wire_type = 0
    cdef Cursor before, entry_at
    cdef Span entry, key, value
    cdef uint8_t is_istio
    while at < end:
        before = at
        at = read_tag(at, end, &field, &wire_type)
        if at == NULL:
            return fail(reader, before, MALFORMED)
        if field != 1 or wire_type != LENGTH_DELIMITED:
            at = skip_value(at, end, wire_type)
            if at == NULL:
                return fail(reader, before, MALFORMED)
            continue
        at = read_payload(at, end, &entry)
        if at == NULL:
            return fail(reader, before, MALFORMED)
        key.start = entry.start
        key.end = entry.start
        entry_at = entry.start
        while entry_at < entry.end:
            before = entry_at
            entry_at = read_tag(entry_at, entry.end, &field, &wire_type)
            if entry_at == NULL:
                return fail(reader, before, MALFORMED)
            if field == 1 and wire_type == LENGTH_DELIMITED:
                entry_at = read_payload(entry_at, entry.end, &key)
            else:
                entry_at = skip_value(entry_at, entry.end, wire_type)
            if entry_at == NULL:
                return fail(reader, before, MALFORMED)
        if not equals(key, b"envoy.transport_socket_match", 28):
            continue
        # A second walk, because a map entry may hold its value before its key.
        is_istio = 0
        value.start = value.end = NULL
        entry_at = entry.start
        while entry_at < entry.end:
            entry_at = read_tag(entry_at, entry.end, &field, &wire_type)
            if field == 2 and wire_type == LENGTH_DELIMITED:
                entry_at = read_payload(entry_at, entry.end, &value)
                if read_tls_mode(reader, value.start, value.end, &is_istio) < 0:
                    return MALFORMED
            else:
                entry_at = skip_value(entry_at, entry.end, wire_type)
        endpoint.flags = endpoint.flags & ~FLAG_TLS_MODE_ISTIO | (FLAG_TLS_MODE_ISTIO if is_istio else 0)
    return 0


cdef inline int read_socket_address(Reader* reader, Cursor at, Cursor end, Endpoint* endpoint) noexcept nogil:
    cdef uint32_t field = 0, wire_type = 0
    cdef Cursor before
    cdef uint64_t number = 0
    while at < end:
        before = at
        at = read_tag(at, end, &field, &wire_type)
        if at == NULL:
            return fail(reader, before, MALFORMED)
        if field == 2 and wire_type == LENGTH_DELIMITED:
            at = read_payload(at, end, &endpoint.address)
        elif field == 3 and wire_type == VARINT:
            at = read_varint(at, end, &number)
            endpoint.port = <uint32_t> number
            endpoint.has_port = 1
            endpoint.port_kind_is_name = 0
        elif field == 1 and wire_type == VARINT:
            at = read_varint(at, end, &endpoint.protocol)
        else:
            if field == 4 and wire_type == LENGTH_DELIMITED:
                endpoint.port_kind_is_name = 1
            at = skip_value(at, end, wire_type)
        if at == NULL:
            return fail(reader, before, MALFORMED)
    return 0


cdef inline void clear_address(Endpoint* endpoint) noexcept nogil:
    """Forget the address chosen so far: the three kinds exclude each other."""
    endpoint.has_socket_address = 0
    endpoint.has_pipe = 0
    endpoint.other_address = 0
    endpoint.has_port = 0
    endpoint.port_kind_is_name = 0
    endpoint.protocol = 0
    endpoint.port = 0
    endpoint.address.start = NULL
    endpoint.address.end = NULL
    endpoint.path.start = NULL
    endpoint.path.end = NULL


cdef inline int read_address(Reader* reader, Cursor at, Cursor end, Endpoint* endpoint) noexcept nogil:
    cdef uint32_t field = 0, wire_type = 0
    cdef Cursor before, inner
    cdef Span message
    cdef int fault
    while at < end:
        before = at
        at = read_tag(at, end, &field, &wire_type)
        if at == NULL:
            return fail(reader, before, MALFORMED)
        if wire_type != LENGTH_DELIMITED or field > 3:
            at = skip_value(at, end, wire_type)
            if at == NULL:
                return fail(reader, before, MALFORMED)
            continue
        at = read_payload(at, end, &message)
        if at == NULL:
            return fail(reader, before, MALFORMED)
        if field == 1:
            if not endpoint.has_socket_address:
                clear_address(endpoint)
                endpoint.has_socket_address = 1
            fault = read_socket_address(reader, message.start, message.end, endpoint)
            if fault < 0:
                return fault
        elif field == 2:
            if not endpoint.has_pipe:
                clear_address(endpoint)
                endpoint.has_pipe = 1
            inner = message.start
            while inner < message.end:
                before = inner
                inner = read_tag(inner, message.end, &field, &wire_type)
                if inner == NULL:
                    return fail(reader, before, MALFORMED)
                if field == 1 and wire_type == LENGTH_DELIMITED:
                    inner = read_payload(inner, message.end, &endpoint.path)
                else:
                    inner = skip_value(inner, message.end, wire_type)
                if inner == NULL:
                    return fail(reader, before, MALFORMED)
        else:
            clear_address(endpoint)
            endpoint.other_address = 1
    return 0


cdef inline int store_ip_address(
    Reader* reader, Cursor where, Endpoint* endpoint, uint8_t* family, uint8_t* address, uint16_t* port
) noexcept nogil:
    if endpoint.protocol != 0:
        return fail(reader, where, NOT_TCP)
    if endpoint.port_kind_is_name:
        return fail(reader, where, NAMED_PORT)
    if not endpoint.has_port:
        return fail(reader, where, NO_PORT)
    if endpoint.port > 65535:
        return fail(reader, where, BAD_PORT)
    if endpoint.address.start == endpoint.address.end:
        return fail(reader, where, EMPTY_ADDRESS)
    memset(address, 0, 16)
    if read_ipv4(endpoint.address.start, endpoint.address.end, address):
        family[0] = FAMILY_IPV4
    elif read_ipv6(endpoint.address.start, endpoint.address.end, address):
        family[0] = FAMILY_IPV6
    else:
        reader.fault_text = endpoint.address
        return fail(reader, where, NOT_AN_ADDRESS)
    port[0] = <uint16_t> endpoint.port
    return 0


cdef inline int read_further(Reader* reader, Cursor where, Cursor at, Cursor end) noexcept nogil:
    """Read the AdditionalAddress whose length stands at `at`, and count or store its address."""
    cdef uint32_t field = 0, wire_type = 0
    cdef Cursor before
    cdef Span message, inner
    cdef Endpoint one
    cdef uint8_t family
    cdef uint8_t address[16]
    cdef uint16_t port
    cdef uint32_t number = reader.further_count
    cdef int fault
    memset(&one, 0, sizeof(Endpoint))
    if read_payload(at, end, &message) == NULL:
        return fail(reader, where, MALFORMED)
    at = message.start
    while at < message.end:
        before = at
        at = read_tag(at, message.end, &field, &wire_type)
        if at == NULL:
            return fail(reader, before, MALFORMED)
        if field == 1 and wire_type == LENGTH_DELIMITED:
            at = read_payload(at, message.end, &inner)
            if at == NULL:
                return fail(reader, before, MALFORMED)
            fault = read_address(reader, inner.start, inner.end, &one)
            if fault < 0:
                return fault
        else:
            at = skip_value(at, message.end, wire_type)
            if at == NULL:
                return fail(reader, before, MALFORMED)
    if not one.has_socket_address:
        return fail(
            reader, where, FURTHER_PATH if one.has_pipe else INTERNAL_ADDRESS if one.other_address else NO_ADDRESS)
    fault = store_ip_address(reader, where, &one, &family, address, &port)
    if fault < 0:
        return fault
    reader.further_count = number + 1
    if reader.further_first != NULL:
        reader.further_family[number] = family
        reader.further_port[number] = port
        memcpy(reader.further_address + 16 * <size_t> number, address, 16)
    return 0


cdef inline int read_endpoint(Reader* reader, Cursor at, Cursor end, Endpoint* endpoint) noexcept nogil:
    cdef uint32_t field = 0, wire_type = 0
    cdef Cursor before
    cdef Span message
    cdef int fault
    while at < end:
        before = at
        at = read_tag(at, end, &field, &wire_type)
        if at == NULL:
            return fail(reader, before, MALFORMED)
        if field == 1 and wire_type == LENGTH_DELIMITED:
            at = read_payload(at, end, &message)
            if at == NULL:
                return fail(reader, before, MALFORMED)
            fault = read_address(reader, message.start, message.end, endpoint)
            if fault < 0:
                return fault
        else:
            if field == 2 and wire_type == LENGTH_DELIMITED:
                endpoint.flags |= FLAG_OWN_HEALTH_CHECK
            elif field == 4 and wire_type == LENGTH_DELIMITED:
                fault = read_further(reader, before, at, end)
                if fault < 0:
                    return fault
                endpoint.has_further = 1
            at = skip_value(at, end, wire_type)
            if at == NULL:
                return fail(reader, before, MALFORMED)
    return 0


cdef inline bint read_ipv4(Cursor at, Cursor end, uint8_t* out) noexcept nogil:
    """Read dotted decimals as inet_pton does: four numbers, no leading zeros, nothing behind them."""
    cdef unsigned int number, digit
    cdef int part
    for part in range(4):
        if part:
            if at >= end or at[0] != c".":
                return False
            at += 1
        if at >= end:
            return False
        number = <unsigned int> at[0] - c"0"
        if number > 9:
            return False
        at += 1
        while at < end:
            digit = <unsigned int> at[0] - c"0"
            if digit > 9:
                break
            if number == 0:
                return False
            number = number * 10 + digit
            if number > 255:
                return False
            at += 1
        out[part] = <uint8_t> number
    return at == end


cdef inline bint read_ipv6(Cursor at, Cursor end, uint8_t* out) noexcept nogil:
    cdef char text[46]
    cdef Py_ssize_t length = end - at
    cdef Py_ssize_t index
    if length < 2 or length > 45:
        return False
    for index in range(length):
        if at[index] == 0:
            return False
    memcpy(text, at, length)
    text[length] = 0
    return inet_pton(AF_INET6, text, out) == 1


cdef inline int store_endpoint(Reader* reader, Cursor where, Endpoint* endpoint) noexcept nogil:
    """Check one complete LbEndpoint and write its row. A Unix socket's row holds offset and length of its path."""
    cdef Py_ssize_t row = reader.row
    cdef uint8_t* address = reader.address + 16 * row
    cdef uint32_t span[2]
    cdef int fault
    if endpoint.has_socket_address:
        fault = store_ip_address(reader, where, endpoint, reader.family + row, address, reader.port + row)
        if fault < 0:
            return fault
    elif endpoint.has_pipe:
        if endpoint.has_further:
            return fail(reader, where, FURTHER_PATH)
        if endpoint.path.start == endpoint.path.end:
            return fail(reader, where, EMPTY_PATH)
        # As in Envoy, only a name in the abstract namespace, which begins with @, may hold NUL.
        if endpoint.path.end - endpoint.path.start > PATH_LIMIT or (
            endpoint.path.start[0] != b"@"
            and memchr(endpoint.path.start, 0, endpoint.path.end - endpoint.path.start) != NULL
        ):
            return fail(reader, where, BAD_PATH)
        memset(address, 0, 16)
        span[0] = <uint32_t> (endpoint.path.start - reader.start)
        span[1] = <uint32_t> (endpoint.path.end - endpoint.path.start)
        memcpy(address, span, 8)
        reader.family[row] = FAMILY_UNIX
        reader.port[row] = 0
    else:
        return fail(reader, where, INTERNAL_ADDRESS if endpoint.other_address else NO_ADDRESS)
    if endpoint.health > HEALTH_LAST:
        return fail(reader, where, BAD_HEALTH)
    if endpoint.has_weight and endpoint.weight == 0:
        return fail(reader, where, ZERO_WEIGHT)
    reader.weight[row] = <uint32_t> endpoint.weight if endpoint.has_weight else 1
    reader.health[row] = <uint8_t> endpoint.health
    reader.flags[row] = endpoint.flags
    reader.row = row + 1
    return 0


cdef inline int read_lb_endpoint(Reader* reader, Cursor at, Cursor end) noexcept nogil:
    cdef uint32_t field = 0, wire_type = 0
    cdef Cursor start = at
    cdef Cursor before
    cdef Span message
    cdef Endpoint endpoint
    cdef int fault
    memset(&endpoint, 0, sizeof(Endpoint))
    if reader.further_first != NULL:
        reader.further_first[reader.row] = reader.further_count
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
            if field == 1:
                fault = read_endpoint(reader, message.start, message.end, &endpoint)
            elif field == 3:
                fault = read_metadata(reader, message.start, message.end, &endpoint)
            elif field == 4:
                endpoint.has_weight = 1
                fault = read_wrapped(reader, message.start, message.end, &endpoint.weight)
            elif field == 5:
                # endpoint_name excludes endpoint.
                clear_address(&endpoint)
            if fault < 0:
                return fault
        else:
            if field == 2 and wire_type == VARINT:
                at = read_varint(at, end, &endpoint.health)
            else:
                at = skip_value(at, end, wire_type)
            if at == NULL:
                return fail(reader, before, MALFORMED)
    return store_endpoint(reader, start, &endpoint)
