"""ClientHello parser: server name and ALPN out of peeked bytes. Knows nothing of sockets and consumes nothing.

The handshake message may be spread over any number of TLS records; a cursor walks the message and skips the five bytes
of each record header. When bytes are missing it says how many are needed from the start, so that the caller can tell
the kernel (SO_RCVLOWAT) instead of waking up for each segment. What is malformed is told as soon as the bytes show it.

Worked example: 16 03 01 02 00 | 01 00 01 fc 03 03 ...: a handshake record of 512 bytes with a ClientHello of 508. With
fewer than 5 bytes 5 are needed, then 517.
"""
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memset

from typing import NamedTuple

cdef enum:
    RECORD_HEADER = 5
    RECORD_LIMIT = 16384        # RFC 8446 section 5.1: fragment length of a plaintext record
    CONTENT_HANDSHAKE = 22
    HANDSHAKE_CLIENT_HELLO = 1
    EXTENSION_SERVER_NAME = 0
    EXTENSION_ALPN = 16


class ParsedHello(NamedTuple):
    """`status`: complete, need_more, not_tls, malformed, oversize or bad_sni; `needed` belongs to need_more."""

    status: str
    needed: int
    version: int
    server_name: str
    application_protocols: tuple


# Walks the bytes of the handshake message through record boundaries. `status` other than HELLO_COMPLETE is final, and
# every further read then answers 0.
cdef struct Cursor:
    const uint8_t* data
    size_t length
    size_t at                   # next byte, counted from the start of the data
    size_t record_end           # end of the record that `at` lies in
    uint32_t left               # bytes of the message (or of the vector in it) not read yet
    HelloStatus status
    uint32_t needed


cdef inline void fail(Cursor* cursor, HelloStatus status) noexcept nogil:
    if cursor.status == HELLO_COMPLETE:
        cursor.status = status


cdef inline void need(Cursor* cursor, size_t total) noexcept nogil:
    if cursor.status != HELLO_COMPLETE:
        return
    if total > HELLO_LIMIT:
        cursor.status = HELLO_OVERSIZE
    else:
        cursor.status = HELLO_NEED_MORE
        cursor.needed = <uint32_t>total


cdef void open_record(Cursor* cursor) noexcept nogil:
    """Read the record header at the cursor and step behind it."""
    cdef const uint8_t* header = cursor.data + cursor.at
    cdef size_t have = cursor.length - cursor.at
    cdef bint first = cursor.at == 0
    cdef uint32_t size
    if (have >= 1 and header[0] != CONTENT_HANDSHAKE) or (have >= 2 and header[1] != 3):
        fail(cursor, HELLO_NOT_TLS if first else HELLO_MALFORMED)
        return
    if have < RECORD_HEADER:
        need(cursor, cursor.at + RECORD_HEADER)
        return
    size = <uint32_t>header[3] << 8 | header[4]
    if size == 0 or size > RECORD_LIMIT:
        fail(cursor, HELLO_MALFORMED)
        return
    cursor.at += RECORD_HEADER
    cursor.record_end = cursor.at + size


cdef inline uint8_t read_byte(Cursor* cursor) noexcept nogil:
    cdef uint8_t value
    if cursor.status != HELLO_COMPLETE:
        return 0
    if cursor.left == 0:
        fail(cursor, HELLO_MALFORMED)
        return 0
    if cursor.at == cursor.record_end:
        open_record(cursor)
        if cursor.status != HELLO_COMPLETE:
            return 0
    if cursor.at >= cursor.length:
        # TLS clients write whole records: asking for less would only mean more wake-ups.
        need(cursor, cursor.record_end)
        return 0
    value = cursor.data[cursor.at]
    cursor.at += 1
    cursor.left -= 1
    return value


cdef inline uint32_t read_number(Cursor* cursor, int size) noexcept nogil:
    cdef uint32_t value = 0
    cdef int index
    for index in range(size):
        value = value << 8 | read_byte(cursor)
    return value


cdef void skip(Cursor* cursor, uint32_t count) noexcept nogil:
    cdef size_t step
    if cursor.status == HELLO_COMPLETE and count > cursor.left:
        fail(cursor, HELLO_MALFORMED)
    while count and cursor.status == HELLO_COMPLETE:
        if cursor.at == cursor.record_end:
            open_record(cursor)
            continue
        step = cursor.record_end - cursor.at
        if step > count:
            step = count
        if step > cursor.length - cursor.at:
            need(cursor, cursor.record_end)
            return
        cursor.at += step
        cursor.left -= <uint32_t>step
        count -= <uint32_t>step


cdef inline uint32_t enter(Cursor* cursor, uint32_t size) noexcept nogil:
    """Narrow the cursor to a vector of `size` bytes; returns what `leave` needs to widen it again."""
    cdef uint32_t outer = cursor.left
    if cursor.status == HELLO_COMPLETE and size > outer:
        fail(cursor, HELLO_MALFORMED)
        return outer
    cursor.left = size
    return outer - size


cdef inline void leave(Cursor* cursor, uint32_t outer) noexcept nogil:
    skip(cursor, cursor.left)
    cursor.left = outer


cdef inline bint is_name_byte(uint8_t byte) noexcept nogil:
    return 0x21 <= byte <= 0x7E


cdef bint read_server_name(Cursor* cursor, ClientHello* hello) noexcept nogil:
    """Whether the extension holds one usable host name. A list of other types or an empty one is none."""
    cdef uint32_t outer, size, index
    cdef uint8_t kind, byte
    cdef bint good = True
    outer = enter(cursor, read_number(cursor, 2))
    if cursor.status == HELLO_COMPLETE and outer != 0:
        fail(cursor, HELLO_MALFORMED)
    hello.sni_length = 0
    if cursor.left == 0:
        good = False
    while cursor.left and cursor.status == HELLO_COMPLETE:
        kind = read_byte(cursor)
        size = read_number(cursor, 2)
        if cursor.status != HELLO_COMPLETE:
            break
        if size > cursor.left:
            fail(cursor, HELLO_MALFORMED)
            break
        if kind != 0 or hello.sni_length or size == 0 or size > 253:
            good = False
            skip(cursor, size)
            continue
        for index in range(size):
            byte = read_byte(cursor)
            if not is_name_byte(byte):
                good = False
            hello.sni[index] = <char>(byte | 0x20 if 65 <= byte <= 90 else byte)
        hello.sni_length = <uint16_t>size
    leave(cursor, outer)
    if not good:
        hello.sni_length = 0
    hello.sni[hello.sni_length] = 0
    return good


cdef void read_protocols(Cursor* cursor, ClientHello* hello) noexcept nogil:
    cdef uint32_t outer = enter(cursor, read_number(cursor, 2))
    cdef uint32_t used = 0
    cdef uint32_t size, index
    if cursor.status == HELLO_COMPLETE and (outer != 0 or cursor.left == 0):
        fail(cursor, HELLO_MALFORMED)
    while cursor.left and cursor.status == HELLO_COMPLETE:
        size = read_byte(cursor)
        if cursor.status != HELLO_COMPLETE:
            break
        if size == 0 or size > cursor.left:
            fail(cursor, HELLO_MALFORMED)
            break
        if hello.alpn_count == ALPN_CAPACITY or used + size > ALPN_BYTES:
            skip(cursor, size)
            continue
        for index in range(size):
            hello.alpn[used + index] = read_byte(cursor)
        hello.alpn_offset[hello.alpn_count] = <uint16_t>used
        hello.alpn_length[hello.alpn_count] = <uint8_t>size
        hello.alpn_count += 1
        used += size
    leave(cursor, outer)


cdef bint read_extensions(Cursor* cursor, ClientHello* hello) noexcept nogil:
    """Whether the server name, if there is one, is usable."""
    cdef uint32_t outer, inner, size
    cdef uint16_t kind
    cdef bint good_name = True
    cdef bint named = False
    cdef bint negotiated = False
    outer = enter(cursor, read_number(cursor, 2))
    if cursor.status == HELLO_COMPLETE and outer != 0:
        fail(cursor, HELLO_MALFORMED)
    while cursor.left and cursor.status == HELLO_COMPLETE:
        kind = <uint16_t>read_number(cursor, 2)
        size = read_number(cursor, 2)
        inner = enter(cursor, size)
        if cursor.status != HELLO_COMPLETE:
            break
        if kind == EXTENSION_SERVER_NAME:
            # Two server names are two chances to be matched by one and served by the other.
            good_name = read_server_name(cursor, hello) and not named
            named = True
        elif kind == EXTENSION_ALPN:
            if negotiated:
                fail(cursor, HELLO_MALFORMED)
            negotiated = True
            read_protocols(cursor, hello)
        leave(cursor, inner)
    leave(cursor, outer)
    return good_name


cdef HelloStatus parse_client_hello(const uint8_t* data, size_t length, ClientHello* hello) noexcept nogil:
    cdef Cursor cursor
    cdef uint32_t size
    cdef bint good_name = True
    if length > HELLO_LIMIT:
        length = HELLO_LIMIT
    memset(&cursor, 0, sizeof(cursor))
    cursor.data = data
    cursor.length = length
    cursor.left = 4
    hello.needed = 0
    hello.version = 0
    hello.sni_length = 0
    hello.sni[0] = 0
    hello.alpn_count = 0
    size = read_byte(&cursor)
    if cursor.status == HELLO_COMPLETE and size != HANDSHAKE_CLIENT_HELLO:
        fail(&cursor, HELLO_MALFORMED)
    size = read_number(&cursor, 3)
    if cursor.status == HELLO_COMPLETE and size + RECORD_HEADER + 4 > HELLO_LIMIT:
        fail(&cursor, HELLO_OVERSIZE)
    cursor.left = size
    hello.version = <uint16_t>read_number(&cursor, 2)
    if cursor.status == HELLO_COMPLETE and hello.version >> 8 != 3:
        fail(&cursor, HELLO_MALFORMED)
    skip(&cursor, 32)
    size = read_byte(&cursor)
    if size > 32:
        fail(&cursor, HELLO_MALFORMED)
    skip(&cursor, size)
    size = read_number(&cursor, 2)
    if cursor.status == HELLO_COMPLETE and (size < 2 or size & 1):
        fail(&cursor, HELLO_MALFORMED)
    skip(&cursor, size)
    size = read_byte(&cursor)
    if cursor.status == HELLO_COMPLETE and size == 0:
        fail(&cursor, HELLO_MALFORMED)
    skip(&cursor, size)
    # TLS 1.0 clients may end here: no extensions, no server name.
    if cursor.status == HELLO_COMPLETE and cursor.left:
        good_name = read_extensions(&cursor, hello)
    if cursor.status != HELLO_COMPLETE:
        hello.needed = cursor.needed
        hello.sni_length = 0
        hello.sni[0] = 0
        hello.alpn_count = 0
        return cursor.status
    if not good_name:
        hello.sni_length = 0
        hello.sni[0] = 0
        return HELLO_BAD_SNI
    return HELLO_COMPLETE


cdef tuple STATUS_NAMES = ("complete", "need_more", "not_tls", "malformed", "oversize", "bad_sni")


def parse(bytes data not None):
    """Parse the bytes that a client has sent so far. Never raises for what they hold."""
    cdef ClientHello hello
    cdef HelloStatus status = parse_client_hello(<const uint8_t*><const char*>data, len(data), &hello)
    protocols = []
    for index in range(hello.alpn_count):
        start = hello.alpn_offset[index]
        protocols.append(hello.alpn[start:start + hello.alpn_length[index]].decode("latin-1"))
    return ParsedHello(
        status=STATUS_NAMES[<int>status],
        needed=hello.needed,
        version=hello.version,
        server_name=hello.sni[:hello.sni_length].decode("ascii"),
        application_protocols=tuple(protocols),
    )
