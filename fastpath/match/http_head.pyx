"""The head of a first HTTP request, read as Envoy reads it. Knows nothing of sockets, changes nothing.

`inspect_http` decides like Envoy's http_inspector. Protocol `http/1.1` is a request line that says so; any other
version, and none, is `http/1.0`; `h2c` is the preface of HTTP/2. What no later byte can make a request line is no HTTP
as soon as it shows: a byte of the method that is none. Everything else waits for the end of the line.

`read_http_head` goes on to the host, like Envoy's router: that of an absolute URL or of CONNECT, else the first line
that is `Host`, which may be empty. Refused, not guessed: a line that continues the one before, a name with a space
before its colon, a host with other characters than a URL's authority has, a head without host; a target with a
fragment, and `*` of any method but OPTIONS. After the preface of HTTP/2 nothing is read: a gRPC client waits for our
SETTINGS before it says more.

The answer to a prefix is final unless it is NEED_MORE: no later byte changes it, so it does not depend on segmentation.
"""
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memchr, memcmp, memset

from eastgate.fastpath.match.facts cimport Protocols, add_protocol

from typing import NamedTuple

cdef enum:
    PREFACE_LENGTH = 24

cdef const char* PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

# What a byte may be part of.
cdef enum:
    IS_TOKEN = 1
    IS_ALPHA = 2
    IS_HOST = 4                 # with its port
    IS_PATH = 8
    IS_SCHEME = 16              # behind its first letter
    IS_GAP = 32                 # behind a method
    IS_BLANK = 64               # around a target without a version

cdef uint8_t kinds[256]
cdef Protocols protocols[3]


class ParsedHead(NamedTuple):
    """`status`: complete, need_more, not_http, malformed, oversize or no_authority; `needed` belongs to need_more."""

    status: str
    needed: int
    protocol: str = ""
    authority: str = ""


cdef tuple STATUS_NAMES = ("complete", "need_more", "not_http", "malformed", "oversize", "no_authority")
cdef tuple PROTOCOL_NAMES = ("http/1.0", "http/1.1", "h2c")


cdef int mark(object values, uint8_t kind) except -1:
    for value in values:
        kinds[<uint8_t>value] |= kind
    return 0


cdef int fill_tables() except -1:
    cdef bytes name
    letters = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    digits = b"0123456789"
    mark(letters, IS_ALPHA)
    mark(letters + digits + b"!#$%&'*+-.^_`|~", IS_TOKEN)
    mark(letters + digits + b"!$%&'()*+,-.:;=@[]_~", IS_HOST)
    mark((9, 12, *range(0x21, 0x7F)), IS_PATH)
    mark(letters + digits + b"+-.", IS_SCHEME)
    mark(b" \t\r\n", IS_GAP)
    mark(b" \t\r", IS_BLANK)
    for index, protocol in enumerate(PROTOCOL_NAMES):
        name = protocol.encode()
        memset(&protocols[<uint32_t>index], 0, sizeof(Protocols))
        add_protocol(&protocols[<uint32_t>index], <const uint8_t*><const char*>name, <uint32_t>len(name))
    return 0


fill_tables()


cdef const Protocols* http_protocols(HttpProtocol protocol) noexcept nogil:
    return &protocols[<int>protocol]


cdef inline HttpStatus wait_for(HttpHead* head, size_t length) noexcept nogil:
    """What ends a line may be the next byte."""
    if length >= HTTP_LIMIT:
        return HTTP_OVERSIZE
    head.needed = <uint32_t>(length + 1)
    return HTTP_NEED_MORE


# ---- request line

# Offsets into the data.
cdef struct RequestLine:
    size_t method_end
    size_t target
    size_t target_end
    size_t end                  # behind the line's newline
    bint is_connect


cdef inline size_t skip(const uint8_t* data, size_t at, size_t end, bint blank) noexcept nogil:
    # As in Envoy, every control character parts the words of a request line.
    while at < end and (data[at] <= 0x20) == blank:
        at += 1
    return at


cdef inline bint all_are(const uint8_t* data, size_t at, size_t end, uint8_t kind) noexcept nogil:
    while at < end and kinds[data[at]] & kind:
        at += 1
    return at == end


cdef inline size_t host_end(const uint8_t* data, size_t at, size_t end) noexcept nogil:
    while at < end and data[at] != c"/" and data[at] != c"?":
        at += 1
    return at


cdef inline size_t host_of_target(const uint8_t* data, const RequestLine* line) noexcept nogil:
    """Where the host of an absolute URL or of CONNECT begins; 0 for a path, or what is none of these."""
    cdef size_t at = line.target
    if data[at] == c"/" or data[at] == c"*":
        return 0
    if line.is_connect:
        return at
    if kinds[data[at]] & IS_ALPHA:
        while at < line.target_end and kinds[data[at]] & IS_SCHEME:
            at += 1
    if at == line.target or line.target_end - at < 3 or memcmp(data + at, b"://", 3) != 0:
        return 0
    return at + 3


cdef bint is_target(const uint8_t* data, const RequestLine* line) noexcept nogil:
    cdef size_t at = host_of_target(data, line)
    cdef size_t end
    if data[line.target] == c"/" or data[line.target] == c"*":
        return all_are(data, line.target, line.target_end, IS_PATH)
    if at == 0:
        return False
    end = host_end(data, at, line.target_end)
    if not all_are(data, at, end, IS_HOST) or not all_are(data, end, line.target_end, IS_PATH):
        return False
    while at + 1 < end:
        if data[at] == c"@" and data[at + 1] == c"@":
            return False
        at += 1
    return True


cdef bint read_version(const uint8_t* data, const RequestLine* line, size_t end, HttpHead* head) noexcept nogil:
    """Whether what stands behind the target is a version or nothing."""
    cdef size_t at = line.target_end
    cdef size_t start = skip(data, at, end, True)
    head.protocol = HTTP_1_0
    if start == end:
        # Nothing but white space. A target that ends the line may end as a version: Envoy looks at the line.
        if at == end and end - line.target >= 8 and memcmp(data + end - 8, b"HTTP/1.1", 8) == 0:
            head.protocol = HTTP_1_1
        return all_are(data, line.method_end, line.target, IS_BLANK) and all_are(data, at, end, IS_BLANK)
    while data[end - 1] <= 0x20:
        end -= 1
    if end - start != 8 or memcmp(data + start, b"HTTP/", 5) != 0 or data[start + 6] != c".":
        return False
    if not (c"0" <= data[start + 5] <= c"9" and c"0" <= data[start + 7] <= c"9"):
        return False
    if data[start + 5] == c"1" and data[start + 7] == c"1":
        head.protocol = HTTP_1_1
    return True


cdef HttpStatus read_request_line(
    const uint8_t* data, size_t length, RequestLine* line, HttpHead* head
) noexcept nogil:
    """NOT_HTTP as soon as the method shows it, COMPLETE at the end of the line."""
    cdef const uint8_t* newline
    cdef size_t end
    line.method_end = 0
    while line.method_end < length and kinds[data[line.method_end]] & IS_TOKEN:
        line.method_end += 1
    if line.method_end < length and (line.method_end == 0 or not kinds[data[line.method_end]] & IS_GAP):
        return HTTP_NOT_HTTP
    newline = <const uint8_t*>memchr(data, c"\n", length)
    if newline == NULL:
        return wait_for(head, length)
    end = <size_t>(newline - data)
    line.end = end + 1
    while end and data[end - 1] == c"\r":
        end -= 1
    line.target = skip(data, line.method_end, end, True)
    line.target_end = skip(data, line.target, end, False)
    line.is_connect = line.method_end == 7 and memcmp(data, b"CONNECT", 7) == 0
    if line.target >= end or not is_target(data, line):
        return HTTP_NOT_HTTP
    return HTTP_COMPLETE if read_version(data, line, end, head) else HTTP_NOT_HTTP


cdef HttpStatus inspect(const uint8_t* data, size_t length, RequestLine* line, HttpHead* head) noexcept nogil:
    cdef size_t shown = length if length < PREFACE_LENGTH else <size_t>PREFACE_LENGTH
    head.needed = 0
    head.protocol = HTTP_1_0
    head.authority_length = 0
    head.authority[0] = 0
    head.method_length = head.path = head.path_length = head.whole_path_length = head.authority_at = head.lines = 0
    head.is_connect = 0
    if length > HTTP_LIMIT:
        length = HTTP_LIMIT
    if memcmp(data, PREFACE, shown) == 0:
        if length < PREFACE_LENGTH:
            return wait_for(head, length)
        head.protocol = HTTP_2
        return HTTP_COMPLETE
    return read_request_line(data, length, line, head)


cdef HttpStatus inspect_http(const uint8_t* data, size_t length, HttpHead* head) noexcept nogil:
    cdef RequestLine line
    return inspect(data, length, &line, head)


# ---- host

cdef HttpStatus keep_authority(const uint8_t* data, size_t at, size_t end, HttpHead* head) noexcept nogil:
    cdef size_t index
    cdef uint8_t byte
    if end - at >= AUTHORITY_CAPACITY or not all_are(data, at, end, IS_HOST):
        return HTTP_MALFORMED
    for index in range(end - at):
        byte = data[at + index]
        head.authority[index] = <char>(byte | 0x20 if c"A" <= byte <= c"Z" else byte)
    head.authority_at = <uint32_t>at
    head.authority_length = <uint16_t>(end - at)
    head.authority[end - at] = 0
    return HTTP_COMPLETE


cdef inline bint is_host(const uint8_t* name) noexcept nogil:
    return (
        name[0] | 0x20 == c"h" and name[1] | 0x20 == c"o" and name[2] | 0x20 == c"s" and name[3] | 0x20 == c"t"
    )


cdef HttpStatus read_lines(const uint8_t* data, size_t length, size_t at, HttpHead* head) noexcept nogil:
    """The first Host of the lines from `at` on."""
    cdef const uint8_t* newline
    cdef size_t end, colon, next_line
    while True:
        newline = NULL
        if at < length:
            newline = <const uint8_t*>memchr(data + at, c"\n", length - at)
        if newline == NULL:
            return wait_for(head, length)
        end = <size_t>(newline - data)
        next_line = end + 1
        if end > at and data[end - 1] == c"\r":
            end -= 1
        if end == at:
            return HTTP_NO_AUTHORITY
        colon = at
        while colon < end and kinds[data[colon]] & IS_TOKEN:
            colon += 1
        if colon == at or colon == end or data[colon] != c":":
            return HTTP_MALFORMED
        if colon - at == 4 and is_host(data + at):
            at = colon + 1
            while at < end and (data[at] == c" " or data[at] == c"\t"):
                at += 1
            while end > at and (data[end - 1] == c" " or data[end - 1] == c"\t"):
                end -= 1
            return keep_authority(data, at, end, head)
        at = next_line


cdef void note_places(const uint8_t* data, const RequestLine* line, size_t host, HttpHead* head) noexcept nogil:
    """Where method, path and headers stand."""
    cdef size_t at = line.target
    cdef size_t end
    if host:
        at = host_end(data, host, line.target_end)
        if at == line.target_end or data[at] != c"/":
            # The root, which no byte stands for but the slash in front of the host.
            at = host - 1 if not line.is_connect else line.target
    end = at
    while end < line.target_end and data[end] != c"?":
        end += 1
    head.whole_path_length = <uint32_t>(line.target_end - at)
    if host and at == host - 1:
        end = host
        head.whole_path_length = <uint32_t>(host_end(data, host, line.target_end) == line.target_end)
    head.method_length = <uint32_t>line.method_end
    head.path = <uint32_t>at
    head.path_length = <uint32_t>(end - at)
    head.lines = <uint32_t>line.end
    head.is_connect = line.is_connect


cdef inline bint is_refused_target(const uint8_t* data, const RequestLine* line) noexcept nogil:
    if data[line.target] == c"*":
        return line.target_end - line.target > 1 or line.method_end != 7 or memcmp(data, b"OPTIONS", 7) != 0
    return memchr(data + line.target, c"#", line.target_end - line.target) != NULL


cdef HttpStatus read_http_head(const uint8_t* data, size_t length, HttpHead* head) noexcept nogil:
    cdef RequestLine line
    cdef HttpStatus status = inspect(data, length, &line, head)
    cdef size_t host, end
    if status != HTTP_COMPLETE or head.protocol == HTTP_2:
        return status
    if length > HTTP_LIMIT:
        length = HTTP_LIMIT
    if is_refused_target(data, &line):
        return HTTP_MALFORMED
    host = host_of_target(data, &line)
    note_places(data, &line, host, head)
    if host:
        end = host_end(data, host, line.target_end)
        if end == host:
            return HTTP_NO_AUTHORITY
        # CONNECT goes to a host, and to nothing below it.
        return HTTP_MALFORMED if line.is_connect and end < line.target_end else keep_authority(data, host, end, head)
    return read_lines(data, length, line.end, head)


# ---- for Python

cdef object as_head(HttpStatus status, HttpHead* head):
    return ParsedHead(
        status=STATUS_NAMES[<int>status],
        needed=head.needed if status == HTTP_NEED_MORE else 0,
        protocol=PROTOCOL_NAMES[<int>head.protocol] if status == HTTP_COMPLETE else "",
        authority=head.authority[:head.authority_length].decode("ascii") if status == HTTP_COMPLETE else "",
    )


def inspect_bytes(bytes data not None):
    """Which protocol the bytes that a client has sent so far begin. Never raises for what they hold."""
    cdef HttpHead head
    cdef HttpStatus status = inspect_http(<const uint8_t*><const char*>data, len(data), &head)
    return as_head(status, &head)


def parse(bytes data not None):
    """The same with the host that HTTP/1 asks for."""
    cdef HttpHead head
    cdef HttpStatus status = read_http_head(<const uint8_t*><const char*>data, len(data), &head)
    return as_head(status, &head)


def protocols_of(str protocol):
    """Application protocols that stand for `http/1.0`, `http/1.1` or `h2c`."""
    cdef const Protocols* found = http_protocols(<HttpProtocol><int>PROTOCOL_NAMES.index(protocol))
    names = []
    for index in range(found.count):
        start = found.offset[index]
        names.append(found.bytes[start:start + found.length[index]].decode("ascii"))
    return tuple(names)
