# Why a TLS leg ended, in the field's words. The loop turns each into a Reason.
cpdef enum TlsFailure:
    TLS_FINE = 0
    TLS_UNKNOWN_CA = 1          # no root of ours signed the peer's certificate
    TLS_EXPIRED = 2
    TLS_NOT_YET_VALID = 3
    TLS_BAD_CERTIFICATE = 4     # any other fault of the chain: purpose, signature, depth
    TLS_WRONG_NAME = 5          # no name of the certificate is one that is accepted
    TLS_TWO_IDENTITIES = 6      # more than one URI name: it is no SPIFFE identity
    TLS_NO_CERTIFICATE = 7      # the client has shown none
    TLS_VERSION = 8             # older than TLS 1.2, or not a version that both sides speak
    TLS_NO_CIPHER = 9           # no cipher or group in common
    TLS_HELLO_CHANGED = 10      # server name or ALPN offer is not what the connection was routed by
    TLS_PEER_ALERT = 11         # the peer refused us; its alert says why
    TLS_TRUNCATED = 12          # the stream ended within a record
    TLS_RESET = 13              # the socket broke
    TLS_NO_MEMORY = 14
    TLS_PROTOCOL = 15           # anything else that a TLS peer must not send
