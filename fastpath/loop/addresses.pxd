# Addresses between the kernel's form, ours and text. Opens no socket.
from libc.stdint cimport uint16_t
from eastgate.fastpath.match.facts cimport Address
from eastgate.fastpath.posix cimport sockaddr_storage, socklen_t
from eastgate.fastpath.tables.picker cimport EndpointAddress

# ::ffff:a.b.c.d becomes an IPv4 address; another family than IPv4 or IPv6 becomes family 0.
cdef void read_sockaddr(const sockaddr_storage* raw, Address* address) noexcept nogil
# Returns the length, or 0 for what cannot be connected to.
cdef socklen_t write_sockaddr(const EndpointAddress* address, sockaddr_storage* raw) noexcept nogil
# A numeric address; returns the length, or 0 when `text` is none.
cdef socklen_t parse_sockaddr(const char* text, uint16_t port, sockaddr_storage* raw) noexcept nogil
# host:port, [host]:port for IPv6, "unix" for a Unix socket, empty when unknown.
cdef str address_text(const Address* address)
