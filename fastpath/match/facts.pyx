"""Facts as a Python object: what a table or a policy is asked, without a connection."""
cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.string cimport memcpy, memset

from socket import AF_INET, AF_INET6, inet_pton

cdef enum:
    NAME_CAPACITY = 65535


cdef int put_address(Address* address, str host, port) except -1:
    cdef bytes packed
    if not 0 <= port <= 65535:
        raise ValueError(f"port {port} is outside 0..65535")
    address.port = port
    if not host:
        return 0
    try:
        packed = inet_pton(AF_INET6 if ":" in host else AF_INET, host)
    except (OSError, ValueError):
        raise ValueError(f"{host!r} is not an IP address") from None
    address.family = 6 if PyBytes_GET_SIZE(packed) == 16 else 4
    memcpy(address.bytes, PyBytes_AS_STRING(packed), PyBytes_GET_SIZE(packed))
    return 0


cdef bytes put_name(str name):
    cdef bytes encoded = name.encode()
    if PyBytes_GET_SIZE(encoded) > NAME_CAPACITY:
        raise ValueError(f"a name of {len(encoded)} bytes is none")
    return encoded


@cython.final
cdef class Observed:
    """What is known of a connection; an empty address is unknown. Raises ValueError for what no connection can have."""

    def __init__(
        self,
        *,
        server_name="",
        application_protocols=(),
        tls=True,
        destination="",
        destination_port=0,
        source="",
        source_port=0,
        direct_source=None,
        authority="",
    ):
        cdef bytes encoded
        memset(&self.facts, 0, sizeof(self.facts))
        memset(&self.protocols, 0, sizeof(self.protocols))
        put_address(&self.facts.destination, destination, destination_port)
        put_address(&self.facts.source, source, source_port)
        put_address(&self.facts.direct_source, source if direct_source is None else direct_source, 0)
        for protocol in application_protocols:
            encoded = protocol.encode("latin-1")
            if not 1 <= len(encoded) <= 255:
                raise ValueError(f"ALPN {protocol!r} is not 1 to 255 bytes long")
            add_protocol(&self.protocols, <const uint8_t*>PyBytes_AS_STRING(encoded), <uint32_t>len(encoded))
        if server_name and not tls:
            raise ValueError("without TLS there is no server name")
        self.server_name = put_name(server_name.lower())
        self.authority = put_name(authority)
        self.facts.tls = bool(tls)
        self.facts.server_name = PyBytes_AS_STRING(self.server_name)
        self.facts.server_name_length = <uint16_t>PyBytes_GET_SIZE(self.server_name)
        self.facts.authority = PyBytes_AS_STRING(self.authority)
        self.facts.authority_length = <uint16_t>PyBytes_GET_SIZE(self.authority)
        self.facts.protocols = &self.protocols

    def __reduce__(self):
        raise TypeError("an Observed cannot be pickled")
