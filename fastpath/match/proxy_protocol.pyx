"""PROXY protocol header, versions 1 and 2. Specification: haproxy, doc/proxy-protocol.txt.

Version 1 is one text line of at most 107 bytes; version 2 a 12-byte signature, a version and command, a family, a
length and that many bytes: addresses, then TLVs (type, length in two bytes, value). A header that conveys no address
(UNKNOWN, LOCAL) is complete with family 0: the addresses of the socket count then.

As in Envoy, and not in the specification: a version 2 header of Unix sockets or of no family at all is malformed, as
TLVs are that do not end with the header, unless it is LOCAL, and addresses of which no host has one (unspecified,
multicast, broadcast). Datagrams count as streams. Unlike Envoy, a line has no blank at its end, no "+" before a port,
no zone behind an address, and 107 bytes at most.

A prefix is malformed as soon as no header begins with it, and that is final. `needed` is the earliest place where the
header can end: 15 for a line ("PROXY UNKNOWN" CR LF), then 1 or 2 more bytes than are here; 16, then the whole of it
for version 2. Where a header is optional it is the earliest place that shows that none is sent: the next byte, as long
as the signature is not complete.
"""
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memcmp, memcpy, memset

from eastgate.fastpath.posix cimport AF_INET, AF_INET6, inet_ntop, inet_pton

from typing import NamedTuple

cdef enum:
    V1_LIMIT = 107              # "PROXY TCP6 ", the longest addresses and ports, and CR LF
    V1_SHORTEST = 15
    V2_FIXED = 16
    V2_SIGNATURE_LENGTH = 12
    ADDRESS_TEXT = 40           # eight groups of four digits, seven colons, and NUL
    COMMAND_LOCAL = 0x20        # version 2 in the high half
    COMMAND_PROXY = 0x21
    V1_SIGNATURE_LENGTH = 6
    TLV_HEADER = 3
    PORTS = 4                   # two of them
    LOOKED_AT = 232             # where Envoy looks for the end of a line: version 2 with paths of Unix sockets

cdef const char* V1_SIGNATURE = b"PROXY "
cdef const char* V2_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"


class ParsedProxyHeader(NamedTuple):
    """`status`: complete, need_more, malformed or absent; addresses are (host, port), None when none is conveyed."""

    status: str
    needed: int
    header_length: int
    source: tuple | None
    destination: tuple | None


# ---- version 1

# Walks the line. `status` other than COMPLETE is final, and every further step then does nothing.
cdef struct Line:
    const uint8_t* at
    const uint8_t* end
    ProxyHeaderStatus status


cdef inline bint has_byte(Line* line) noexcept nogil:
    if line.status == PROXY_COMPLETE and line.at == line.end:
        line.status = PROXY_NEED_MORE
    return line.status == PROXY_COMPLETE


cdef inline void expect(Line* line, const char* text, size_t length) noexcept nogil:
    cdef size_t index
    for index in range(length):
        if not has_byte(line):
            return
        if line.at[0] != <uint8_t>text[index]:
            line.status = PROXY_MALFORMED
            return
        line.at += 1


cdef void read_address(Line* line, int family, uint8_t* address) noexcept nogil:
    cdef char text[ADDRESS_TEXT]
    cdef uint32_t length = 0
    cdef uint8_t byte
    while has_byte(line) and line.at[0] != c" ":
        byte = line.at[0]
        if length == ADDRESS_TEXT - 1 or not (
            c"0" <= byte <= c"9" or byte == c"." or (
                family == AF_INET6 and (byte == c":" or c"a" <= byte <= c"f" or c"A" <= byte <= c"F")
            )
        ):
            line.status = PROXY_MALFORMED
            return
        text[length] = <char>byte
        length += 1
        line.at += 1
    text[length] = 0
    if line.status == PROXY_COMPLETE and inet_pton(family, text, address) != 1:
        line.status = PROXY_MALFORMED


cdef void read_port(Line* line, uint16_t* port) noexcept nogil:
    cdef uint32_t value = 0
    cdef uint32_t digits = 0
    while has_byte(line) and c"0" <= line.at[0] <= c"9":
        value = value * 10 + (line.at[0] - c"0")
        digits += 1
        if value > 65535:
            line.status = PROXY_MALFORMED
            return
        line.at += 1
    if line.status == PROXY_COMPLETE and digits == 0:
        line.status = PROXY_MALFORMED
    port[0] = <uint16_t>value


cdef void skip_to_end(Line* line) noexcept nogil:
    # What follows UNKNOWN is for the sender's own use.
    if has_byte(line) and line.at[0] != c" " and line.at[0] != c"\r":
        line.status = PROXY_MALFORMED
    while has_byte(line) and line.at[0] != c"\r":
        line.at += 1


cdef bint are_of_hosts(const ProxyHeader* header) noexcept nogil:
    return is_of_a_host(header.family, header.source) and is_of_a_host(header.family, header.destination)


cdef bint is_of_a_host(uint8_t family, const uint8_t* address) noexcept nogil:
    cdef uint32_t size = 4 if family == 4 else 16
    cdef uint8_t every = 0xFF
    cdef uint8_t some = 0
    cdef uint32_t index
    for index in range(size):
        every &= address[index]
        some |= address[index]
    if family == 4:
        return some != 0 and every != 0xFF and address[0] >> 4 != 0xE
    return some != 0 and address[0] != 0xFF


cdef ProxyHeaderStatus parse_v1(const uint8_t* data, size_t length, ProxyHeader* header) noexcept nogil:
    cdef Line line
    cdef int family
    cdef size_t needed
    line.at = data
    line.end = data + (length if length < V1_LIMIT else V1_LIMIT)
    line.status = PROXY_COMPLETE
    expect(&line, V1_SIGNATURE, V1_SIGNATURE_LENGTH)
    if has_byte(&line) and line.at[0] == c"U":
        expect(&line, b"UNKNOWN", 7)
        skip_to_end(&line)
    else:
        expect(&line, b"TCP", 3)
        if has_byte(&line):
            header.family = line.at[0] - c"0"
            if header.family != 4 and header.family != 6:
                line.status = PROXY_MALFORMED
            line.at += 1
        family = AF_INET if header.family == 4 else AF_INET6
        expect(&line, b" ", 1)
        read_address(&line, family, header.source)
        expect(&line, b" ", 1)
        read_address(&line, family, header.destination)
        expect(&line, b" ", 1)
        read_port(&line, &header.source_port)
        expect(&line, b" ", 1)
        read_port(&line, &header.destination_port)
        if line.status == PROXY_COMPLETE and not are_of_hosts(header):
            line.status = PROXY_MALFORMED
    expect(&line, b"\r\n", 2)
    if line.status == PROXY_NEED_MORE:
        if length >= V1_LIMIT:
            return PROXY_MALFORMED
        needed = length + (1 if length and data[length - 1] == c"\r" else 2)
        if needed < V1_SHORTEST:
            needed = V1_SHORTEST
        header.needed = <uint32_t>(needed if needed < V1_LIMIT else V1_LIMIT)
    header.header_length = <uint32_t>(line.at - data)
    return line.status


# ---- version 2

cdef inline uint16_t read_16(const uint8_t* at) noexcept nogil:
    return <uint16_t>(<uint32_t>at[0] << 8 | at[1])


cdef inline uint8_t known_family(uint8_t byte) noexcept nogil:
    # IPv4 or IPv6 in the high half, stream or datagram in the low one; 0: neither.
    if byte & 0xF != 1 and byte & 0xF != 2:
        return 0
    return 4 if byte >> 4 == 1 else 6 if byte >> 4 == 2 else 0


cdef bint tlvs_fit(const uint8_t* data, size_t length, uint32_t at, uint32_t total) noexcept nogil:
    """Whether those that are here can end with the header."""
    while at < total:
        if total - at < TLV_HEADER:
            return False
        if length < at + TLV_HEADER:
            return True
        at += TLV_HEADER + read_16(data + at + 1)
    return at == total


cdef ProxyHeaderStatus parse_v2(const uint8_t* data, size_t length, ProxyHeader* header) noexcept nogil:
    cdef const uint8_t* addresses = data + V2_FIXED
    cdef uint32_t total, size, tlvs
    if length > 12 and data[12] != COMMAND_LOCAL and data[12] != COMMAND_PROXY:
        return PROXY_MALFORMED
    if length > 13 and data[12] == COMMAND_PROXY:
        header.family = known_family(data[13])
        if header.family == 0:
            return PROXY_MALFORMED
    if length < V2_FIXED:
        header.needed = V2_FIXED
        return PROXY_NEED_MORE
    total = V2_FIXED + read_16(data + 14)
    if header.family:
        size = 4 if header.family == 4 else 16
        tlvs = V2_FIXED + 2 * size + PORTS
        if total < tlvs:
            return PROXY_MALFORMED
        if length >= tlvs:
            memcpy(header.source, addresses, size)
            memcpy(header.destination, addresses + size, size)
            header.source_port = read_16(addresses + 2 * size)
            header.destination_port = read_16(addresses + 2 * size + 2)
            if not are_of_hosts(header) or not tlvs_fit(data, length, tlvs, total):
                return PROXY_MALFORMED
    if length < total:
        header.needed = total
        return PROXY_NEED_MORE
    header.header_length = total
    return PROXY_COMPLETE


# ---- either

cdef inline bint begins(const uint8_t* data, size_t length, const char* signature, size_t whole) noexcept nogil:
    return memcmp(data, signature, min(length, whole)) == 0


cdef ProxyHeaderStatus parse_proxy_header(
    const uint8_t* data, size_t length, int kinds, ProxyHeader* header
) noexcept nogil:
    cdef ProxyHeaderStatus status
    cdef bint optional = kinds & <int>PROXY_OPTIONAL != 0
    cdef bint in_signature
    memset(header, 0, sizeof(ProxyHeader))
    if length == 0:
        # One byte tells the versions apart, and the shortest line is shorter than the shortest binary header.
        header.needed = 1 if optional else V1_SHORTEST
        return PROXY_NEED_MORE
    if kinds & <int>PROXY_VERSION_2 and begins(data, length, V2_SIGNATURE, V2_SIGNATURE_LENGTH):
        status = parse_v2(data, length, header)
        in_signature = length < V2_SIGNATURE_LENGTH
    elif kinds & <int>PROXY_VERSION_1 and begins(data, length, V1_SIGNATURE, V1_SIGNATURE_LENGTH):
        status = parse_v1(data, length, header)
        in_signature = length < V1_SIGNATURE_LENGTH
    else:
        return PROXY_ABSENT if optional else PROXY_MALFORMED
    if optional and in_signature:
        header.needed = <uint32_t>length + 1
    if status != PROXY_COMPLETE:
        header.header_length = 0
        header.family = 0
    return status


cdef size_t line_of(const uint8_t* data, size_t length) noexcept nogil:
    """Bytes of a line that has ended, 0 without one. What begins with a line end may become a signature."""
    cdef size_t index
    if length >= 2 and data[0] == c"\r" and data[1] == c"\n":
        return 0
    for index in range(2, min(length, <size_t>LOOKED_AT)):
        if data[index] == c"\n" and data[index - 1] == c"\r":
            return index + 1
    return 0


cdef ProxyOutcome refused_as(const uint8_t* data, size_t length, int kinds) noexcept nogil:
    cdef size_t line = line_of(data, length)
    if length >= V2_SIGNATURE_LENGTH and begins(data, length, V2_SIGNATURE, V2_SIGNATURE_LENGTH):
        return PROXY_V2_ERROR if kinds & <int>PROXY_VERSION_2 else PROXY_V2_DISALLOWED
    # Any line is one of version 1 that is shorter than what version 2 begins with.
    if not (length >= V1_SIGNATURE_LENGTH and begins(data, length, V1_SIGNATURE, V1_SIGNATURE_LENGTH)) and not (
        length < V2_FIXED and line
    ):
        return PROXY_NOT_FOUND_DISALLOWED
    if line > V1_LIMIT + 1:
        return PROXY_V1_ERROR
    if line == 0 and length > V1_LIMIT:
        return PROXY_NOT_FOUND_DISALLOWED
    return PROXY_V1_ERROR if kinds & <int>PROXY_VERSION_1 else PROXY_V1_DISALLOWED


cdef ProxyOutcome proxy_outcome(
    ProxyHeaderStatus status, const uint8_t* data, size_t length, int kinds
) noexcept nogil:
    if status == PROXY_ABSENT:
        return PROXY_NOT_FOUND_ALLOWED
    if status == PROXY_COMPLETE:
        return PROXY_V1_FOUND if data[0] == c"P" else PROXY_V2_FOUND
    return refused_as(data, length, kinds)


cdef int proxy_header_kinds(object versions, bint optional) except -1:
    cdef int kinds = <int>PROXY_OPTIONAL if optional else 0
    for version in versions:
        if version not in (1, 2):
            raise ValueError(f"PROXY protocol has no version {version!r}")
        kinds |= <int>PROXY_VERSION_1 if version == 1 else <int>PROXY_VERSION_2
    if not versions:
        raise ValueError("PROXY protocol of no version")
    return kinds


cdef tuple STATUS_NAMES = ("complete", "need_more", "malformed", "absent")


cdef object text_address(ProxyHeader* header, const uint8_t* address, uint16_t port):
    cdef char text[64]
    if header.family == 0:
        return None
    inet_ntop(AF_INET if header.family == 4 else AF_INET6, address, text, sizeof(text))
    return ((<bytes>text).decode(), port)


def parse(bytes data not None, *, versions=(1, 2), optional=False):
    """Parse the bytes that a peer has sent so far. Never raises for what they hold.

    `versions`: those that are taken, 1 and 2. `optional`: bytes with which no header begins are no fault.
    """
    cdef ProxyHeader header
    cdef ProxyHeaderStatus status = parse_proxy_header(
        <const uint8_t*><const char*>data, len(data), proxy_header_kinds(versions, optional), &header
    )
    return ParsedProxyHeader(
        status=STATUS_NAMES[<int>status],
        needed=header.needed,
        header_length=header.header_length,
        source=text_address(&header, header.source, header.source_port),
        destination=text_address(&header, header.destination, header.destination_port),
    )
