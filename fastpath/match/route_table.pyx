"""Filter chains of one listener as an object: compiled from their specifications, asked by the loop.

How a connection finds its chain stands in route_nodes.pyx, how chains become nodes in route_builder.pyx.
"""
cimport cython
from cpython.array cimport array
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stddef cimport size_t
from libc.stdint cimport UINT16_MAX, UINT32_MAX, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

from eastgate.fastpath.match.chain_counts cimport ChainCounts
from eastgate.fastpath.match.client_hello cimport SNI_CAPACITY
from eastgate.fastpath.match.facts cimport Observed
from eastgate.fastpath.match.http_routes cimport HttpRoutes
from eastgate.fastpath.match.nearest_name cimport nearest_name
from eastgate.fastpath.match.policy cimport PolicySet
from eastgate.fastpath.match.route_builder cimport RouteBuilder
from eastgate.fastpath.match.route_nodes cimport (
    OFFSET_MASK, PortSet, RouteChain, RouteTarget, Routes, Termination, name_length, name_text,
    route_asks_destination, route_match, target_slot,
)
from eastgate.fastpath.tls.context cimport Context
from eastgate.fastpath.reason cimport Reason

from eastgate.fastpath.match.chains import NO_INSPECTION

import os
from itertools import accumulate
from sys import getsizeof

# How many chains are compiled between two yields: one takes about 1 us in each of the passes.
cdef uint32_t CHAINS_PER_SLICE = 128

# A timeout past a century is never seen, and its nanoseconds would not fit into 64 bits.
cdef uint64_t LONGEST_MS = <uint64_t>100 * 366 * 86400000

# Attempts that fail at once all happen in one turn of a worker.
cdef uint32_t MOST_ATTEMPTS = 100


cdef void routes_free(Routes* routes) noexcept nogil:
    if routes == NULL:
        return
    free(<void*>routes.words)
    free(routes.chains)
    free(routes.numbers)
    free(routes.targets)
    free(routes.terminations)
    free(routes.tls_skipped.bounds)
    free(routes.http_skipped.bounds)
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
    if not chain.targets and chain.http_routes is None and chain.refusal == Reason.NONE:
        raise ValueError(f"filter chain {chain.name}: neither a cluster nor a refusal")
    if chain.idle_timeout_ms < 0 or chain.max_duration_ms < 0:
        raise ValueError(f"filter chain {chain.name}: a timeout is negative")
    if chain.max_connect_attempts < 1:
        attempts = chain.max_connect_attempts
        raise ValueError(f"filter chain {chain.name}: max_connect_attempts is {attempts}, not positive")
    return 0


cdef int write_words(Routes* routes, array words) except -1:
    routes.words = <const uint32_t*>allocate(routes, len(words), sizeof(uint32_t))
    memcpy(<void*>routes.words, words.data.as_voidptr, len(words) * sizeof(uint32_t))
    return 0


cdef size_t write_chain(Routes* routes, uint32_t index, chain, size_t at) except? 0:
    """Write a chain, its targets from `at` on; return where the next one's begin."""
    cdef RouteChain* written = &routes.chains[index]
    cdef uint32_t upper = 0
    written.refusal = <uint8_t><int>chain.refusal
    written.number = chain.number
    written.target_count = len(chain.targets)
    written.targets = &routes.targets[at]
    written.idle_timeout_ms = min(chain.idle_timeout_ms, LONGEST_MS)
    written.max_duration_ms = min(chain.max_duration_ms, LONGEST_MS)
    written.max_connect_attempts = min(chain.max_connect_attempts, MOST_ATTEMPTS)
    written.hash_source_ip = bool(chain.hash_source_ip)
    if chain.policies is not None:
        written.policies = (<PolicySet?>chain.policies).compiled
    if chain.http_routes is not None:
        written.http_routes = (<HttpRoutes?>chain.http_routes).compiled
    written.is_http = bool(chain.is_http)
    written.sets_alpn = bool(chain.sets_alpn)
    written.telemetry = chain.telemetry
    written.log = chain.log
    if chain.counts is not None:
        written.state = (<ChainCounts?>chain.counts).state
    for slot, weight in chain.targets:
        upper += <uint32_t>weight
        routes.targets[at].cluster_slot = slot
        routes.targets[at].upper = upper
        at += 1
    written.total_weight = upper
    return at


cdef int write_ports(Routes* routes, PortSet* written, object ranges) except -1:
    bounds = [bound for first_and_end in ranges for bound in first_and_end]
    if bounds != sorted(set(bounds)) or (bounds and not 0 <= min(bounds) <= max(bounds) <= 65536):
        raise ValueError(f"{ranges} are no ascending ranges of ports")
    written.bounds = <uint32_t*>allocate(routes, len(bounds), sizeof(uint32_t))
    for index, bound in enumerate(bounds):
        written.bounds[index] = bound
    written.count = <uint32_t>len(bounds)
    return 0


cdef int write_numbers(Routes* routes, object chains) except -1:
    numbers = sorted({chain.number for chain in chains} - {0})
    routes.numbers = <uint32_t*>allocate(routes, len(numbers), sizeof(uint32_t))
    for index, number in enumerate(numbers):
        routes.numbers[index] = number
    routes.number_count = <uint32_t>len(numbers)
    return 0


cdef object termination_of(chain):
    """What tells one Termination from another; None for a chain without."""
    return None if chain.tls is None else (chain.tls, min(max(1, chain.handshake_timeout_ms), UINT32_MAX))


cdef int write_terminations(Routes* routes, dict terminations) except -1:
    """Write them, and number them from 1."""
    if len(terminations) > UINT16_MAX:
        raise ValueError(f"{len(terminations)} different TLS contexts are too many for one listener")
    routes.terminations = <Termination*>allocate(routes, len(terminations), sizeof(Termination))
    for number, (context, timeout_ms) in enumerate(terminations):
        routes.terminations[number].context = (<Context?>context).context
        routes.terminations[number].timeout_ms = timeout_ms
        terminations[context, timeout_ms] = number + 1
    return 0


@cython.final
cdef class RouteTable:
    """Filter chains of one listener, compiled; immutable."""

    def __cinit__(self):
        self.routes = NULL
        self.name_nodes = ()
        self.contexts = ()
        self.policies = ()
        self.http_routes = ()

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
    def compile(chains, default_chain=None, inspection=NO_INSPECTION, *, guards_names=True):
        """Compile `chains` in their order. The criteria of the default chain, which takes dead ends, are not looked at.
        `inspection`: what is looked for in the first bytes. `guards_names`: names of mesh services are served by the
        rules of a gateway only; see route_nodes.

        Raises ValueError, naming the chains, for equal criteria of two (a chain that refuses wins over one that does
        not), for server names that are none, lone or partial wildcards, and for weights and slots out of range.
        """
        steps = RouteTable.steps(chains, default_chain, inspection, guards_names=guards_names)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                return end.value

    @staticmethod
    def steps(chains, default_chain=None, inspection=NO_INSPECTION, *, guards_names=True):
        """`compile` in slices of some 0.2 ms: a generator that returns the table."""
        cdef RouteTable table = RouteTable.__new__(RouteTable)
        cdef RouteBuilder builder
        cdef size_t at = 0
        # Where a name lies must not be foreseeable for those who may name services.
        seed = int.from_bytes(os.urandom(8), "little")
        builder = RouteBuilder(seed)
        chains = tuple(chains)
        served = chains if default_chain is None else (*chains, default_chain)
        if len(served) > OFFSET_MASK:
            raise ValueError(f"{len(served)} filter chains are too many for one listener")
        target_count = 0
        for index, chain in enumerate(served):
            check_chain(chain)
            if index < len(chains):
                builder.add(chain)
            target_count += len(chain.targets)
            if index % CHAINS_PER_SLICE == CHAINS_PER_SLICE - 1:
                yield
        root = yield from builder.steps()
        table.routes = <Routes*>calloc(1, sizeof(Routes))
        if table.routes == NULL:
            raise MemoryError
        table.routes.seed = seed
        table.routes.root = root
        table.routes.guards_names = bool(guards_names)
        table.routes.asks_destination = builder.asks_destination
        table.routes.chain_count = len(chains)
        table.routes.default_chain = -1 if default_chain is None else len(chains)
        table.routes.inspects_http = bool(inspection.http)
        write_ports(table.routes, &table.routes.tls_skipped, inspection.tls_skipped)
        write_ports(table.routes, &table.routes.http_skipped, inspection.http_skipped)
        write_words(table.routes, builder.words)
        table.name_nodes = tuple(builder.name_nodes)
        terminations = dict.fromkeys(map(termination_of, served))
        terminations.pop(None, None)
        write_terminations(table.routes, terminations)
        table.contexts = (*(context for context, _ in terminations), *{chain.counts for chain in served} - {None})
        write_numbers(table.routes, served)
        table.policies = tuple({chain.policies for chain in served if chain.policies is not None})
        table.http_routes = tuple({chain.http_routes for chain in served if chain.http_routes is not None})
        table.routes.chains = <RouteChain*>allocate(table.routes, len(served), sizeof(RouteChain))
        table.routes.targets = <RouteTarget*>allocate(table.routes, target_count, sizeof(RouteTarget))
        for index, chain in enumerate(served):
            at = write_chain(table.routes, index, chain, at)
            table.routes.chains[index].termination = <uint16_t>terminations.get(termination_of(chain), 0)
            if index % CHAINS_PER_SLICE == CHAINS_PER_SLICE - 1:
                yield
        return table

    @property
    def asks_destination(self):
        """Whether anything depends on the address that connections were going to."""
        return bool(route_asks_destination(self.routes))

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
        if self.routes == NULL or length == 0 or length == SNI_CAPACITY:
            return ""
        for exact in self.name_nodes:
            best = nearest_name(
                self.routes.words,
                self.routes.words + <uint32_t>exact,
                <const uint8_t*>PyBytes_AS_STRING(text),
                length,
                &limit,
                best,
            )
        if best == 0:
            return ""
        return (<const char*>name_text(self.routes.words, best))[:name_length(self.routes.words, best)].decode("ascii")
