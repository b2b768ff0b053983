"""PROXY protocol header, versions 1 and 2. Specification: haproxy, doc/proxy-protocol.txt.

Version 1 is one text line of at most 107 bytes; version 2 a 12-byte signature, a version and command, a family, a length
and that many bytes, the first of which are addresses. A header that conveys no address (UNKNOWN, LOCAL, Unix sockets) is
complete with family 0: the addresses of the socket count then.
"""
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memchr, memcmp, memcpy, memset

from eastgate.fastpath.posix cimport AF_INET, AF_INET6, inet_ntop, inet_pton

from typing import NamedTuple

cdef enum:
    V1_LIMIT = 107              # "PROXY TCP6 " and the longest addresses and ports, CR LF included
    V1_SHORTEST = 15            # "PROXY UNKNOWN" CR LF
    V2_FIXED = 16

cdef const uint8_t* V2_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
cdef const uint8_t* V1_SIGNATURE = b"PROXY "


class ParsedProxyHeader(NamedTuple):
    """`status`: complete, need_more or malformed; the addresses are (host, port), None when none is conveyed."""

    status: str
    needed: int
    header_length: int
    source: tuple | None
    destination: tuple | None


cdef bint read_port(const uint8_t* text, size_t length, uint16_t* port) noexcept nogil:
    cdef uint32_t value = 0
    cdef size_t index
    if length == 0 or length > 5 or (length > 1 and text[0] == c"0"):
        return False
    for index in range(length):
        if not c"0" <= text[index] <= c"9":
            return False
        value = value * 10 + (text[index] - c"0")
    port[0] = <uint16_t>value
    return value <= 65535


cdef bint read_address(const uint8_t* text, size_t length, int family, uint8_t* address) noexcept nogil:
    cdef char terminated[64]
    if length == 0 or length >= sizeof(terminated):
        return False
    memcpy(terminated, text, length)
    terminated[length] = 0
    return inet_pton(family, terminated, address) == 1


cdef ProxyHeaderStatus parse_v1(const uint8_t* data, size_t length, ProxyHeader* header) noexcept nogil:
    cdef size_t shown = length if length < V1_LIMIT else V1_LIMIT
    cdef const uint8_t* end = <const uint8_t*>memchr(data, c"\n", shown)
    cdef const uint8_t* field[4]
    cdef size_t size[4]
    cdef size_t at, stop
    cdef int index, family
    if end == NULL:
        if length >= V1_LIMIT:
            return PROXY_MALFORMED
        # The line's length is unknown: any further byte may be its end.
        header.needed = <uint32_t>(length + 1 if length >= V1_SHORTEST else V1_SHORTEST)
        return PROXY_NEED_MORE
    stop = end - data
    if stop < 7 or data[stop - 1] != c"\r":
        return PROXY_MALFORMED
    header.header_length = <uint32_t>(stop + 1)
    stop -= 1
    if stop >= 13 and memcmp(data + 6, b"UNKNOWN", 7) == 0 and (stop == 13 or data[13] == c" "):
        return PROXY_COMPLETE
    if stop < 11 or (memcmp(data + 6, b"TCP4 ", 5) != 0 and memcmp(data + 6, b"TCP6 ", 5) != 0):
        return PROXY_MALFORMED
    family = 4 if data[9] == c"4" else 6
    at = 11
    for index in range(4):
        field[index] = data + at
        size[index] = 0
        while at < stop and data[at] != c" ":
            at += 1
            size[index] += 1
        if index < 3:
            if at == stop:
                return PROXY_MALFORMED
            at += 1
    if at != stop:
        return PROXY_MALFORMED
    if (
        not read_address(field[0], size[0], AF_INET if family == 4 else AF_INET6, header.source)
        or not read_address(field[1], size[1], AF_INET if family == 4 else AF_INET6, header.destination)
        or not read_port(field[2], size[2], &header.source_port)
        or not read_port(field[3], size[3], &header.destination_port)
    ):
        return PROXY_MALFORMED
    header.family = <uint8_t>family
    return PROXY_COMPLETE


cdef ProxyHeaderStatus parse_v2(const uint8_t* data, size_t length, ProxyHeader* header) noexcept nogil:
    cdef uint32_t total
    cdef uint8_t command, family
    cdef const uint8_t* addresses = data + V2_FIXED
    if length < V2_FIXED:
        header.needed = V2_FIXED
        return PROXY_NEED_MORE
    command = data[12]
    family = data[13]
    total = V2_FIXED + (<uint32_t>data[14] << 8 | data[15])
    if command >> 4 != 2 or command & 0xF > 1 or family >> 4 > 3 or family & 0xF > 2 or total > PROXY_HEADER_LIMIT:
        return PROXY_MALFORMED
    # A TCP connection whose header speaks of datagrams is somebody else's.
    if command & 0xF == 1 and family & 0xF == 2:
        return PROXY_MALFORMED
    if length < total:
        header.needed = total
        return PROXY_NEED_MORE
    header.header_length = total
    if command & 0xF == 0:
        return PROXY_COMPLETE
    if family == 0x11:
        if total < V2_FIXED + 12:
            return PROXY_MALFORMED
        memcpy(header.source, addresses, 4)
        memcpy(header.destination, addresses + 4, 4)
        header.source_port = <uint16_t>(<uint32_t>addresses[8] << 8 | addresses[9])
        header.destination_port = <uint16_t>(<uint32_t>addresses[10] << 8 | addresses[11])
        header.family = 4
    elif family == 0x21:
        if total < V2_FIXED + 36:
            return PROXY_MALFORMED
        memcpy(header.source, addresses, 16)
        memcpy(header.destination, addresses + 16, 16)
        header.source_port = <uint16_t>(<uint32_t>addresses[32] << 8 | addresses[33])
        header.destination_port = <uint16_t>(<uint32_t>addresses[34] << 8 | addresses[35])
        header.family = 6
    return PROXY_COMPLETE


cdef ProxyHeaderStatus parse_proxy_header(const uint8_t* data, size_t length, ProxyHeader* header) noexcept nogil:
    memset(header, 0, sizeof(ProxyHeader))
    if length == 0:
        header.needed = 1
        return PROXY_NEED_MORE
    if memcmp(data, V2_SIGNATURE, length if length < 12 else 12) == 0:
        return parse_v2(data, length, header)
    if memcmp(data, V1_SIGNATURE, length if length < 6 else 6) == 0:
        return parse_v1(data, length, header)
    return PROXY_MALFORMED


cdef tuple STATUS_NAMES = ("complete", "need_more", "malformed")


cdef object text_address(ProxyHeader* header, const uint8_t* address, uint16_t port):
    cdef char text[64]
    if header.family == 0:
        return None
    inet_ntop(AF_INET if header.family == 4 else AF_INET6, address, text, sizeof(text))
    return ((<bytes>text).decode(), port)


def parse(bytes data not None):
    """Parse the bytes that a peer has sent so far. Never raises for what they hold."""
    cdef ProxyHeader header
    cdef ProxyHeaderStatus status = parse_proxy_header(<const uint8_t*><const char*>data, len(data), &header)
    conveyed = status == PROXY_COMPLETE
    return ParsedProxyHeader(
        status=STATUS_NAMES[<int>status],
        needed=header.needed,
        header_length=header.header_length if conveyed else 0,
        source=text_address(&header, header.source, header.source_port) if conveyed else None,
        destination=text_address(&header, header.destination, header.destination_port) if conveyed else None,
    )
