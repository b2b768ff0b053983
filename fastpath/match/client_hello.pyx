"""ClientHello parser: server name and ALPN out of a client's first bytes. Knows nothing of sockets, changes nothing.

The handshake message may be spread over any number of TLS records. It is first made contiguous (in place when one
record holds it, as every client of today sends it; otherwise copied to the stack), then read as far as it is here. The
answer to a prefix is final unless it is NEED_MORE: no later byte changes it, so it does not depend on segmentation, and
what is malformed is told as soon as the bytes show it.

`needed` is the earliest place where the hello can end, given the record headers and the message length seen so far.
A client that cuts its hello into thousands of tiny records so causes a few dozen looks, not thousands.

Example: 16 03 01 02 00 | 01 00 01 fc 03 03 ...: a record of 512 bytes with a message of 4 + 508. Until the record
header is here 5 bytes are needed, until the message length is here 50 (the shortest hello), then 517. Had the record
held 100 bytes only, 522 would be needed: the rest takes another record header at least.
"""
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memcpy

from eastgate.fastpath.match.facts cimport add_protocol

from typing import NamedTuple

cdef enum:
    RECORD_HEADER = 5
    RECORD_LIMIT = 16384        # RFC 8446 section 5.1: fragment length of a plaintext record
    MESSAGE_HEADER = 4
    # Version, random, and the shortest session id (empty), cipher suites (one) and compression methods (one).
    MESSAGE_SHORTEST = 45
    SERVER_NAME_LIMIT = 253     # octets of a DNS name in text
    CONTENT_HANDSHAKE = 22
    HANDSHAKE_CLIENT_HELLO = 1
    EXTENSION_SERVER_NAME = 0
    EXTENSION_ALPN = 16


class ParsedHello(NamedTuple):
    """`status`: complete, need_more, not_tls, malformed, oversize or bad_sni; `needed` belongs to need_more.

    `protocols_incomplete`: more ALPN values were offered than are kept.
    """

    status: str
    needed: int
    version: int
    server_name: str
    application_protocols: tuple
    protocols_incomplete: bool = False


# ---- records

# The handshake message without record headers, as far as it is here.
cdef struct Message:
    const uint8_t* bytes        # into the given data while one record is enough, else the scratch buffer
    uint32_t shown
    uint32_t total              # with its header; 0 until that is here


cdef inline void show(Message* message, const uint8_t* source, uint32_t count, uint8_t* scratch) noexcept nogil:
    if message.bytes == scratch:
        memcpy(scratch + message.shown, source, count)
    message.shown += count


cdef HelloStatus join_records(
    const uint8_t* data, size_t length, uint32_t limit, Message* message, uint8_t* scratch, uint32_t* needed
) noexcept nogil:
    """COMPLETE when the whole message is shown; otherwise what stands in the way, in the order of the bytes."""
    cdef size_t at = 0
    cdef size_t have, end
    cdef uint32_t size, here, step, left
    message.bytes = data + RECORD_HEADER
    message.shown = 0
    message.total = 0
    while True:
        have = length - at
        if (have >= 1 and data[at] != CONTENT_HANDSHAKE) or (have >= 2 and data[at + 1] != 3):
            return HELLO_MALFORMED if at else HELLO_NOT_TLS
        if have < RECORD_HEADER:
            # The first bytes may show that this is no TLS at all: no reason to wait for more than a header.
            left = (message.total or MESSAGE_SHORTEST) - message.shown
            needed[0] = <uint32_t>(at + RECORD_HEADER + left) if at else RECORD_HEADER
            return HELLO_NEED_MORE
        size = <uint32_t>data[at + 3] << 8 | data[at + 4]
        if size == 0 or size > RECORD_LIMIT:
            return HELLO_MALFORMED
        if at and message.bytes != scratch:
            memcpy(scratch, message.bytes, message.shown)
            message.bytes = scratch
        at += RECORD_HEADER
        have -= RECORD_HEADER
        here = size if size < have else <uint32_t>have
        step = 0
        if message.total == 0:
            step = MESSAGE_HEADER - message.shown
            step = here if here < step else step
            show(message, data + at, step, scratch)
            if message.shown and message.bytes[0] != HANDSHAKE_CLIENT_HELLO:
                return HELLO_MALFORMED
            if message.shown == MESSAGE_HEADER:
                message.total = MESSAGE_HEADER + (
                    <uint32_t>message.bytes[1] << 16 | <uint32_t>message.bytes[2] << 8 | message.bytes[3]
                )
                if message.total < MESSAGE_SHORTEST:
                    return HELLO_MALFORMED
        left = (message.total or MESSAGE_SHORTEST) - message.shown
        end = at + step + left + (RECORD_HEADER if left > size - step else 0)
        if end > limit:
            return HELLO_OVERSIZE
        # end <= limit <= HELLO_LIMIT bounds what the scratch buffer ever takes.
        show(message, data + at + step, left if left < here - step else here - step, scratch)
        if message.total and message.shown == message.total:
            return HELLO_COMPLETE
        if here < size:
            needed[0] = <uint32_t>end
            return HELLO_NEED_MORE
        at += size


# ---- message

# Offsets into a message. `status` other than COMPLETE is final, and every further read then answers 0.
cdef struct Reader:
    const uint8_t* bytes
    uint32_t at
    uint32_t shown              # bytes that are here
    uint32_t end                # of the vector that is being read
    HelloStatus status


cdef inline bint available(Reader* reader, uint32_t count) noexcept nogil:
    if reader.status != HELLO_COMPLETE:
        return False
    if count > reader.end - reader.at:
        reader.status = HELLO_MALFORMED
    elif reader.at + count > reader.shown:
        reader.status = HELLO_NEED_MORE
    return reader.status == HELLO_COMPLETE


cdef inline uint32_t read_8(Reader* reader) noexcept nogil:
    if not available(reader, 1):
        return 0
    reader.at += 1
    return reader.bytes[reader.at - 1]


cdef inline uint32_t read_16(Reader* reader) noexcept nogil:
    if not available(reader, 2):
        return 0
    reader.at += 2
    return <uint32_t>reader.bytes[reader.at - 2] << 8 | reader.bytes[reader.at - 1]


cdef inline void require(Reader* reader, bint well_formed) noexcept nogil:
    if reader.status == HELLO_COMPLETE and not well_formed:
        reader.status = HELLO_MALFORMED


cdef inline void skip(Reader* reader, uint32_t count) noexcept nogil:
    # May step past what is here; the next read then asks for more.
    require(reader, count <= reader.end - reader.at)
    if reader.status == HELLO_COMPLETE:
        reader.at += count


cdef inline uint32_t enter(Reader* reader, uint32_t count) noexcept nogil:
    """Narrow the reader to a vector of `count` bytes; answers the end to go back to."""
    cdef uint32_t outer = reader.end
    require(reader, count <= outer - reader.at)
    if reader.status == HELLO_COMPLETE:
        reader.end = reader.at + count
    return outer


cdef inline bint unread(Reader* reader) noexcept nogil:
    return reader.status == HELLO_COMPLETE and reader.at < reader.end


cdef bint read_host_name(Reader* reader, uint32_t size, ClientHello* hello) noexcept nogil:
    cdef const uint8_t* name = reader.bytes + reader.at
    cdef uint8_t* into = <uint8_t*>hello.sni
    cdef uint32_t index
    cdef uint8_t byte
    cdef uint8_t bad = 0
    # Without a branch, so that sixteen bytes are looked at in one step: names are long, and each hello has one.
    for index in range(size):
        byte = name[index]
        bad |= <uint8_t>(<uint8_t>(byte - 0x21) > 0x7E - 0x21)
        into[index] = byte | <uint8_t>(<uint8_t>(<uint8_t>(byte - 65) < 26) << 5)
    hello.sni_length = <uint16_t>size
    return bad == 0


cdef bint read_server_name(Reader* reader, ClientHello* hello) noexcept nogil:
    """Whether the extension holds exactly one host name that can be one."""
    cdef uint32_t kind, size
    cdef uint32_t count = 0
    cdef bint good = True
    size = read_16(reader)
    require(reader, size == reader.end - reader.at)
    while unread(reader):
        kind = read_8(reader)
        size = read_16(reader)
        count += 1
        # SERVER_NAME_LIMIT also bounds what is written to hello.sni.
        if kind != 0 or count > 1 or size == 0 or size > SERVER_NAME_LIMIT:
            good = False
            skip(reader, size)
        elif available(reader, size):
            good = read_host_name(reader, size, hello)
            reader.at += size
    return good and count == 1


cdef void read_protocols(Reader* reader, ClientHello* hello) noexcept nogil:
    cdef uint32_t size = read_16(reader)
    require(reader, size != 0 and size == reader.end - reader.at)
    while unread(reader):
        size = read_8(reader)
        require(reader, size != 0)
        if available(reader, size):
            add_protocol(&hello.protocols, reader.bytes + reader.at, size)
            reader.at += size


cdef bint read_extensions(Reader* reader, ClientHello* hello) noexcept nogil:
    """Whether the server name, if there is one, is usable."""
    cdef uint32_t kind, size, outer
    cdef bint good_name = True
    cdef bint named = False
    cdef bint negotiated = False
    size = read_16(reader)
    require(reader, size == reader.end - reader.at)
    while unread(reader):
        if reader.end - reader.at >= 4 and reader.at + 4 <= reader.shown:
            # Both are here: one question instead of four, for each of a dozen extensions.
            kind = <uint32_t>reader.bytes[reader.at] << 8 | reader.bytes[reader.at + 1]
            size = <uint32_t>reader.bytes[reader.at + 2] << 8 | reader.bytes[reader.at + 3]
            reader.at += 4
        else:
            kind = read_16(reader)
            size = read_16(reader)
        outer = enter(reader, size)
        if kind == EXTENSION_SERVER_NAME:
            # Two server names are two chances to be routed by one and served by the other.
            good_name = not named and read_server_name(reader, hello)
            named = True
        elif kind == EXTENSION_ALPN:
            require(reader, not negotiated)
            read_protocols(reader, hello)
            negotiated = True
        if reader.status == HELLO_COMPLETE:
            reader.at = reader.end
        reader.end = outer
    return good_name


cdef HelloStatus read_message(Message* message, ClientHello* hello) noexcept nogil:
    cdef Reader reader
    cdef uint32_t size
    cdef bint good_name = True
    if message.total == 0:
        return HELLO_NEED_MORE
    reader.bytes = message.bytes
    reader.at = MESSAGE_HEADER
    reader.shown = message.shown
    reader.end = message.total
    reader.status = HELLO_COMPLETE
    hello.version = <uint16_t>read_16(&reader)
    # 0x0300 is SSL 3, which nobody may speak; TLS 1.3 calls itself 0x0303 here.
    require(&reader, hello.version >> 8 == 3 and hello.version & 0xFF != 0)
    skip(&reader, 32)
    size = read_8(&reader)
    require(&reader, size <= 32)
    skip(&reader, size)
    size = read_16(&reader)
    require(&reader, size != 0 and size & 1 == 0)
    skip(&reader, size)
    size = read_8(&reader)
    require(&reader, size != 0)
    skip(&reader, size)
    # A TLS 1.0 client may end here: no extensions, no server name.
    if unread(&reader):
        good_name = read_extensions(&reader, hello)
    if reader.status == HELLO_COMPLETE and message.shown < message.total:
        return HELLO_NEED_MORE
    if reader.status == HELLO_COMPLETE and not good_name:
        return HELLO_BAD_SNI
    return reader.status


cdef HelloStatus parse_client_hello(
    const uint8_t* data, size_t length, uint32_t limit, ClientHello* hello
) noexcept nogil:
    cdef uint8_t scratch[HELLO_LIMIT]
    cdef Message message
    cdef HelloStatus records, status
    hello.needed = 0
    hello.version = 0
    hello.sni_length = 0
    hello.protocols.count = 0
    hello.protocols.incomplete = 0
    records = join_records(data, length, limit, &message, scratch, &hello.needed)
    if records == HELLO_NOT_TLS:
        status = records
    else:
        # What the message says stands before whatever ended it: it came first.
        status = read_message(&message, hello)
        if status == HELLO_NEED_MORE:
            status = records
    if status != HELLO_NEED_MORE:
        hello.needed = 0
    if status != HELLO_COMPLETE:
        hello.sni_length = 0
        if status != HELLO_BAD_SNI:
            hello.protocols.count = 0
            hello.protocols.incomplete = 0
    hello.sni[hello.sni_length] = 0
    return status


cdef tuple STATUS_NAMES = ("complete", "need_more", "not_tls", "malformed", "oversize", "bad_sni")


def parse(bytes data not None, *, limit=HELLO_LIMIT):
    """Parse the bytes that a client has sent so far. Never raises for what they hold.

    `limit`: bytes that the hello may take with its record headers, 16384 at most.
    """
    cdef ClientHello hello
    cdef HelloStatus status
    if not 1 <= limit <= HELLO_LIMIT:
        raise ValueError(f"limit {limit} is outside 1..{HELLO_LIMIT}")
    status = parse_client_hello(<const uint8_t*><const char*>data, len(data), limit, &hello)
    protocols = []
    for index in range(hello.protocols.count):
        start = hello.protocols.offset[index]
        # Latin-1: any byte is legal in an ALPN name and keeps its value.
        protocols.append(hello.protocols.bytes[start:start + hello.protocols.length[index]].decode("latin-1"))
    return ParsedHello(
        status=STATUS_NAMES[<int>status],
        needed=hello.needed,
        version=hello.version,
        server_name=hello.sni[:hello.sni_length].decode("ascii"),
        application_protocols=tuple(protocols),
        protocols_incomplete=bool(hello.protocols.incomplete),
    )


def spin(bytes data not None, count):
    """Parse `data` natively `count` times and return how many answers were complete. For benchmarks."""
    cdef ClientHello hello
    cdef const uint8_t* start = <const uint8_t*><const char*>data
    cdef size_t length = len(data)
    cdef size_t rounds = count
    cdef size_t complete = 0
    cdef size_t _round
    with nogil:
        for _round in range(rounds):
            complete += parse_client_hello(start, length, HELLO_LIMIT, &hello) == HELLO_COMPLETE
    return complete
