"""Filter chain match over a compiled table: Envoy's FilterChainMatch, level by level, without backtracking.

Levels: destination port -> destination prefix (the longest) -> server name (exact, then the longest wildcard, then
chains without names) -> transport protocol -> ALPN (for each of the client's in its order, the first that is
configured; then chains without ALPN) -> prefix of the direct source -> source type -> source prefix -> source port.
Each level picks one branch for good; a dead end goes to the default chain, or refuses.

Example: chain A {www.example.com, raw_buffer}, chain B {}. A TLS client for www.example.com takes A's branch at the
server name and finds no `tls` there: neither A nor B serves it.

Stricter than Envoy on purpose: at a gateway a server name that begins with `outbound_.` asks for a mesh service. It is
served only by a chain that names it exactly, and only when the client offers an ALPN of Istio's, whatever the chain
says. To a sidecar every client in the mesh comes with such a name, and its chains name none. And where not all ALPN
values of a client were kept, none of them decides: the connection is refused.
"""
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

from eastgate.fastpath.match.facts cimport Address, Facts, Protocols, is_protocol
from eastgate.fastpath.reason cimport Reason

from eastgate.fastpath.match import chains as chain_names

cdef extern from *:
    """
    static inline uint64_t eastgate_fold(uint64_t a, uint64_t b) {
        unsigned __int128 product = (unsigned __int128)a * b;
        return (uint64_t)product ^ (uint64_t)(product >> 64);
    }
    """
    uint64_t fold "eastgate_fold"(uint64_t a, uint64_t b) noexcept nogil

cdef enum:
    PREFIX_CAPACITY = 16
    ISTIO_CAPACITY = 8
    ISTIO_BYTES = 24

# The names of mesh services and of their ALPN, copied from chains.py when this module is imported.
cdef char mesh_prefix[PREFIX_CAPACITY]
cdef uint32_t mesh_prefix_length
cdef uint8_t istio_alpn[ISTIO_CAPACITY][ISTIO_BYTES]
cdef uint32_t istio_alpn_length[ISTIO_CAPACITY]
cdef uint32_t istio_alpn_count


cdef int read_names() except -1:
    global mesh_prefix_length, istio_alpn_count
    cdef bytes name = chain_names.SNI_DNAT_PREFIX.encode()
    mesh_prefix_length = <uint32_t>PyBytes_GET_SIZE(name)
    istio_alpn_count = <uint32_t>len(chain_names.ISTIO_ALPN)
    if mesh_prefix_length > PREFIX_CAPACITY or istio_alpn_count > ISTIO_CAPACITY:
        raise ImportError("chains.py names more than route_nodes.pyx has room for")
    memcpy(mesh_prefix, PyBytes_AS_STRING(name), mesh_prefix_length)
    for index, protocol in enumerate(chain_names.ISTIO_ALPN):
        name = protocol.encode()
        if PyBytes_GET_SIZE(name) > ISTIO_BYTES:
            raise ImportError(f"{protocol} is longer than route_nodes.pyx has room for")
        istio_alpn_length[<uint32_t>index] = <uint32_t>PyBytes_GET_SIZE(name)
        memcpy(istio_alpn[<uint32_t>index], PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name))
    return 0


read_names()


# ---- ports and prefixes

cdef inline uint32_t find_port(const uint32_t* node, uint32_t port) noexcept nogil:
    # A chain for the port hides those for any port.
    cdef const uint32_t* ports = node + PORT_HEADER
    cdef uint32_t low = 0
    cdef uint32_t high = node[0]
    cdef uint32_t middle
    while low < high:
        middle = (low + high) >> 1
        if ports[middle] < port:
            low = middle + 1
        else:
            high = middle
    return ports[node[0] + low] if low < node[0] and ports[low] == port else node[1]


cdef inline uint32_t big_endian(const uint8_t* at) noexcept nogil:
    return <uint32_t>at[0] << 24 | <uint32_t>at[1] << 16 | <uint32_t>at[2] << 8 | at[3]


cdef inline bint begins_after(const uint32_t* start, const uint32_t* address, uint32_t width) noexcept nogil:
    cdef uint32_t word
    for word in range(width):
        if start[word] != address[word]:
            return start[word] > address[word]
    return False


cdef inline uint32_t find_prefix(const uint32_t* node, const Address* address) noexcept nogil:
    cdef uint32_t words[4]
    cdef uint32_t width = 1
    cdef uint32_t count = node[0]
    cdef const uint32_t* starts = node + PREFIX_HEADER
    cdef uint32_t word, low, high, middle
    # As in Envoy, what is no IP address counts as this one.
    words[0] = 0xFFFFFFFF
    if address.family == 4:
        words[0] = big_endian(address.bytes)
    elif address.family == 6:
        starts += 2 * node[0]
        count = node[1]
        width = 4
        for word in range(width):
            words[word] = big_endian(address.bytes + 4 * word)
    # The last interval that does not begin after the address; the first one begins at 0.
    low = 0
    high = count
    while high - low > 1:
        middle = (low + high) >> 1
        if begins_after(starts + middle * width, words, width):
            high = middle
        else:
            low = middle
    return starts[count * width + low]


cdef inline bint is_local(const Facts* facts) noexcept nogil:
    # Envoy's isSameIpOrLoopback: of 127.0.0.0/8 the first address only.
    cdef const Address* source = &facts.source
    if source.family == 4:
        if big_endian(source.bytes) == 0x7F000001:
            return True
        return facts.destination.family == 4 and memcmp(source.bytes, facts.destination.bytes, 4) == 0
    if source.family == 6:
        if memcmp(source.bytes, b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1", 16) == 0:
            return True
        return facts.destination.family == 6 and memcmp(source.bytes, facts.destination.bytes, 16) == 0
    return source.family == 1


# ---- server names

cdef inline uint64_t read_64(const char* at) noexcept nogil:
    cdef uint64_t word
    memcpy(&word, at, 8)
    return word


cdef uint64_t hash_name(const char* name, size_t length, uint64_t seed) noexcept nogil:
    # 16 bytes a multiplication, folded to 64 bits (the construction of wyhash).
    cdef uint64_t mixed = seed ^ length
    cdef uint64_t low = 0
    cdef uint64_t high = 0
    cdef size_t at = 0
    while at + 16 < length:
        mixed = fold(read_64(name + at) ^ <uint64_t>0x9E3779B97F4A7C15, read_64(name + at + 8) ^ mixed)
        at += 16
    if length >= 16:
        low = read_64(name + length - 16)
        high = read_64(name + length - 8)
    elif length >= 8:
        low = read_64(name)
        high = read_64(name + length - 8)
    else:
        for at in range(length):
            low = low << 8 | <uint8_t>name[at]
    return fold(low ^ <uint64_t>0xE7037ED1A0B428DB, high ^ mixed ^ seed >> 32)


cdef inline uint32_t find_name(
    const Routes* routes, const uint32_t* table, const char* text, size_t length
) noexcept nogil:
    """Offset of the name in a table of a SERVER_NAME node, or 0."""
    cdef const uint32_t* places = routes.words + table[0]
    cdef uint32_t mask = table[1]
    cdef uint64_t hashed
    cdef uint32_t at, name
    if table[0] == 0:
        return 0
    hashed = hash_name(text, length, routes.seed)
    at = <uint32_t>hashed & mask
    while True:
        name = places[PLACE_WORDS * <size_t>at + 1]
        if name == 0:
            return 0
        if (
            places[PLACE_WORDS * <size_t>at] == <uint32_t>(hashed >> 32)
            and name_length(routes.words, name) == length
            and memcmp(name_text(routes.words, name), text, length) == 0
        ):
            return name
        at = (at + 1) & mask


cdef inline uint32_t find_wildcard(
    const Routes* routes, const uint32_t* table, const char* text, size_t length
) noexcept nogil:
    # From the longest suffix to the shortest; *.b.c takes any depth below b.c, but not b.c itself.
    cdef size_t at
    cdef uint32_t name
    if table[0] == 0:
        return 0
    for at in range(1, length):
        if text[at] == c".":
            name = find_name(routes, table, text + at, length - at)
            if name:
                return name
    return 0


# ---- application protocols

cdef inline bint offers_istio(const Protocols* protocols) noexcept nogil:
    cdef uint32_t offered, known
    for offered in range(protocols.count):
        for known in range(istio_alpn_count):
            if is_protocol(protocols, offered, istio_alpn[known], istio_alpn_length[known]):
                return True
    return False


cdef inline uint32_t find_protocol(
    const uint32_t* words, const uint32_t* node, const Protocols* protocols
) noexcept nogil:
    cdef const uint32_t* references = node + 1
    cdef const uint32_t* pattern = words + node[0]
    cdef const uint32_t* entries = pattern + PATTERN_HEADER
    cdef const uint8_t* protocol
    cdef uint32_t offered, index
    for offered in range(protocols.count):
        for index in range(pattern[0]):
            protocol = <const uint8_t*>(words + entries[2 * index])
            if is_protocol(protocols, offered, protocol + 1, protocol[0]):
                return references[entries[2 * index + 1]]
    return <uint32_t>NOBODY if pattern[1] == NO_NUMBER else references[pattern[1]]


# ---- match

cdef inline uint32_t follow(
    const Routes* routes, uint32_t kind, const uint32_t* node, const Facts* facts
) noexcept nogil:
    """Reference that a node answers, of every kind but SERVER_NAME."""
    if kind == PROTOCOL:
        return find_protocol(routes.words, node, facts.protocols)
    if kind == TRANSPORT:
        return node[0] if facts.tls else node[1]
    if kind == DESTINATION_PORT:
        return find_port(node, facts.destination.port)
    if kind == DESTINATION_PREFIX:
        return find_prefix(node, &facts.destination)
    if kind == DIRECT_PREFIX:
        return find_prefix(node, &facts.direct_source)
    if kind == SOURCE_TYPE:
        return node[0] if is_local(facts) else node[1]
    if kind == SOURCE_PREFIX:
        return find_prefix(node, &facts.source)
    return find_port(node, facts.source.port)


cdef inline Reason dead_end(const Facts* facts, uint32_t kind, bint named) noexcept nogil:
    """Why no chain serves, from the level at which none was left."""
    if kind == DESTINATION_PREFIX or kind >= DIRECT_PREFIX:
        return Reason.ADDRESS_MISMATCH
    if not facts.tls:
        return Reason.NOT_TLS
    if facts.server_name_length == 0:
        return Reason.NO_SNI
    return Reason.ALPN_MISMATCH if named and kind == PROTOCOL else Reason.UNKNOWN_SERVER_NAME


cdef int route_match(const Routes* routes, const Facts* facts) noexcept nogil:
    cdef const uint32_t* node
    cdef uint32_t reference, kind, name
    cdef uint32_t last = CHAIN
    cdef bint named = False
    cdef bint mesh_service
    if routes == NULL:
        return -<int>Reason.UNKNOWN_SERVER_NAME
    mesh_service = (
        routes.guards_names
        and facts.server_name_length >= mesh_prefix_length
        and memcmp(facts.server_name, mesh_prefix, mesh_prefix_length) == 0
    )
    if facts.protocols.incomplete:
        return -<int>Reason.MANY_PROTOCOLS
    reference = routes.root
    while True:
        kind = reference >> KIND_SHIFT
        if kind == CHAIN:
            break
        last = kind
        node = routes.words + (reference & OFFSET_MASK)
        if kind != SERVER_NAME:
            reference = follow(routes, kind, node, facts)
            continue
        name = 0
        if facts.server_name_length:
            name = find_name(routes, node + EXACT_NAMES, facts.server_name, facts.server_name_length)
            if name == 0 and not mesh_service:
                name = find_wildcard(routes, node + WILDCARD_NAMES, facts.server_name, facts.server_name_length)
        if mesh_service and name == 0:
            return -<int>Reason.UNKNOWN_SERVER_NAME
        if mesh_service and not offers_istio(facts.protocols):
            return -<int>Reason.ALPN_MISMATCH
        named = name != 0
        reference = routes.words[name] if named else node[NO_NAME]
    if reference == NOBODY:
        if routes.default_chain >= 0 and not mesh_service:
            return routes.default_chain
        return -<int>dead_end(facts, last, named)
    # A chain without names may be all that is left.
    return -<int>Reason.UNKNOWN_SERVER_NAME if mesh_service and not named else <int>reference
