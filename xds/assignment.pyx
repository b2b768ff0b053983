"""Make an Assignment of ClusterLoadAssignment bytes: typed columns, merged localities, errors in words.

The bytes are read by endpoint_reader, without Python objects; this module allocates the columns, gives localities and
socket paths their indexes, and is the only place that raises.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport UINT32_MAX, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from eastgate.xds.assignment_columns cimport (
    BAD_DURATION, BAD_HEALTH, BAD_PATH, BAD_PORT, BAD_PRIORITY, EMPTY_ADDRESS, EMPTY_PATH, FAMILY_UNIX, FURTHER_PATH,
    INTERNAL_ADDRESS, LEDS, LOCALITY_LIMIT, MALFORMED, NAMED_PORT, NO_ADDRESS, NO_PORT, NOT_AN_ADDRESS, NOT_TCP,
    PRIORITY_LAST, ZERO_FACTOR, ZERO_LOCALITY_WEIGHT, ZERO_WEIGHT, LocalityEndpoints, Reader,
)
from eastgate.xds.endpoint_reader cimport count_rows, drop_rows, find_duplicates, read_assignment
from eastgate.xds.protobuf cimport Cursor, LENGTH_DELIMITED, Span, read_payload, read_tag, skip_value

from .columns import Columns, Further, Locality, LocalityEntry
from .errors import XdsError
from .resources import Assignment

cdef enum:
    OVERPROVISIONING_FACTOR = 140  # Envoy's default

cdef dict SENTENCES = {
    MALFORMED: "malformed message",
    NOT_AN_ADDRESS: "an endpoint's address must be an IP address, not",
    EMPTY_ADDRESS: "an endpoint's address is empty",
    NAMED_PORT: "an endpoint has a named port; only port numbers are supported",
    NO_PORT: "an endpoint has no port",
    BAD_PORT: "an endpoint's port is above 65535",
    NOT_TCP: "an endpoint's protocol is not TCP",
    INTERNAL_ADDRESS: "an endpoint is an internal listener, which needs HBONE",
    NO_ADDRESS: "an endpoint has no address",
    BAD_HEALTH: "an endpoint has an unknown health status",
    ZERO_WEIGHT: "an endpoint's weight is 0",
    BAD_PRIORITY: "a priority is above 127",
    ZERO_LOCALITY_WEIGHT: "a locality's weight is 0",
    LEDS: "a locality takes its endpoints from LEDS, which is not supported",
    BAD_DURATION: "policy.endpoint_stale_after is not a positive duration",
    ZERO_FACTOR: "policy.overprovisioning_factor is 0",
    EMPTY_PATH: "an endpoint's socket path is empty",
    BAD_PATH: "an endpoint's socket path is longer than 107 bytes or holds NUL",
    FURTHER_PATH: "an endpoint with additional_addresses has a socket path among its addresses",
}


cdef str text_of(Span span):
    return (<const char*> span.start)[:span.end - span.start].decode("utf-8") if span.start != NULL else ""


cdef bytes buffer_of(Py_ssize_t size):
    return PyBytes_FromStringAndSize(NULL, size)


cdef tuple merge_localities(Reader* reader, Py_ssize_t count):
    """Give every row its index into the (priority, locality) entries, in order of first appearance; return these."""
    cdef dict index_of = {}
    cdef list entries = []
    cdef LocalityEndpoints* one
    cdef Py_ssize_t number, row
    cdef uint16_t index
    for number in range(count):
        one = reader.localities + number
        locality = Locality(text_of(one.region), text_of(one.zone), text_of(one.sub_zone))
        priority = <int> one.priority
        # Envoy takes a weight only from an entry that has both, so an entry without it does not unset an earlier one.
        weight = one.weight if one.has_locality and one.has_weight else None
        key = (priority, locality)
        known = index_of.get(key)
        if known is None:
            if len(entries) >= LOCALITY_LIMIT:
                raise ValueError(f"more than {LOCALITY_LIMIT} localities")
            known = index_of[key] = len(entries)
            entries.append(LocalityEntry(locality, priority, weight))
        elif weight is not None:
            entries[known] = LocalityEntry(locality, priority, weight)
        index = known
        for row in range(one.first, one.last):
            reader.locality[row] = index
    return tuple(entries)


cdef str overflow(object entry, str kind):
    return f"locality {entry.locality or '(none)'}: {kind} weights of priority {entry.priority} sum past 2^32-1"


cdef str check_weights(Reader* reader, Py_ssize_t count, tuple localities):
    """Return why the weights of a priority cannot be summed in 32 bits, or an empty string."""
    cdef uint64_t endpoint_sum[PRIORITY_LAST + 1]
    cdef Py_ssize_t row
    memset(endpoint_sum, 0, sizeof(endpoint_sum))
    for row in range(count):
        endpoint_sum[reader.priority[row]] += reader.weight[row]
        if endpoint_sum[reader.priority[row]] > UINT32_MAX:
            entry = localities[reader.locality[row]]
            return overflow(entry, "endpoint")
    locality_sum = {}
    for entry in localities:
        total = locality_sum.get(entry.priority, 0) + (entry.weight or 0)
        if total > UINT32_MAX:
            return overflow(entry, "locality")
        locality_sum[entry.priority] = total
    return ""


cdef tuple name_paths(Reader* reader, Py_ssize_t count):
    """Replace the span in the row of each Unix socket by its index into the table of paths; return the table."""
    cdef dict index_of = {}
    cdef uint32_t span[2]
    cdef uint32_t index
    cdef Py_ssize_t row
    for row in range(count):
        if reader.family[row] != FAMILY_UNIX:
            continue
        memcpy(span, reader.address + 16 * row, 8)
        path = (<const char*> reader.start + span[0])[:span[1]]
        index = index_of.setdefault(path, len(index_of))
        memset(reader.address + 16 * row, 0, 16)
        memcpy(reader.address + 16 * row, &index, 4)
    return tuple(index_of)


def read_text(raw: bytes, field: int, /) -> str:
    """The string in top-level field `field` as far as it can be read, "" otherwise. Never raises."""
    cdef Cursor at = <Cursor> PyBytes_AS_STRING(raw)
    cdef Cursor end = at + PyBytes_GET_SIZE(raw)
    cdef uint32_t number = 0, wire_type = 0
    cdef Span span
    span.start = span.end = NULL
    while at != NULL and at < end:
        at = read_tag(at, end, &number, &wire_type)
        if at == NULL:
            break
        if number == <uint32_t> field and wire_type == LENGTH_DELIMITED:
            at = read_payload(at, end, &span)
        else:
            at = skip_value(at, end, wire_type)
    if span.start == NULL:
        return ""
    return (<const char*> span.start)[:span.end - span.start].decode("utf-8", "replace")


cdef object rejection(Reader* reader, int fault, str kind, str resource):
    reason = SENTENCES[fault]
    if fault == NOT_AN_ADDRESS:
        shown = (<const char*> reader.fault_text.start)[:reader.fault_text.end - reader.fault_text.start]
        reason = f"{reason} {shown.decode('utf-8', 'replace')!r}"
    return XdsError(kind, resource, f"{reason} (byte {reader.fault_at - reader.start})", malformed=fault == MALFORMED)


cdef dict new_columns(Reader* reader, Py_ssize_t count):
    """Buffers for so many rows, by the name of their column; the reader writes into them."""
    cdef bytes family = buffer_of(count)
    cdef bytes address = buffer_of(16 * count)
    cdef bytes port = buffer_of(2 * count)
    cdef bytes weight = buffer_of(4 * count)
    cdef bytes health = buffer_of(count)
    cdef bytes priority = buffer_of(count)
    cdef bytes locality = buffer_of(2 * count)
    cdef bytes flags = buffer_of(count)
    reader.family = <uint8_t*> PyBytes_AS_STRING(family)
    reader.address = <uint8_t*> PyBytes_AS_STRING(address)
    reader.port = <uint16_t*> PyBytes_AS_STRING(port)
    reader.weight = <uint32_t*> PyBytes_AS_STRING(weight)
    reader.health = <uint8_t*> PyBytes_AS_STRING(health)
    reader.priority = <uint8_t*> PyBytes_AS_STRING(priority)
    reader.locality = <uint16_t*> PyBytes_AS_STRING(locality)
    reader.flags = <uint8_t*> PyBytes_AS_STRING(flags)
    return {
        "family": family, "address": address, "port": port, "weight": weight, "health": health, "priority": priority,
        "locality": locality, "flags": flags,
    }


cdef object further_of(Reader* reader, Cursor start, Cursor end, Py_ssize_t count):
    """The further addresses of endpoints, for which the message is read once more; None where none has any."""
    cdef uint32_t total = reader.further_count
    cdef bytes first, family, address, port
    if total == 0:
        return None
    first, family = buffer_of(4 * (count + 1)), buffer_of(total)
    address, port = buffer_of(16 * <Py_ssize_t> total), buffer_of(2 * <Py_ssize_t> total)
    reader.further_first = <uint32_t*> PyBytes_AS_STRING(first)
    reader.further_family = <uint8_t*> PyBytes_AS_STRING(family)
    reader.further_address = <uint8_t*> PyBytes_AS_STRING(address)
    reader.further_port = <uint16_t*> PyBytes_AS_STRING(port)
    reader.further_first[count] = total
    reader.further_count = 0
    reader.row = reader.locality_row = 0
    # What it finds wrong it has found before.
    read_assignment(reader, start, end)
    reader.further_first = NULL
    return Further(first, family, address, port)


cdef Py_ssize_t without_duplicates(
    Reader* reader, Py_ssize_t count, dict columns, object further, bint united
) except -1:
    """Take out rows whose address an earlier row has, which gets their weight if united; return how many are left.

    Puts what is left of `further` into `columns`.
    """
    cdef bytes duplicate = bytes(count)
    cdef Py_ssize_t found = find_duplicates(reader, count, <uint8_t*> PyBytes_AS_STRING(duplicate), united)
    cdef bytes priority, weight, locality
    if found < 0:
        raise MemoryError
    if found == 0:
        columns["further"] = further
        return count
    drop_rows(reader, count, <const uint8_t*> PyBytes_AS_STRING(duplicate))
    for name, column in columns.items():
        columns[name] = column[:len(column) // count * (count - found)]
    if further is not None:
        further = further.take([row for row in range(count) if not duplicate[row]])
    columns["further"] = further
    # What is still read: the buffers that were cut are gone.
    priority, weight, locality = columns["priority"], columns["weight"], columns["locality"]
    reader.priority = <uint8_t*> PyBytes_AS_STRING(priority)
    reader.weight = <uint32_t*> PyBytes_AS_STRING(weight)
    reader.locality = <uint16_t*> PyBytes_AS_STRING(locality)
    return count - found


cdef str check_policy(Reader* reader):
    """Why the settings of the assignment mean nothing, or an empty string."""
    if reader.has_factor and reader.factor == 0:
        return SENTENCES[ZERO_FACTOR]
    if reader.has_stale_after and (
        stale_after_of(reader) <= 0
        or not 0 <= reader.stale_after_ns < 1_000_000_000
        or reader.stale_after_s > 315_576_000_000
    ):
        return SENTENCES[BAD_DURATION]
    return ""


cdef inline double stale_after_of(Reader* reader) noexcept:
    return reader.stale_after_s + reader.stale_after_ns / 1e9


def decode_assignment(raw: bytes, /, kind: str = "EDS", resource: str = "") -> Assignment:
    """Read a ClusterLoadAssignment. Raises XdsError(kind, resource or the message's own cluster_name, reason)."""
    cdef Reader reader
    cdef Py_ssize_t count = 0
    cdef Py_ssize_t locality_count = 0
    cdef Cursor start = <Cursor> PyBytes_AS_STRING(raw)
    cdef Cursor end = start + PyBytes_GET_SIZE(raw)
    cdef int fault
    cdef dict columns
    memset(&reader, 0, sizeof(Reader))
    reader.start = start
    if PyBytes_GET_SIZE(raw) > 0x7FFFFFFF:
        raise XdsError(kind, resource or read_text(raw, 1), "longer than 2 GiB")
    fault = count_rows(&reader, start, end, &count, &locality_count)
    if fault < 0:
        raise rejection(&reader, fault, kind, resource or read_text(raw, 1))
    columns = new_columns(&reader, count)
    reader.localities = <LocalityEndpoints*> calloc(locality_count + 1, sizeof(LocalityEndpoints))
    if reader.localities == NULL:
        raise MemoryError
    try:
        fault = read_assignment(&reader, start, end)
        if fault < 0:
            raise rejection(&reader, fault, kind, resource or read_text(raw, 1))
        further = further_of(&reader, start, end, count)
        cluster_name = text_of(reader.cluster_name)
        localities = merge_localities(&reader, locality_count)
    except ValueError as error:
        # UnicodeDecodeError is one: a name or locality that is no UTF-8.
        raise XdsError(kind, resource or read_text(raw, 1), f"malformed text: {error}", malformed=True) from None
    finally:
        free(reader.localities)
    resource = resource or cluster_name
    names = name_paths(&reader, count)
    # Envoy drops what EDS names again, and keeps both where a cluster or its names say so: one endpoint of the sum.
    count = without_duplicates(&reader, count, columns, further, kind != "EDS")
    reason = check_weights(&reader, count, localities) or check_policy(&reader)
    if reason:
        raise XdsError(kind, resource, reason)
    return Assignment(
        cluster_name,
        Columns(count, localities=localities, names=names, **columns),
        reader.factor if reader.has_factor else OVERPROVISIONING_FACTOR,
        reader.weighted_priority_health != 0,
        stale_after_of(&reader) if reader.has_stale_after else 0.0,
        raw,
    )
