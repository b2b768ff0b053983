"""Addresses between the kernel's form, ours and text."""
from libc.stdint cimport uint8_t, uint16_t
from libc.string cimport memcmp, memcpy, memset

from eastgate.fastpath.match.facts cimport Address
from eastgate.fastpath.posix cimport (
    AF_INET, AF_INET6, AF_UNIX, htons, inet_ntop, inet_pton, ntohs, sockaddr_in, sockaddr_in6, sockaddr_storage,
    sockaddr_un, socklen_t,
)
from eastgate.fastpath.tables.picker cimport EndpointAddress

# First 12 bytes of ::ffff:a.b.c.d.
cdef const char* MAPPED_IPV4 = b"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff"


cdef void read_sockaddr(const sockaddr_storage* raw, Address* address) noexcept nogil:
    cdef const sockaddr_in* v4 = <const sockaddr_in*>raw
    cdef const sockaddr_in6* v6 = <const sockaddr_in6*>raw
    address.family = 0
    if raw.ss_family == AF_INET:
        address.family = 4
        address.port = ntohs(v4.sin_port)
        memcpy(address.bytes, &v4.sin_addr, 4)
    elif raw.ss_family == AF_INET6:
        address.port = ntohs(v6.sin6_port)
        # ::ffff:a.b.c.d of a dual-stack socket is an IPv4 peer.
        if memcmp(v6.sin6_addr.s6_addr, MAPPED_IPV4, 12) == 0:
            address.family = 4
            memcpy(address.bytes, <const uint8_t*>v6.sin6_addr.s6_addr + 12, 4)
        else:
            address.family = 6
            memcpy(address.bytes, v6.sin6_addr.s6_addr, 16)


cdef socklen_t write_sockaddr(const EndpointAddress* address, sockaddr_storage* raw) noexcept nogil:
    cdef sockaddr_in* v4 = <sockaddr_in*>raw
    cdef sockaddr_in6* v6 = <sockaddr_in6*>raw
    cdef sockaddr_un* path = <sockaddr_un*>raw
    memset(raw, 0, sizeof(sockaddr_storage))
    if address.family == 4:
        v4.sin_family = AF_INET
        v4.sin_port = htons(address.port)
        memcpy(&v4.sin_addr, address.address, 4)
        return sizeof(sockaddr_in)
    if address.family == 6:
        v6.sin6_family = AF_INET6
        v6.sin6_port = htons(address.port)
        memcpy(&v6.sin6_addr, address.address, 16)
        return sizeof(sockaddr_in6)
    if address.family != 1 or address.length >= sizeof(path.sun_path):
        return 0
    path.sun_family = AF_UNIX
    memcpy(path.sun_path, address.address, address.length)
    # A path that begins with NUL is an abstract name and has no terminator.
    return <socklen_t>(sizeof(unsigned short) + address.length + (1 if address.length and path.sun_path[0] else 0))


cdef socklen_t parse_sockaddr(const char* text, uint16_t port, sockaddr_storage* raw) noexcept nogil:
    cdef sockaddr_in* v4 = <sockaddr_in*>raw
    cdef sockaddr_in6* v6 = <sockaddr_in6*>raw
    memset(raw, 0, sizeof(sockaddr_storage))
    if inet_pton(AF_INET, text, &v4.sin_addr) == 1:
        v4.sin_family = AF_INET
        v4.sin_port = htons(port)
        return sizeof(sockaddr_in)
    if inet_pton(AF_INET6, text, &v6.sin6_addr) == 1:
        v6.sin6_family = AF_INET6
        v6.sin6_port = htons(port)
        return sizeof(sockaddr_in6)
    return 0


cdef str address_text(const Address* address):
    cdef char text[64]
    if address.family == 4:
        inet_ntop(AF_INET, address.bytes, text, 64)
        return f"{(<bytes>text).decode()}:{address.port}"
    if address.family == 6:
        inet_ntop(AF_INET6, address.bytes, text, 64)
        return f"[{(<bytes>text).decode()}]:{address.port}"
    return "unix" if address.family == 1 else ""
