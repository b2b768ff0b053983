"""Filter chains of one listener, compiled: Envoy's FilterChainMatch, level by level, without backtracking.

Levels: destination port -> server name (exact, then the longest wildcard, then chains without names) -> transport
protocol -> ALPN (for each of the client's in its order, the first that is configured; then chains without ALPN). Each
level picks one branch for good; a dead end goes to the default chain, or refuses.

Example: chain A {www.example.com, raw_buffer}, chain B {}. A TLS client for www.example.com takes A's branch at the
server name and finds no `tls` there: neither A nor B serves it.

Stricter than Envoy on purpose: a server name that begins with `outbound_.` asks for a mesh service. It is served only by
a chain that names it exactly, and only when the client offers an ALPN of Istio's, whatever the chain says.
"""
cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy

from eastgate.fastpath.client_hello cimport ALPN_BYTES, ALPN_CAPACITY, ClientHello, SNI_CAPACITY
from eastgate.fastpath.reason cimport Reason

import difflib
import os

from eastgate.fastpath.chains import ISTIO_ALPN, SNI_DNAT_PREFIX

# Open addressing, at most half full; `length` 0 marks a free place (an empty name is never stored).
cdef struct NameEntry:
    uint32_t hash
    uint32_t offset             # into Routes.text
    uint32_t length
    int32_t branch              # TransportBranch

cdef struct NameTable:
    NameEntry* entries
    uint32_t mask               # size - 1; entries NULL: empty

cdef struct AlpnEntry:
    uint32_t offset
    uint32_t length
    int32_t chain

cdef struct AlpnBranch:
    uint32_t first              # into Routes.alpn
    uint32_t count
    int32_t otherwise           # chain without ALPN, or -1

cdef struct TransportBranch:
    int32_t tls                 # AlpnBranch, or -1
    int32_t raw
    int32_t otherwise

cdef struct PortBranch:
    uint16_t port               # 0: any
    NameTable exact
    NameTable wildcards         # keys begin with the dot
    int32_t unnamed             # TransportBranch, or -1

cdef struct Routes:
    uint64_t seed
    uint32_t port_count
    PortBranch* ports           # exact ports, then the branch of port 0 if there is one
    TransportBranch* transports
    AlpnBranch* alpn_branches
    AlpnEntry* alpn
    char* text
    uint32_t chain_count        # without the default chain
    int32_t default_chain       # index, or -1
    RouteChain* chains
    RouteTarget* targets

cdef enum:
    DNAT_LENGTH = 10            # len("outbound_.")
    ISTIO_PROTOCOLS = 5

cdef const char* DNAT_PREFIX = b"outbound_."
cdef const char* ISTIO_PROTOCOL[ISTIO_PROTOCOLS]
cdef uint8_t ISTIO_PROTOCOL_LENGTH[ISTIO_PROTOCOLS]
cdef list istio_protocol_bytes = [name.encode() for name in ISTIO_ALPN]
if len(istio_protocol_bytes) != ISTIO_PROTOCOLS or SNI_DNAT_PREFIX.encode() != DNAT_PREFIX[:DNAT_LENGTH]:
    raise ImportError("fastpath/chains.py and fastpath/route_table.pyx disagree on the names of mesh services")
cdef Py_ssize_t protocol_index
for protocol_index in range(ISTIO_PROTOCOLS):
    ISTIO_PROTOCOL[protocol_index] = PyBytes_AS_STRING(istio_protocol_bytes[protocol_index])
    ISTIO_PROTOCOL_LENGTH[protocol_index] = <uint8_t>PyBytes_GET_SIZE(istio_protocol_bytes[protocol_index])


cdef inline uint32_t name_hash(uint64_t seed, const char* name, size_t length) noexcept nogil:
    cdef uint64_t mixed = seed ^ (length * <uint64_t>0x9E3779B97F4A7C15)
    cdef uint64_t word
    while length >= 8:
        memcpy(&word, name, 8)
        mixed = (mixed ^ word) * <uint64_t>0xFF51AFD7ED558CCD
        mixed ^= mixed >> 32
        name += 8
        length -= 8
    if length:
        word = 0
        memcpy(&word, name, length)
        mixed = (mixed ^ word) * <uint64_t>0xFF51AFD7ED558CCD
        mixed ^= mixed >> 32
    mixed *= <uint64_t>0xC4CEB9FE1A85EC53
    return <uint32_t>(mixed >> 32)


cdef inline int32_t find_name(const Routes* routes, const NameTable* table, const char* name, size_t length) noexcept nogil:
    cdef uint32_t hashed, at
    cdef const NameEntry* entry
    if table.entries == NULL or length == 0:
        return -1
    hashed = name_hash(routes.seed, name, length)
    at = hashed & table.mask
    while True:
        entry = &table.entries[at]
        if entry.length == 0:
            return -1
        if entry.hash == hashed and entry.length == length and memcmp(routes.text + entry.offset, name, length) == 0:
            return entry.branch
        at = (at + 1) & table.mask


cdef inline bint offers_istio(const ClientHello* hello) noexcept nogil:
    cdef uint32_t offered
    cdef int known
    for offered in range(hello.alpn_count):
        for known in range(ISTIO_PROTOCOLS):
            if (
                hello.alpn_length[offered] == ISTIO_PROTOCOL_LENGTH[known]
                and memcmp(hello.alpn + hello.alpn_offset[offered], ISTIO_PROTOCOL[known], ISTIO_PROTOCOL_LENGTH[known]) == 0
            ):
                return True
    return False


cdef inline int32_t find_chain(const Routes* routes, int32_t branch, const ClientHello* hello, bint is_tls) noexcept nogil:
    cdef const AlpnBranch* alpn = &routes.alpn_branches[branch]
    cdef const AlpnEntry* entry
    cdef uint32_t offered, index
    if is_tls:
        for offered in range(hello.alpn_count):
            for index in range(alpn.count):
                entry = &routes.alpn[alpn.first + index]
                if (
                    entry.length == hello.alpn_length[offered]
                    and memcmp(routes.text + entry.offset, hello.alpn + hello.alpn_offset[offered], entry.length) == 0
                ):
                    return entry.chain
    return alpn.otherwise


cdef inline int dead_end(const Routes* routes, int reason) noexcept nogil:
    return routes.default_chain if routes.default_chain >= 0 else -reason


cdef int32_t find_named(const Routes* routes, const PortBranch* port, const ClientHello* hello) noexcept nogil:
    cdef int32_t branch = find_name(routes, &port.exact, hello.sni, hello.sni_length)
    cdef uint32_t at
    if branch < 0 and port.wildcards.entries != NULL:
        # From the longest suffix to the shortest; a name matches *.suffix at any depth, but not as the suffix itself.
        for at in range(1, hello.sni_length):
            if hello.sni[at] == c".":
                branch = find_name(routes, &port.wildcards, hello.sni + at, hello.sni_length - at)
                if branch >= 0:
                    break
    return branch if branch >= 0 else port.unnamed


cdef int route_match(const Routes* routes, const ClientHello* hello, bint is_tls, uint16_t destination_port) noexcept nogil:
    cdef const PortBranch* port = NULL
    cdef const TransportBranch* transport
    cdef uint32_t index
    cdef int32_t branch, chain
    cdef bint mesh_service = (
        is_tls and hello.sni_length >= DNAT_LENGTH and memcmp(hello.sni, DNAT_PREFIX, DNAT_LENGTH) == 0
    )
    for index in range(routes.port_count):
        if routes.ports[index].port == destination_port or routes.ports[index].port == 0:
            port = &routes.ports[index]
            break
    if mesh_service:
        branch = find_name(routes, &port.exact, hello.sni, hello.sni_length) if port != NULL else -1
        if branch < 0:
            return -<int>Reason.UNKNOWN_SERVER_NAME
        if not offers_istio(hello):
            return -<int>Reason.ALPN_MISMATCH
    elif port == NULL:
        return dead_end(routes, Reason.UNKNOWN_SERVER_NAME if is_tls else Reason.NOT_TLS)
    elif is_tls and hello.sni_length:
        branch = find_named(routes, port, hello)
    else:
        branch = port.unnamed
    if branch < 0:
        if not is_tls:
            return dead_end(routes, Reason.NOT_TLS)
        return dead_end(routes, Reason.UNKNOWN_SERVER_NAME if hello.sni_length else Reason.NO_SNI)
    transport = &routes.transports[branch]
    branch = transport.tls if is_tls else transport.raw
    if branch < 0:
        branch = transport.otherwise
    if branch < 0:
        if mesh_service:
            return -<int>Reason.UNKNOWN_SERVER_NAME
        return dead_end(routes, Reason.UNKNOWN_SERVER_NAME if is_tls else Reason.NOT_TLS)
    chain = find_chain(routes, branch, hello, is_tls)
    if chain >= 0:
        return chain
    if mesh_service:
        return -<int>Reason.ALPN_MISMATCH
    return dead_end(routes, Reason.ALPN_MISMATCH if is_tls else Reason.NOT_TLS)


cdef const RouteChain* route_chain(const Routes* routes, int chain) noexcept nogil:
    return &routes.chains[chain]


cdef void routes_free(Routes* routes) noexcept nogil:
    cdef uint32_t index
    if routes == NULL:
        return
    if routes.ports != NULL:
        for index in range(routes.port_count):
            free(routes.ports[index].exact.entries)
            free(routes.ports[index].wildcards.entries)
    free(routes.ports)
    free(routes.transports)
    free(routes.alpn_branches)
    free(routes.alpn)
    free(routes.text)
    free(routes.chains)
    free(routes.targets)
    free(routes)


cdef void* allocate(size_t count, size_t size) except NULL:
    cdef void* block = calloc(count if count else 1, size)
    if block == NULL:
        raise MemoryError
    return block


def checked_name(str chain, str name):
    """Lower-cased server name of a match. Raises ValueError for what Envoy does not load either."""
    lowered = name.lower()
    plain = lowered[2:] if lowered.startswith("*.") else lowered
    if not plain or "*" in plain:
        raise ValueError(f"filter chain {chain}: server name {name!r} is not a name, nor *. and a suffix")
    if not plain.isascii() or any(not "!" <= letter <= "~" for letter in plain) or len(lowered) >= SNI_CAPACITY:
        raise ValueError(f"filter chain {chain}: server name {name!r} is no ASCII name of at most 255 characters")
    return lowered


def checked_targets(chain):
    """Targets of a chain, validated. Raises ValueError naming the chain."""
    if not chain.targets and chain.refusal == Reason.NONE:
        raise ValueError(f"filter chain {chain.name}: neither a cluster nor a refusal")
    total = 0
    for slot, weight in chain.targets:
        if not 0 <= slot <= 0xFFFFFFFF:
            raise ValueError(f"filter chain {chain.name}: cluster slot {slot} is outside 0..4294967295")
        if weight <= 0:
            raise ValueError(f"filter chain {chain.name}: weight {weight} is not positive")
        total += weight
    if total > 0xFFFFFFFF:
        raise ValueError(f"filter chain {chain.name}: cluster weights sum past 4294967295")
    if chain.transport_protocol not in ("", "tls", "raw_buffer"):
        raise ValueError(f"filter chain {chain.name}: unknown transport protocol {chain.transport_protocol!r}")
    if not 0 <= chain.destination_port <= 65535:
        raise ValueError(f"filter chain {chain.name}: destination port {chain.destination_port} is outside 0..65535")
    for protocol in chain.application_protocols:
        if not 1 <= len(protocol.encode()) <= 255:
            raise ValueError(f"filter chain {chain.name}: ALPN {protocol!r} is not 1 to 255 bytes long")
    for field in ("idle_timeout_ms", "max_duration_ms"):
        if not 0 <= getattr(chain, field) < 1 << 43:
            raise ValueError(f"filter chain {chain.name}: {field} {getattr(chain, field)} is outside 0..2^43")
    return chain.targets


def build_tree(chains):
    """port -> name -> transport -> ALPN -> chain index; "" stands for any. Raises ValueError for equal criteria."""
    tree = {}
    for index, chain in enumerate(chains):
        names = [checked_name(chain.name, name) for name in chain.server_names] or [""]
        for name in dict.fromkeys(names):
            by_alpn = (
                tree.setdefault(chain.destination_port, {}).setdefault(name, {}).setdefault(chain.transport_protocol, {})
            )
            for protocol in dict.fromkeys(chain.application_protocols or ("",)):
                other = by_alpn.setdefault(protocol, index)
                if other == index or chains[other].refusal != Reason.NONE:
                    continue
                if chain.refusal != Reason.NONE:
                    # Criteria that are not evaluated may tell the two apart; closed is the safe reading.
                    by_alpn[protocol] = index
                else:
                    raise ValueError(
                        f"filter chains {chains[other].name} and {chain.name} match the same connections"
                        f" (server name {name or 'any'}, ALPN {protocol or 'any'})"
                    )
    return tree


cdef int fill_names(Routes* routes, NameTable* table, list names) except -1:
    cdef uint32_t size = 2, at, hashed
    cdef NameEntry* entry
    if not names:
        return 0
    while size < 2 * <uint32_t>len(names):
        size <<= 1
    table.entries = <NameEntry*>allocate(size, sizeof(NameEntry))
    table.mask = size - 1
    for offset, length, branch in names:
        hashed = name_hash(routes.seed, routes.text + <uint32_t>offset, length)
        at = hashed & table.mask
        while table.entries[at].length:
            at = (at + 1) & table.mask
        entry = &table.entries[at]
        entry.hash = hashed
        entry.offset = offset
        entry.length = length
        entry.branch = branch
    return 0


cdef int write_chains(Routes* routes, tuple served) except -1:
    cdef RouteChain* written
    cdef uint32_t at = 0, upper, index
    routes.chains = <RouteChain*>allocate(len(served), sizeof(RouteChain))
    routes.targets = <RouteTarget*>allocate(sum([len(chain.targets) for chain in served]), sizeof(RouteTarget))
    for index, chain in enumerate(served):
        written = &routes.chains[index]
        written.refusal = <int>chain.refusal
        written.target_count = len(chain.targets)
        written.targets = &routes.targets[at]
        written.idle_timeout_ms = chain.idle_timeout_ms
        written.max_duration_ms = chain.max_duration_ms
        upper = 0
        for slot, weight in chain.targets:
            upper += <uint32_t>weight
            routes.targets[at].cluster_slot = slot
            routes.targets[at].upper = upper
            at += 1
        written.total_weight = upper
    return 0


cdef int write_tree(Routes* routes, dict tree) except -1:
    cdef PortBranch* port
    cdef bytearray text = bytearray()
    cdef dict offsets = {}
    cdef list transports = []
    cdef list alpn_branches = []
    cdef list alpn = []
    cdef bytes packed
    cdef uint32_t index

    def place(str name):
        encoded = name.encode()
        if encoded not in offsets:
            offsets[encoded] = len(text)
            text.extend(encoded)
        return offsets[encoded], len(encoded)

    def transport_branch(dict by_transport):
        branches = []
        for protocol in ("tls", "raw_buffer", ""):
            by_alpn = by_transport.get(protocol)
            if by_alpn is None:
                branches.append(-1)
                continue
            first = len(alpn)
            alpn.extend([(*place(name), chain) for name, chain in by_alpn.items() if name])
            alpn_branches.append((first, len(alpn) - first, by_alpn.get("", -1)))
            branches.append(len(alpn_branches) - 1)
        transports.append(tuple(branches))
        return len(transports) - 1

    ordered = sorted(tree, key=lambda number: (number == 0, number))
    routes.ports = <PortBranch*>allocate(len(ordered), sizeof(PortBranch))
    routes.port_count = len(ordered)
    named = []
    for index, number in enumerate(ordered):
        exact, wildcards = [], []
        port = &routes.ports[index]
        port.port = number
        port.unnamed = -1
        for name, by_transport in tree[number].items():
            branch = transport_branch(by_transport)
            if not name:
                port.unnamed = branch
            elif name.startswith("*."):
                wildcards.append((*place(name[1:]), branch))
            else:
                exact.append((*place(name), branch))
        named.append((exact, wildcards))
    packed = bytes(text)
    routes.text = <char*>allocate(len(packed), 1)
    memcpy(routes.text, PyBytes_AS_STRING(packed), len(packed))
    for index, (exact, wildcards) in enumerate(named):
        fill_names(routes, &routes.ports[index].exact, exact)
        fill_names(routes, &routes.ports[index].wildcards, wildcards)
    routes.transports = <TransportBranch*>allocate(len(transports), sizeof(TransportBranch))
    for index, (tls, raw, otherwise) in enumerate(transports):
        routes.transports[index].tls = tls
        routes.transports[index].raw = raw
        routes.transports[index].otherwise = otherwise
    routes.alpn_branches = <AlpnBranch*>allocate(len(alpn_branches), sizeof(AlpnBranch))
    for index, (first, count, otherwise) in enumerate(alpn_branches):
        routes.alpn_branches[index].first = first
        routes.alpn_branches[index].count = count
        routes.alpn_branches[index].otherwise = otherwise
    routes.alpn = <AlpnEntry*>allocate(len(alpn), sizeof(AlpnEntry))
    for index, (offset, length, chain) in enumerate(alpn):
        routes.alpn[index].offset = offset
        routes.alpn[index].length = length
        routes.alpn[index].chain = chain
    return 0


@cython.final
cdef class RouteTable:
    """Filter chains of one listener, compiled; immutable."""

    def __cinit__(self):
        self.routes = NULL

    def __init__(self):
        raise TypeError("use RouteTable.compile")

    def __dealloc__(self):
        routes_free(self.routes)

    def __reduce__(self):
        raise TypeError("a RouteTable cannot be pickled")

    def __len__(self):
        return self.routes.chain_count

    @staticmethod
    def compile(chains, default_chain=None):
        """Raises ValueError for two chains with the same criteria, bad wildcards, non-positive weights."""
        cdef RouteTable table = RouteTable.__new__(RouteTable)
        chains = tuple(chains)
        tree = build_tree(chains)
        served = chains if default_chain is None else (*chains, default_chain)
        for chain in served:
            checked_targets(chain)
        table.routes = <Routes*>allocate(1, sizeof(Routes))
        # Server names are the client's choice: a seed of our own keeps them from choosing collisions.
        table.routes.seed = int.from_bytes(os.urandom(8), "little")
        table.routes.chain_count = len(chains)
        table.routes.default_chain = -1 if default_chain is None else len(chains)
        write_chains(table.routes, served)
        write_tree(table.routes, tree)
        return table

    def match(self, *, server_name="", application_protocols=(), tls=True, destination_port=0):
        """Index into the chains given to compile (len(chains) for the default chain), or a negative Reason."""
        cdef ClientHello hello
        cdef uint32_t used = 0
        cdef bytes name = server_name.lower().encode()
        if len(name) >= SNI_CAPACITY:
            raise ValueError(f"server name of {len(name)} bytes is longer than {SNI_CAPACITY - 1}")
        memcpy(hello.sni, PyBytes_AS_STRING(name), len(name) + 1)
        hello.sni_length = len(name)
        hello.alpn_count = 0
        for protocol in application_protocols:
            encoded = protocol.encode()
            if len(encoded) > 255 or hello.alpn_count == ALPN_CAPACITY or used + len(encoded) > ALPN_BYTES:
                raise ValueError("too many or too long application protocols for one hello")
            memcpy(hello.alpn + used, PyBytes_AS_STRING(encoded), len(encoded))
            hello.alpn_offset[hello.alpn_count] = used
            hello.alpn_length[hello.alpn_count] = len(encoded)
            hello.alpn_count += 1
            used += len(encoded)
        return route_match(self.routes, &hello, tls, destination_port)

    def nearest_server_name(self, server_name):
        """The known exact name most alike to an unknown one, empty when none is near. For admin only: compares all."""
        near = difflib.get_close_matches(server_name.lower(), self.server_names(), n=1, cutoff=0.8)
        return near[0] if near else ""

    def server_names(self):
        """All exact server names, sorted."""
        cdef NameTable* table
        cdef NameEntry* entry
        cdef uint32_t index, at
        names = set()
        for index in range(self.routes.port_count):
            table = &self.routes.ports[index].exact
            if table.entries == NULL:
                continue
            for at in range(table.mask + 1):
                entry = &table.entries[at]
                if entry.length:
                    names.add(self.routes.text[entry.offset:entry.offset + entry.length].decode())
        return sorted(names)
