# How a compiled route table lies in memory: a decision per level of Envoy's FilterChainMatch, those left out on which
# nothing depends. Everything of variable size lies in `words` and refers to each other by reference:
#
#   reference  kind in the upper bits, word offset in the lower ones; of kind CHAIN the number of the chain, or NOBODY
#
#   DESTINATION_PORT, SOURCE_PORT   count, reference for any other port, ports ascending, a reference for each
#   *_PREFIX      count of intervals for IPv4 and for IPv6, then for each family the first addresses of the intervals,
#                 ascending from 0 (1 and 4 words, most significant first), and a reference for each
#   SERVER_NAME   table of exact names, table of wildcards (which begin with the dot), reference for no name of these;
#                 a table is two words: offset of its places, or 0 for none, and their number less 1
#   TRANSPORT     reference for TLS, reference for everything else
#   PROTOCOL      pattern, then the references that the pattern numbers
#   SOURCE_TYPE   reference for the same address or loopback, reference for others
#
#   place         the half of the hash that does not choose the place, name (0: free); at most two thirds are taken
#   name          reference, then 2 bytes of length and the name
#   pattern       count, number of the reference for any ALPN (or NO_NUMBER), then count times (protocol, its number)
#   protocol      1 byte of length and the ALPN value
from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stddef cimport size_t
from libc.string cimport memcpy
from eastgate.fastpath.match.chain_counts cimport ChainState
from eastgate.fastpath.match.facts cimport Facts
from eastgate.fastpath.match.http_choice cimport CompiledHttpRoutes
from eastgate.fastpath.match.policy cimport CompiledPolicies
from eastgate.fastpath.tls.handshake cimport TlsContext

cdef enum NodeKind:
    CHAIN = 0
    DESTINATION_PORT = 1
    DESTINATION_PREFIX = 2
    SERVER_NAME = 3
    TRANSPORT = 4
    PROTOCOL = 5
    DIRECT_PREFIX = 6
    SOURCE_TYPE = 7
    SOURCE_PREFIX = 8
    SOURCE_PORT = 9
    LEVEL_COUNT = 9             # a chain is what comes after the last level

cdef enum:
    KIND_SHIFT = 28
    OFFSET_MASK = 0x0FFFFFFF
    NOBODY = OFFSET_MASK        # of kind CHAIN: a dead end
    NO_NUMBER = OFFSET_MASK
    NAME_LENGTH_BYTES = 2
    PLACE_WORDS = 2
    PORT_HEADER = 2
    PREFIX_HEADER = 2
    PATTERN_HEADER = 2
    # Words of a SERVER_NAME node.
    EXACT_NAMES = 0
    WILDCARD_NAMES = 2
    NO_NAME = 4

cdef struct RouteTarget:
    uint32_t cluster_slot
    uint32_t upper              # running sum of weights: the half-open interval [previous upper, upper)

cdef struct RouteChain:
    uint8_t refusal             # Reason that closes every connection of this chain, or 0
    uint8_t telemetry           # Telemetry
    uint16_t log                # which access logs want a line of its connections; 0: none
    uint32_t number             # no two chains have the same: a table that has it has this very chain; 0: not told
    uint32_t target_count
    uint32_t total_weight
    uint8_t max_connect_attempts
    uint8_t hash_source_ip      # whether connections have the hash of their client's address
    uint16_t termination        # number of its Termination, counted from 1; 0: connections are taken as they come
    ChainState* state           # kept alive by the RouteTable; NULL: nobody counts
    RouteTarget* targets        # owned by the Routes
    # Both kept alive by the RouteTable.
    CompiledPolicies* policies  # whom it lets in; NULL: everybody
    const CompiledHttpRoutes* http_routes       # that choose by the first request; NULL: the targets are those of all
    uint8_t is_http             # it speaks HTTP, and Envoy's answers may be given
    uint8_t sets_alpn           # what is offered to endpoints of the mesh goes by the protocol of the request
    uint64_t idle_timeout_ms    # 0: never
    uint64_t max_duration_ms    # 0: unlimited

# Ports from an even bound up to, but without, the next one. Sorted.
cdef struct PortSet:
    uint32_t count
    uint32_t* bounds            # owned by the Routes

# TLS that chains terminate before anything else is done.
cdef struct Termination:
    TlsContext* context
    uint32_t timeout_ms

cdef struct Routes:
    uint64_t seed
    const uint32_t* words
    RouteChain* chains
    uint32_t* numbers           # of the chains, ascending; those that are 0 left out
    uint32_t number_count
    RouteTarget* targets
    Termination* terminations
    uint32_t root               # reference
    uint32_t chain_count        # without the default chain
    int32_t default_chain       # index, or -1
    uint8_t asks_destination    # something depends on the destination's address
    uint8_t inspects_http       # look for the head of an HTTP request, where there is no ClientHello
    PortSet tls_skipped         # destination ports where nobody looks for a ClientHello
    PortSet http_skipped        # nor for an HTTP request
    uint8_t guards_names        # names of mesh services are served by the rules of a gateway only
    size_t bytes                # allocated in all

# Index of the chain (>= 0), or minus a Reason.
cdef int route_match(const Routes* routes, const Facts* facts) noexcept nogil

# Where a name lies is decided by this.
cdef uint64_t hash_name(const char* name, size_t length, uint64_t seed) noexcept nogil

# Whether the table has the chain with this number.
cdef inline bint route_has(const Routes* routes, uint32_t number) noexcept nogil:
    cdef uint32_t low = 0
    cdef uint32_t high = routes.number_count
    cdef uint32_t middle
    while low < high:
        middle = (low + high) >> 1
        if routes.numbers[middle] < number:
            low = middle + 1
        else:
            high = middle
    return low < routes.number_count and routes.numbers[low] == number

cdef inline const RouteChain* route_chain(const Routes* routes, int chain) noexcept nogil:
    return &routes.chains[chain]

# Whether the destination's address has to be known: without a redirection that is a system call.
cdef inline bint route_asks_destination(const Routes* routes) noexcept nogil:
    return routes != NULL and routes.asks_destination

cdef inline bint has_port(const PortSet* ports, uint32_t port) noexcept nogil:
    cdef uint32_t low = 0
    cdef uint32_t high = ports.count
    cdef uint32_t middle
    # How many bounds are not above the port.
    while low < high:
        middle = (low + high) >> 1
        if ports.bounds[middle] <= port:
            low = middle + 1
        else:
            high = middle
    return low & 1

# Whether the first bytes of connections to this port are looked at.
cdef inline bint route_inspects_tls(const Routes* routes, uint32_t port) noexcept nogil:
    return routes == NULL or not has_port(&routes.tls_skipped, port)

cdef inline bint route_inspects_http(const Routes* routes, uint32_t port) noexcept nogil:
    return routes != NULL and routes.inspects_http and not has_port(&routes.http_skipped, port)

# Cluster slot of a draw: the first target, in the order of the configuration, whose interval holds draw % total.
cdef inline uint32_t target_slot(const RouteChain* chain, uint64_t draw) noexcept nogil:
    cdef uint32_t at = <uint32_t>(draw % chain.total_weight)
    cdef uint32_t target = 0
    while chain.targets[target].upper <= at:
        target += 1
    return chain.targets[target].cluster_slot

cdef inline const uint8_t* name_text(const uint32_t* words, uint32_t name) noexcept nogil:
    return <const uint8_t*>(words + name + 1) + NAME_LENGTH_BYTES

cdef inline uint32_t name_length(const uint32_t* words, uint32_t name) noexcept nogil:
    cdef uint16_t length
    memcpy(&length, words + name + 1, NAME_LENGTH_BYTES)
    return length
