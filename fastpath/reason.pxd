# Why a connection was refused or ended. One extensible list for the engine, the access log, the counters and admin.
# Values are stable: append only. 0 means "not refused".
cpdef enum Reason:
    NONE = 0
    IDLE_PROBE = 1              # connected and closed (or stayed silent) without a byte
    NOT_TLS = 2                 # first bytes are no TLS handshake record
    HELLO_TIMEOUT = 3           # the hello was not complete in time
    TRUNCATED_HELLO = 4         # the client closed in the middle of its hello
    MALFORMED_HELLO = 5         # a TLS handshake record that is no well-formed ClientHello
    HELLO_TOO_LARGE = 6         # not complete within 16 KiB
    NO_SNI = 7
    MALFORMED_SNI = 8
    UNKNOWN_SERVER_NAME = 9     # no filter chain matches
    ALPN_MISMATCH = 10          # a mesh service was asked for without an ALPN of Istio's
    UNKNOWN_CLUSTER = 11        # the chain's cluster is not known, or still warming
    NO_ENDPOINTS = 12
    NONE_HEALTHY = 13
    OVERFLOW = 14               # circuit breaker of the cluster
    LIMIT = 15                  # limit of this proxy (connections, descriptors)
    POLICY = 16                 # the chain holds a filter or field that eastgate does not evaluate
    CONNECT_FAILED = 17
    CONNECT_TIMEOUT = 18
    MALFORMED_PROXY_HEADER = 19
    CLIENT_GONE = 20            # the client left while the upstream was being connected
    IDLE_TIMEOUT = 21           # ended, not refused
    DURATION_TIMEOUT = 22       # ended, not refused
    DRAINED = 23                # ended when the process stopped
    PANIC = 24                  # its priority is in panic, and the cluster has fail_traffic_on_panic
    MANY_PROTOCOLS = 25         # the hello offers more ALPN values than are kept, so none may decide
    ADDRESS_MISMATCH = 26       # the filter chains take other destinations or sources
    SILENT = 27                 # the oldest that had not said yet what it wants, when there were too many such
    OVERLOAD = 28               # memory ends: new connections are shed
    REASON_COUNT = 29
