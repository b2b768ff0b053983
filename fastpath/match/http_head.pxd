# The head of a first HTTP request: which protocol it is, and which host it asks for. Pure functions over a client's
# first bytes, called again with more when they ask for them.
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from eastgate.fastpath.match.facts cimport Protocols

cdef enum:
    HTTP_LIMIT = 16384              # bytes within which the host must have been said
    AUTHORITY_CAPACITY = 272        # a DNS name, a port, and room for an IPv6 zone; longer is malformed

cdef enum HttpStatus:
    HTTP_COMPLETE = 0
    HTTP_NEED_MORE = 1              # `needed` says how many bytes from the start are needed before calling again
    HTTP_NOT_HTTP = 2
    HTTP_MALFORMED = 3              # it is HTTP, and a proxy has to refuse it
    HTTP_OVERSIZE = 4
    HTTP_NO_AUTHORITY = 5           # the head has ended, or the path has begun, and no host was named

cdef enum HttpProtocol:
    HTTP_1_0 = 0                    # and everything else with a request line that is not HTTP/1.1
    HTTP_1_1 = 1
    HTTP_2 = 2                      # its preface, without TLS

cdef struct HttpHead:
    uint32_t needed                 # with HTTP_NEED_MORE
    HttpProtocol protocol           # with HTTP_COMPLETE
    uint16_t authority_length       # of read_http_head with HTTP_COMPLETE; 0 for HTTP/2
    char authority[AUTHORITY_CAPACITY]      # lower case, port included; NUL terminated
    # Of HTTP/1, where they stand in the data.
    uint32_t method_length
    uint32_t path                   # without query and fragment
    uint32_t path_length
    uint32_t whole_path_length      # with its query; 0 where that does not stand in one piece
    uint32_t authority_at           # as it was sent
    uint32_t lines                  # of headers
    uint8_t is_connect

# Which protocol it is. Reads [data, data + length) and nothing else. Never allocates, never throws.
cdef HttpStatus inspect_http(const uint8_t* data, size_t length, HttpHead* head) noexcept nogil

# The same, and for HTTP/1 the host. Nothing behind the line that says it is read.
cdef HttpStatus read_http_head(const uint8_t* data, size_t length, HttpHead* head) noexcept nogil

# What stands for the protocol among application protocols.
cdef const Protocols* http_protocols(HttpProtocol protocol) noexcept nogil
