"""Filter chains of one listener, compiled: Envoy's FilterChainMatch, level by level, without backtracking.

Levels: destination port -> server name (exact, then the longest wildcard, then chains without names) -> transport
protocol -> ALPN (for each of the client's in its order, the first that is configured; then chains without ALPN). Each
level picks one branch for good; a dead end goes to the default chain, or refuses.

Example: chain A {www.example.com, raw_buffer}, chain B {}. A TLS client for www.example.com takes A's branch at the
server name and finds no `tls` there: neither A nor B serves it.

Stricter than Envoy on purpose: a server name that begins with `outbound_.` asks for a mesh service. It is served only
by a chain that names it exactly, and only when the client offers an ALPN of Istio's, whatever the chain says.

Transport protocols are resolved when the table is compiled: a connection without TLS has neither server name nor ALPN,
so one chain per port serves it. What is left per server name is a word: the branch. Branches that ask for the same ALPN
values, as all of istiod's do, share one list of them. 10,000 chains of istiod's shape take 1.4 MB, names included.
"""
cimport cython
from cpython.array cimport array
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stddef cimport size_t
from libc.stdint cimport INT32_MAX, UINT32_MAX, int32_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy

from eastgate.fastpath.match.client_hello cimport SNI_CAPACITY
from eastgate.fastpath.match.facts cimport Facts, Observed, Protocols, is_protocol
from eastgate.fastpath.reason cimport Reason

import os
import re
from itertools import accumulate
from sys import getsizeof

from eastgate.fastpath.match import chains as chain_names

cdef extern from *:
    """
    static inline uint64_t eastgate_fold(uint64_t a, uint64_t b) {
        unsigned __int128 product = (unsigned __int128)a * b;
        return (uint64_t)product ^ (uint64_t)(product >> 64);
    }
    """
    uint64_t fold "eastgate_fold"(uint64_t a, uint64_t b) noexcept nogil

# Everything of variable size lies in `words`, and refers to each other by word offset; 0 is none.
#   name      branch (0: no chain takes TLS), then 2 bytes of length and the name
#   branch    pattern, then the chains that the pattern numbers
#   pattern   count, number of the chain for any ALPN (or NO_CHAIN), then count times (protocol, number of its chain)
#   protocol  1 byte of length and the ALPN value
cdef enum:
    NAME_LENGTH_BYTES = 2
    PATTERN_HEADER = 2

cdef uint32_t NO_CHAIN = UINT32_MAX

# Open addressing, at most two thirds full. `tag` is the half of the hash that does not choose the place.
cdef struct NamePlace:
    uint32_t tag
    uint32_t name               # 0: free

cdef struct NameTable:
    NamePlace* places           # NULL: no names
    uint32_t mask

cdef struct PortBranch:
    NameTable exact
    NameTable wildcards         # names begin with the dot
    uint32_t unnamed            # branch
    int32_t raw                 # chain for connections without TLS, or -1
    uint16_t port               # 0: any

cdef struct Routes:
    uint64_t seed
    const uint32_t* words
    PortBranch* ports           # ascending; the one for any port, if there is one, comes first
    RouteChain* chains
    RouteTarget* targets
    uint32_t port_count
    uint32_t chain_count        # without the default chain
    int32_t default_chain       # index, or -1
    size_t bytes                # allocated in all

cdef enum:
    PREFIX_CAPACITY = 16
    ISTIO_CAPACITY = 8
    ISTIO_BYTES = 24

# How many chains are compiled between two yields: one takes about 1 us in each of the three passes.
cdef uint32_t CHAINS_PER_SLICE = 128

# The names of mesh services and of their ALPN, copied from chains.py when this module is imported.
cdef char mesh_prefix[PREFIX_CAPACITY]
cdef uint32_t mesh_prefix_length
cdef uint8_t istio_alpn[ISTIO_CAPACITY][ISTIO_BYTES]
cdef uint32_t istio_alpn_length[ISTIO_CAPACITY]
cdef uint32_t istio_alpn_count

# A server name is printable ASCII; * only as the whole first label of a longer name.
cdef object SERVER_NAME = re.compile(r"(\*\.)?(?!\.)[!-)+-~]+")

# A timeout past a century is never seen, and its nanoseconds would not fit into 64 bits.
cdef uint64_t LONGEST_MS = <uint64_t>100 * 366 * 86400000

# Attempts that fail at once all happen in one turn of a worker.
cdef uint32_t MOST_ATTEMPTS = 100


cdef int read_names() except -1:
    global mesh_prefix_length, istio_alpn_count
    cdef bytes name = chain_names.SNI_DNAT_PREFIX.encode()
    mesh_prefix_length = <uint32_t>PyBytes_GET_SIZE(name)
    istio_alpn_count = <uint32_t>len(chain_names.ISTIO_ALPN)
    if mesh_prefix_length > PREFIX_CAPACITY or istio_alpn_count > ISTIO_CAPACITY:
        raise ImportError("chains.py names more than route_table.pyx has room for")
    memcpy(mesh_prefix, PyBytes_AS_STRING(name), mesh_prefix_length)
    for index, protocol in enumerate(chain_names.ISTIO_ALPN):
        name = protocol.encode()
        if PyBytes_GET_SIZE(name) > ISTIO_BYTES:
            raise ImportError(f"{protocol} is longer than route_table.pyx has room for")
        istio_alpn_length[<uint32_t>index] = <uint32_t>PyBytes_GET_SIZE(name)
        memcpy(istio_alpn[<uint32_t>index], PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name))
    return 0


read_names()


# ---- match

cdef inline uint64_t read_64(const char* at) noexcept nogil:
    cdef uint64_t word
    memcpy(&word, at, 8)
    return word


cdef inline uint64_t hash_name(const char* name, size_t length, uint64_t seed) noexcept nogil:
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


cdef inline const uint8_t* name_text(const Routes* routes, uint32_t name) noexcept nogil:
    return <const uint8_t*>(routes.words + name + 1) + NAME_LENGTH_BYTES


cdef inline uint32_t name_length(const Routes* routes, uint32_t name) noexcept nogil:
    cdef uint16_t length
    memcpy(&length, routes.words + name + 1, NAME_LENGTH_BYTES)
    return length


cdef inline uint32_t find_name(
    const Routes* routes, const NameTable* table, const char* text, size_t length
) noexcept nogil:
    cdef uint64_t hashed
    cdef uint32_t at, name
    if table.places == NULL:
        return 0
    hashed = hash_name(text, length, routes.seed)
    at = <uint32_t>hashed & table.mask
    while True:
        name = table.places[at].name
        if name == 0:
            return 0
        if (
            table.places[at].tag == <uint32_t>(hashed >> 32)
            and name_length(routes, name) == length
            and memcmp(name_text(routes, name), text, length) == 0
        ):
            return name
        at = (at + 1) & table.mask


cdef inline uint32_t find_wildcard(
    const Routes* routes, const NameTable* table, const char* text, size_t length
) noexcept nogil:
    # From the longest suffix to the shortest; *.b.c takes any depth below b.c, but not b.c itself.
    cdef size_t at
    cdef uint32_t name
    if table.places == NULL:
        return 0
    for at in range(1, length):
        if text[at] == c".":
            name = find_name(routes, table, text + at, length - at)
            if name:
                return name
    return 0


cdef inline const PortBranch* find_port(const Routes* routes, uint16_t port) noexcept nogil:
    # A chain for the port hides those for any port.
    cdef uint32_t low = 0
    cdef uint32_t high = routes.port_count
    cdef uint32_t middle
    while low < high:
        middle = (low + high) >> 1
        if routes.ports[middle].port < port:
            low = middle + 1
        else:
            high = middle
    if low < routes.port_count and routes.ports[low].port == port:
        return &routes.ports[low]
    if routes.port_count and routes.ports[0].port == 0:
        return &routes.ports[0]
    return NULL


cdef inline bint offers_istio(const Protocols* protocols) noexcept nogil:
    cdef uint32_t offered, known
    for offered in range(protocols.count):
        for known in range(istio_alpn_count):
            if is_protocol(protocols, offered, istio_alpn[known], istio_alpn_length[known]):
                return True
    return False


cdef inline int choose_chain(const Routes* routes, uint32_t branch, const Protocols* protocols) noexcept nogil:
    """Chain for the client's ALPN, or -1."""
    cdef const uint32_t* chains = routes.words + branch + 1
    cdef const uint32_t* pattern = routes.words + routes.words[branch]
    cdef const uint32_t* entries = pattern + PATTERN_HEADER
    cdef const uint8_t* protocol
    cdef uint32_t offered, index
    for offered in range(protocols.count):
        for index in range(pattern[0]):
            protocol = <const uint8_t*>(routes.words + entries[2 * index])
            if is_protocol(protocols, offered, protocol + 1, protocol[0]):
                return <int>chains[entries[2 * index + 1]]
    return -1 if pattern[1] == NO_CHAIN else <int>chains[pattern[1]]


cdef int route_match(const Routes* routes, const Facts* facts) noexcept nogil:
    cdef const PortBranch* port
    cdef uint32_t name = 0
    cdef uint32_t branch = 0
    cdef int chain = -1
    cdef Reason reason = Reason.NOT_TLS
    cdef bint mesh_service = False
    if routes == NULL:
        return -<int>Reason.UNKNOWN_SERVER_NAME
    if facts.protocols.incomplete:
        return -<int>Reason.MANY_PROTOCOLS
    port = find_port(routes, facts.destination.port)
    if facts.tls:
        mesh_service = (
            facts.server_name_length >= mesh_prefix_length
            and memcmp(facts.server_name, mesh_prefix, mesh_prefix_length) == 0
        )
        if port != NULL and facts.server_name_length:
            name = find_name(routes, &port.exact, facts.server_name, facts.server_name_length)
            if name == 0 and not mesh_service:
                name = find_wildcard(routes, &port.wildcards, facts.server_name, facts.server_name_length)
        if mesh_service and name == 0:
            return -<int>Reason.UNKNOWN_SERVER_NAME
        if mesh_service and not offers_istio(facts.protocols):
            return -<int>Reason.ALPN_MISMATCH
        if name:
            branch = routes.words[name]
        elif port != NULL:
            branch = port.unnamed
        if branch:
            chain = choose_chain(routes, branch, facts.protocols)
        if facts.server_name_length == 0:
            reason = Reason.NO_SNI
        else:
            reason = Reason.ALPN_MISMATCH if name and branch else Reason.UNKNOWN_SERVER_NAME
    elif port != NULL:
        chain = port.raw
    if chain < 0 and not mesh_service:
        chain = routes.default_chain
    return chain if chain >= 0 else -<int>reason


cdef const RouteChain* route_chain(const Routes* routes, int chain) noexcept nogil:
    return &routes.chains[chain]


# ---- distance between names

cdef uint32_t distance_within(
    const uint8_t* left, uint32_t left_length, const uint8_t* right, uint32_t right_length, uint32_t limit
) noexcept nogil:
    """Insertions, deletions and replacements between two names of at most 255 bytes; limit + 1 when there are more."""
    cdef uint32_t row[SNI_CAPACITY]
    cdef uint32_t at, index, first, last, above, corner, best
    if left_length + limit < right_length or right_length + limit < left_length:
        return limit + 1
    for index in range(right_length + 1):
        row[index] = index
    for at in range(1, left_length + 1):
        # Outside this band more than `limit` insertions are needed.
        first = at - limit if at > limit else 1
        last = at + limit if at + limit < right_length else right_length
        corner = row[first - 1]
        row[first - 1] = at if first == 1 else limit + 1
        best = row[first - 1]
        for index in range(first, last + 1):
            above = row[index] if index < at + limit else limit + 1
            corner += left[at - 1] != right[index - 1]
            if above + 1 < corner:
                corner = above + 1
            if row[index - 1] + 1 < corner:
                corner = row[index - 1] + 1
            row[index], corner = corner, above
            if row[index] < best:
                best = row[index]
        if best > limit:
            return limit + 1
    return row[right_length]


cdef uint32_t nearest_in(
    const Routes* routes, const NameTable* table, const uint8_t* text, uint32_t length, uint32_t* limit, uint32_t best
) noexcept nogil:
    """Name within `limit` changes, which is lowered to its distance, else `best`. Of two as close, the lesser one."""
    cdef uint32_t at, name, distance, shared
    cdef int order
    if table.places == NULL:
        return best
    for at in range(table.mask + 1):
        name = table.places[at].name
        if name == 0 or name_length(routes, name) >= SNI_CAPACITY:
            continue
        distance = distance_within(text, length, name_text(routes, name), name_length(routes, name), limit[0])
        if distance > limit[0]:
            continue
        if best and distance == limit[0]:
            shared = min(name_length(routes, best), name_length(routes, name))
            order = memcmp(name_text(routes, name), name_text(routes, best), shared)
            if order > 0 or (order == 0 and name_length(routes, name) > shared):
                continue
        limit[0] = distance
        best = name
    return best


# ---- compile

cdef void routes_free(Routes* routes) noexcept nogil:
    cdef uint32_t index
    if routes == NULL:
        return
    if routes.ports != NULL:
        for index in range(routes.port_count):
            free(routes.ports[index].exact.places)
            free(routes.ports[index].wildcards.places)
    free(routes.ports)
    free(<void*>routes.words)
    free(routes.chains)
    free(routes.targets)
    free(routes)


cdef void* allocate(Routes* routes, size_t count, size_t size) except NULL:
    cdef void* block = calloc(count if count else 1, size)
    if block == NULL:
        raise MemoryError
    routes.bytes += count * size
    return block


cdef int check_chain(object chain) except -1:
    """Raise ValueError naming the chain and the field that cannot be compiled."""
    total = 0
    for slot, weight in chain.targets:
        if not 0 <= slot <= UINT32_MAX:
            raise ValueError(f"filter chain {chain.name}: cluster slot {slot} is outside 0..4294967295")
        if weight <= 0:
            raise ValueError(f"filter chain {chain.name}: weight {weight} is not positive")
        total += weight
    if total > UINT32_MAX:
        raise ValueError(f"filter chain {chain.name}: cluster weights sum past 4294967295")
    if not chain.targets and chain.refusal == Reason.NONE:
        raise ValueError(f"filter chain {chain.name}: neither a cluster nor a refusal")
    if not 0 <= chain.destination_port <= 65535:
        raise ValueError(f"filter chain {chain.name}: destination port {chain.destination_port} is outside 0..65535")
    if chain.idle_timeout_ms < 0 or chain.max_duration_ms < 0:
        raise ValueError(f"filter chain {chain.name}: a timeout is negative")
    if chain.max_connect_attempts < 1:
        attempts = chain.max_connect_attempts
        raise ValueError(f"filter chain {chain.name}: max_connect_attempts is {attempts}, not positive")
    return 0


cdef str match_name(str name, object chain):
    """Lower-cased server name of a match. Raises ValueError for what Envoy does not load either."""
    if SERVER_NAME.fullmatch(name) is None:
        raise ValueError(
            f"filter chain {chain.name}: server name {name!r} is neither an ASCII name nor *. and a suffix"
        )
    return name.lower()


cdef int group_by_name(dict ports, chain, index) except -1:
    """Add a chain to: port -> server name ("" for any) -> indexes of its chains."""
    names = ports.setdefault(chain.destination_port, {})
    for name in dict.fromkeys([match_name(name, chain) for name in chain.server_names]) or ("",):
        names.setdefault(name, []).append(index)
    return 0


cdef dict owners_by_protocol(tuple chains, list indexes, str name):
    """ALPN ("" for any) -> index of the chain that serves it. Raises ValueError for equal criteria."""
    owners = {}
    for index in indexes:
        for protocol in chains[index].application_protocols or ("",):
            other = owners.setdefault(protocol, index)
            if other == index or chains[other].refusal != Reason.NONE:
                continue
            if chains[index].refusal == Reason.NONE:
                raise ValueError(
                    f"filter chains {chains[other].name} and {chains[index].name} match the same connections"
                    f" (server name {name or 'any'}, ALPN {protocol or 'any'})"
                )
            # Criteria that are not evaluated may tell the two apart; closed is the safe reading.
            owners[protocol] = index
    return owners


@cython.final
@cython.internal
@cython.auto_pickle(False)
cdef class Builder:
    """Words of a table while they are collected. Equal lists of ALPN values and equal branches are written once."""

    cdef tuple chains
    cdef array words
    cdef dict protocols         # ALPN value -> offset
    cdef dict patterns          # ((ALPN value, number), ...) -> offset
    cdef dict branches          # (pattern, chain, ...) -> offset

    def __init__(self, chains):
        self.chains = chains
        # Offset 0 stands for none.
        self.words = array("I", [0])
        self.protocols = {}
        self.patterns = {}
        self.branches = {}

    cdef uint32_t append(self, object values) except 0:
        cdef Py_ssize_t offset = len(self.words)
        if offset + len(values) > UINT32_MAX:
            raise ValueError("the filter chains of one listener do not fit into 16 GiB")
        self.words.extend(values)
        return <uint32_t>offset

    cdef uint32_t append_bytes(self, bytes data) except 0:
        return self.append(array("I", data + bytes(3 - (len(data) + 3) % 4)))

    cdef uint32_t protocol(self, str name, chain) except 0:
        if name not in self.protocols:
            encoded = name.encode()
            if not 1 <= len(encoded) <= 255:
                raise ValueError(f"filter chain {chain.name}: ALPN {name!r} is not 1 to 255 bytes long")
            self.protocols[name] = self.append_bytes(bytes([len(encoded)]) + encoded)
        return self.protocols[name]

    cdef uint32_t branch(self, dict owners) except 0:
        numbers = {chain: number for number, chain in enumerate(dict.fromkeys(owners.values()))}
        key = tuple([(name, numbers[chain]) for name, chain in owners.items()])
        pattern = self.patterns.get(key)
        if pattern is None:
            any_protocol = numbers[owners[""]] if "" in owners else NO_CHAIN
            header = [len(key) - ("" in owners), any_protocol]
            entries = [(self.protocol(name, self.chains[owners[name]]), number) for name, number in key if name]
            pattern = self.patterns[key] = self.append([*header, *[word for entry in entries for word in entry]])
        key = (pattern, *numbers)
        branch = self.branches.get(key)
        if branch is None:
            branch = self.branches[key] = self.append(key)
        return branch

    cdef tuple connections(self, list indexes, str name):
        """(branch for TLS or 0, chain without TLS or -1) among chains that share port and name."""
        by_transport = {}
        for index in indexes:
            by_transport.setdefault(self.chains[index].transport_protocol, []).append(index)
        owners = {
            transport: owners_by_protocol(self.chains, group, name) for transport, group in by_transport.items()
        }
        encrypted = owners.get("tls", owners.get(""))
        plain = owners.get("raw_buffer", owners.get("", {}))
        return self.branch(encrypted) if encrypted else 0, plain.get("", -1)

    cdef uint32_t name(self, str name, uint32_t branch) except 0:
        encoded = name.encode()
        if len(encoded) > 65535:
            raise ValueError(f"a server name of {len(encoded)} bytes is none")
        offset = self.append((branch,))
        self.append_bytes(len(encoded).to_bytes(NAME_LENGTH_BYTES, "little") + encoded)
        return offset


cdef int fill_names(Routes* routes, NameTable* table, list names) except -1:
    cdef uint64_t hashed
    cdef uint32_t size = 2
    cdef uint32_t at, name
    if not names:
        return 0
    if len(names) > 1 << 30:
        raise ValueError(f"{len(names)} server names are too many for one port")
    while 2 * <uint64_t>size < 3 * <uint64_t>len(names):
        size <<= 1
    table.places = <NamePlace*>allocate(routes, size, sizeof(NamePlace))
    table.mask = size - 1
    for offset in names:
        name = offset
        hashed = hash_name(<const char*>name_text(routes, name), name_length(routes, name), routes.seed)
        at = <uint32_t>hashed & table.mask
        while table.places[at].name:
            at = (at + 1) & table.mask
        table.places[at].tag = <uint32_t>(hashed >> 32)
        table.places[at].name = name
    return 0


cdef int write_port(Routes* routes, uint32_t index, number, uint32_t unnamed, int32_t raw) except -1:
    routes.ports[index].port = number
    routes.ports[index].unnamed = unnamed
    routes.ports[index].raw = raw
    return 0


cdef int write_words(Routes* routes, Builder builder) except -1:
    cdef uint32_t* words = <uint32_t*>allocate(routes, len(builder.words), sizeof(uint32_t))
    routes.words = words
    memcpy(words, builder.words.data.as_voidptr, len(builder.words) * sizeof(uint32_t))
    return 0


cdef size_t write_chain(Routes* routes, uint32_t index, chain, size_t at) except? 0:
    """Write a chain, its targets from `at` on; return where the next one's begin."""
    cdef RouteChain* written = &routes.chains[index]
    cdef uint32_t upper = 0
    written.refusal = <int>chain.refusal
    written.target_count = len(chain.targets)
    written.targets = &routes.targets[at]
    written.idle_timeout_ms = min(chain.idle_timeout_ms, LONGEST_MS)
    written.max_duration_ms = min(chain.max_duration_ms, LONGEST_MS)
    written.max_connect_attempts = min(chain.max_connect_attempts, MOST_ATTEMPTS)
    written.hash_source_ip = bool(chain.hash_source_ip)
    for slot, weight in chain.targets:
        upper += <uint32_t>weight
        routes.targets[at].cluster_slot = slot
        routes.targets[at].upper = upper
        at += 1
    written.total_weight = upper
    return at


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
        return 0 if self.routes == NULL else self.routes.chain_count

    def memory(self):
        """Bytes of this table."""
        return getsizeof(self) + (0 if self.routes == NULL else sizeof(Routes) + self.routes.bytes)

    @staticmethod
    def compile(chains, default_chain=None):
        """Compile `chains` in their order. The criteria of the default chain, which takes dead ends, are not looked at.

        Raises ValueError, naming the chains, for equal criteria of two (a chain that refuses wins over one that does
        not), for server names that are none, lone or partial wildcards, and for weights and slots out of range.
        """
        steps = RouteTable.steps(chains, default_chain)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                return end.value

    @staticmethod
    def steps(chains, default_chain=None):
        """`compile` in slices of some 0.2 ms: a generator that returns the table."""
        cdef RouteTable table = RouteTable.__new__(RouteTable)
        cdef Builder builder
        cdef size_t at = 0
        chains = tuple(chains)
        served = chains if default_chain is None else (*chains, default_chain)
        if len(served) > INT32_MAX:
            raise ValueError(f"{len(served)} filter chains are too many for one listener")
        ports = {}
        target_count = 0
        for index, chain in enumerate(served):
            check_chain(chain)
            if index < len(chains):
                group_by_name(ports, chain, index)
            target_count += len(chain.targets)
            if index % CHAINS_PER_SLICE == CHAINS_PER_SLICE - 1:
                yield
        table.routes = <Routes*>calloc(1, sizeof(Routes))
        if table.routes == NULL:
            raise MemoryError
        # Where a name lies must not be foreseeable for those who may name services.
        table.routes.seed = int.from_bytes(os.urandom(8), "little")
        table.routes.chain_count = len(chains)
        table.routes.default_chain = -1 if default_chain is None else len(chains)
        table.routes.ports = <PortBranch*>allocate(table.routes, len(ports), sizeof(PortBranch))
        table.routes.port_count = len(ports)
        builder = Builder(chains)
        collected = []
        count = 0
        for index, number in enumerate(sorted(ports)):
            exact, wildcards = [], []
            unnamed = (0, -1)
            for name, indexes in ports[number].items():
                found = builder.connections(indexes, name)
                if not name:
                    unnamed = found
                elif name.startswith("*"):
                    wildcards.append(builder.name(name[1:], found[0]))
                else:
                    exact.append(builder.name(name, found[0]))
                count += 1
                if count % CHAINS_PER_SLICE == 0:
                    yield
            write_port(table.routes, index, number, unnamed[0], unnamed[1])
            collected.append((exact, wildcards))
        write_words(table.routes, builder)
        for index, (exact, wildcards) in enumerate(collected):
            yield
            fill_names(table.routes, &table.routes.ports[<uint32_t>index].exact, exact)
            fill_names(table.routes, &table.routes.ports[<uint32_t>index].wildcards, wildcards)
        table.routes.chains = <RouteChain*>allocate(table.routes, len(served), sizeof(RouteChain))
        table.routes.targets = <RouteTarget*>allocate(table.routes, target_count, sizeof(RouteTarget))
        for index, chain in enumerate(served):
            at = write_chain(table.routes, index, chain, at)
            if index % CHAINS_PER_SLICE == CHAINS_PER_SLICE - 1:
                yield
        return table

    def match(self, Observed observed not None):
        """Index into the chains given to compile (len(chains) for the default chain), or a negative Reason."""
        return route_match(self.routes, &observed.facts)

    def target(self, chain, draw):
        """Cluster slot that a connection of `chain` goes to when the worker's generator answers `draw` (64 bits).

        `chain` as `match` numbers them. Raises ValueError for a chain that there is not, or one that only refuses.
        """
        cdef uint32_t number = chain
        if number > self.routes.chain_count or (number == self.routes.chain_count and self.routes.default_chain < 0):
            raise ValueError(f"no chain {chain}: there are {self.routes.chain_count}")
        if self.routes.chains[number].target_count == 0:
            raise ValueError(f"chain {chain} has no targets")
        return target_slot(&self.routes.chains[number], draw)

    def spin(self, server_names, count, *, application_protocols=()):
        """Match `count` hellos natively, `server_names` in turn, and return how many are served. For benchmarks."""
        cdef Observed observed = Observed(application_protocols=application_protocols)
        cdef bytes names = b"".join([name.lower().encode() for name in server_names])
        cdef array ends = array("I", accumulate([len(name.encode()) for name in server_names]))
        cdef const char* text = names
        cdef const unsigned int* end = ends.data.as_uints
        cdef size_t rounds = count
        cdef size_t size = len(ends)
        cdef size_t served = 0
        cdef size_t at = 0
        cdef size_t start = 0
        cdef size_t _round
        if not size:
            return 0
        with nogil:
            for _round in range(rounds):
                observed.facts.server_name = text + start
                observed.facts.server_name_length = <uint16_t>(end[at] - start)
                served += route_match(self.routes, &observed.facts) >= 0
                start = end[at]
                at += 1
                if at == size:
                    at = start = 0
        return served

    def nearest_server_name(self, str server_name not None):
        """The known exact name with the fewest changed letters, at most one in five, else empty.

        Compares with all names (some ms for 10,000): for admin, never on the path of a connection.
        """
        cdef bytes text = server_name.lower().encode()
        cdef uint32_t length = min(PyBytes_GET_SIZE(text), SNI_CAPACITY)
        cdef uint32_t limit = 1 + length // 5
        cdef uint32_t best = 0
        cdef uint32_t index
        cdef const NameTable* exact
        if self.routes == NULL or length == 0 or length == SNI_CAPACITY:
            return ""
        for index in range(self.routes.port_count):
            exact = &self.routes.ports[index].exact
            best = nearest_in(self.routes, exact, <const uint8_t*>PyBytes_AS_STRING(text), length, &limit, best)
        if best == 0:
            return ""
        return (<const char*>name_text(self.routes, best))[:name_length(self.routes, best)].decode("ascii")
