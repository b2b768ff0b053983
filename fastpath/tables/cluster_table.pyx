"""Compile the endpoints of one cluster into a table, and pick from it. Does no arithmetic of shares itself.

Rule: share_plan says which lists there are and how much each gets; here they become one flat schedule for picker.
    ROUND_ROBIN     shares that are whole parts of a small number of turns: an exact cycle; anything else: an alias
                    table over all endpoints, walked by a Weyl sequence
    LEAST_REQUEST   the lists, and an alias table over them; lists of one endpoint each leave nothing to compare and
                    become a schedule as for ROUND_ROBIN
    RANDOM          the lists by what a draw says (random_table), and an alias table over the localities of each
    RING_HASH,
    MAGLEV          a ring or table for each priority (hash_lists, hashed_table)
One endpoint, or none, is a constant whatever the policy. Where picks are refused because a priority is in panic
(fail_on_panic), or because a zone has nobody, they have a part of the schedule as an endpoint has: cells of the alias
table, or a list without members. Policies that hash know neither.

Worked example: P0 with 2 of 4 healthy, P1 with 3 of 3: loads 70 and 30, shares 0.35, 0.35, 0.1, 0.1, 0.1. A cycle of 20
has them 7, 7, 2, 2, 2 times, so every 20 picks are exact. Weights 1 to 100 would need a cycle of thousands: there the
alias table serves.

Where it differs from Envoy: the order of picks (schedule, edf_heap, picker), never their shares. Weights of a priority
that sum past 2^32 - 1 are refused for every policy; Envoy does so for hashing policies only.
"""
cimport cython
from cpython.buffer cimport PyBUF_FORMAT, PyBUF_ND, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset, strcmp

from eastgate.fastpath.tables.endpoint_rows cimport EndpointRows, RowIndex, Rows, row_index_build, row_index_free
from eastgate.fastpath.tables.endpoint_state cimport (
    EndpointState, StateMap, state_map_build, state_map_bytes, state_map_release, state_of,
)
from eastgate.fastpath.tables.hash_lists cimport HashLists, hash_lists_build, hash_lists_free
from eastgate.fastpath.tables.hashed_table cimport HashOptions, hashed_build, hashed_entries, hashed_shares
from eastgate.fastpath.tables.maglev_table cimport is_prime
from eastgate.fastpath.tables.picker cimport (
    ALIAS, ALIAS_REFUSING, CONSTANT, CYCLE_16, CYCLE_32, LEAST_REQUEST, NO_BRANCH, PICK_NO_ENDPOINTS, PICK_NONE_HEALTHY,
    PICK_PANIC, RANDOM, Branch, PickCursor, PickHash, Table, TableGroup, cursor_free, cursor_init, table_fill,
    table_hashes, table_pick, table_pick_hash, table_spin,
)
from eastgate.fastpath.tables.random_table cimport BUCKETS, random_build, random_shares
from eastgate.fastpath.tables.schedule cimport AliasCell, alias_build, cycle_build, cycle_length
from eastgate.fastpath.tables.share_plan cimport Group, Plan, group_first, plan_build, plan_census, plan_free

from array import array
from sys import getsizeof

cdef extern from *:
    """
    #define eg_relaxed_load(p) __atomic_load_n((p), __ATOMIC_RELAXED)
    #define eg_relaxed_add(p, v) ((void)__atomic_fetch_add((p), (v), __ATOMIC_RELAXED))
    #define eg_relaxed_clear(p) __atomic_store_n((p), 0, __ATOMIC_RELAXED)
    """
    uint32_t relaxed_load "eg_relaxed_load"(const uint32_t* place) nogil
    void relaxed_add "eg_relaxed_add"(uint32_t* place, uint32_t value) nogil
    void relaxed_clear "eg_relaxed_clear"(uint32_t* place) nogil

cdef enum:
    # An exact cycle may have this many turns, or two per endpoint: half a kilobyte for a small cluster, and never more
    # than the alias table that would stand in its place.
    CYCLE_LIMIT = 256
    RING_LIMIT = 8388608        # as in Envoy
    MAGLEV_LIMIT = 5000011
    REFUSAL_CELLS = 2

cdef tuple KIND_NAMES = (
    "constant", "cycle", "cycle", "alias", "least_request", "random", "ring_hash", "maglev", "alias",
)
cdef tuple POLICIES = ("ROUND_ROBIN", "LEAST_REQUEST", "RANDOM", "RING_HASH", "MAGLEV")
cdef tuple HASHING = ("RING_HASH", "MAGLEV")
cdef tuple WEIGHING = ("ROUND_ROBIN", "LEAST_REQUEST")
cdef uint64_t tables_built = 0


cdef Table* table_new(size_t schedule_bytes, uint32_t groups, uint32_t members) except NULL:
    """One zeroed block: Table, lists, schedule, members, in the order of their alignment."""
    cdef size_t total = sizeof(Table) + groups * sizeof(TableGroup) + (schedule_bytes + 7) // 8 * 8 + members * 4
    cdef Table* table = <Table*>calloc(1, total)
    if table == NULL:
        raise MemoryError
    table.bytes = total
    table.groups = <const TableGroup*>(table + 1)
    table.schedule = <const char*>(table.groups + groups)
    table.members = <const uint32_t*>(<const char*>table.schedule + (schedule_bytes + 7) // 8 * 8)
    return table


cdef Table* compile_constant(const Plan* plan) except NULL:
    cdef Table* table = table_new(0, 0, 0)
    table.kind = CONSTANT
    if plan.member_count > 0:
        table.constant = <int32_t>plan.members[0]
    else:
        # Whoever has no members has refusals, or nothing at all.
        table.constant = plan.groups[0].refusal if plan.group_count > 0 else <int32_t>PICK_NONE_HEALTHY
        if plan.kept == 0:
            table.constant = PICK_NO_ENDPOINTS
    return table


cdef void member_shares(const Plan* plan, const Rows* rows, double* shares, double* phases) noexcept nogil:
    """Exact share of each member, and where its middle lies on the cumulative weight of its list."""
    cdef const Group* group
    cdef uint32_t number, member
    cdef double weight, before
    for number in range(plan.group_count):
        group = &plan.groups[number]
        before = 0.0
        for member in range(group.first, group.first + group.count):
            weight = <double>rows.pick_weight[plan.members[member]] / <double>group.weight
            shares[member] = group.share * weight
            if phases != NULL:
                phases[member] = before + weight / 2
                before += weight


cdef Table* compile_cycle(
    const Plan* plan, const Rows* rows, const double* shares, const double* phases, uint32_t length
) except NULL:
    cdef bint narrow = rows.count <= 65536
    cdef Table* table
    cdef uint32_t* cycle = <uint32_t*>malloc(length * sizeof(uint32_t))
    cdef uint32_t turn
    if cycle == NULL:
        raise MemoryError
    try:
        if cycle_build(cycle, length, shares, phases, plan.member_count) < 0:
            raise MemoryError
        table = table_new(length * (2 if narrow else 4), 0, 0)
        table.kind = CYCLE_16 if narrow else CYCLE_32
        table.length = length
        for turn in range(length):
            if narrow:
                (<uint16_t*>table.schedule)[turn] = <uint16_t>plan.members[cycle[turn]]
            else:
                (<uint32_t*>table.schedule)[turn] = plan.members[cycle[turn]]
    finally:
        free(cycle)
    return table


cdef Table* compile_alias(const Plan* plan, const Rows* rows, const double* shares) except NULL:
    # Picks that are refused stand behind the last row: those of panic, then those that find nobody.
    cdef bint refusing = plan.refused > 0.0
    cdef uint32_t cells = rows.count + (REFUSAL_CELLS if refusing else 0)
    cdef double* by_row = <double*>calloc(cells, sizeof(double))
    cdef Table* table = NULL
    cdef uint32_t member, number
    if by_row == NULL:
        raise MemoryError
    try:
        for member in range(plan.member_count):
            by_row[plan.members[member]] += shares[member]
        for number in range(plan.group_count):
            if plan.groups[number].refusal:
                by_row[rows.count + (plan.groups[number].refusal != PICK_PANIC)] += plan.groups[number].share
        table = table_new(cells * sizeof(AliasCell), 0, 0)
        table.kind = ALIAS_REFUSING if refusing else ALIAS
        table.length = cells
        if alias_build(<AliasCell*>table.schedule, by_row, cells) < 0:
            free(table)
            raise MemoryError
    finally:
        free(by_row)
    return table


cdef Table* compile_round_robin(const Plan* plan, const Rows* rows) except NULL:
    cdef double* shares = <double*>malloc(2 * plan.member_count * sizeof(double))
    cdef double* phases = shares + plan.member_count
    cdef uint32_t limit = 2 * plan.member_count if 2 * plan.member_count > CYCLE_LIMIT else CYCLE_LIMIT
    cdef uint32_t length
    if shares == NULL:
        raise MemoryError
    try:
        member_shares(plan, rows, shares, phases)
        length = cycle_length(shares, plan.member_count, limit) if plan.refused == 0.0 else 0
        if length > 0:
            return compile_cycle(plan, rows, shares, phases, length)
        return compile_alias(plan, rows, shares)
    finally:
        free(shares)


cdef Table* compile_least_request(const Plan* plan, uint32_t choice_count, double bias, bint by_weight) except NULL:
    cdef Table* table = table_new(plan.group_count * sizeof(AliasCell), plan.group_count, plan.member_count)
    cdef double* shares = <double*>malloc(plan.group_count * sizeof(double))
    cdef TableGroup* groups = <TableGroup*>table.groups
    cdef uint32_t number
    table.kind = LEAST_REQUEST
    table.length = plan.group_count
    table.choice_count = choice_count
    table.bias = bias
    memcpy(<void*>table.members, plan.members, plan.member_count * sizeof(uint32_t))
    if shares != NULL:
        for number in range(plan.group_count):
            shares[number] = plan.groups[number].share
            groups[number].first = group_first(&plan.groups[number])
            groups[number].count = plan.groups[number].count
            groups[number].equal = plan.groups[number].equal and (not by_weight or plan.groups[number].count <= 1)
            groups[number].weight = <double>plan.groups[number].weight
            if not groups[number].equal:
                table.queued += plan.groups[number].count
    if shares == NULL or alias_build(<AliasCell*>table.schedule, shares, plan.group_count) < 0:
        free(shares)
        free(table)
        raise MemoryError
    free(shares)
    return table


cdef Table* compile_random(const Plan* plan) except NULL:
    cdef uint32_t lists = plan.group_count
    cdef Table* table = table_new(lists * (sizeof(AliasCell) + sizeof(Branch)) + BUCKETS, lists, plan.member_count)
    cdef double* parts = <double*>malloc(lists * sizeof(double))
    cdef AliasCell* cells = <AliasCell*>table.schedule
    cdef const Branch* branch
    cdef uint32_t number
    cdef int failed = 0
    table.kind = RANDOM
    table.length = lists
    table.branches = <const Branch*>(cells + lists)
    table.branch_of = <const uint8_t*>(table.branches + lists)
    memcpy(<void*>table.members, plan.members, plan.member_count * sizeof(uint32_t))
    table.branch_count = random_build(
        plan, <uint8_t*>table.branch_of, <TableGroup*>table.groups, <Branch*>table.branches)
    if parts != NULL:
        for number in range(lists):
            parts[number] = table.groups[number].weight
        for number in range(table.branch_count):
            branch = &table.branches[number]
            failed += alias_build(cells + branch.first, parts + branch.first, branch.count)
    if parts == NULL or failed < 0:
        free(parts)
        free(table)
        raise MemoryError
    free(parts)
    return table


cdef Table* compile_plan(
    const Plan* plan, const Rows* rows, str policy, uint32_t choice_count, double bias, bint by_weight
) except NULL:
    cdef uint32_t number
    if plan.member_count == 0 or (plan.member_count == 1 and plan.refused == 0.0):
        return compile_constant(plan)
    if policy == "RANDOM":
        return compile_random(plan)
    if policy == "LEAST_REQUEST":
        for number in range(plan.group_count):
            if plan.groups[number].count > 1:
                return compile_least_request(plan, choice_count, bias, by_weight)
    # Lists of one endpoint each leave nothing to compare.
    return compile_round_robin(plan, rows)


cdef Table* compile_hashed(
    const Plan* plan, EndpointRows rows, bint locality_weighted, object own_locality, object hash_keys,
    const HashOptions* options
) except NULL:
    cdef HashLists lists
    cdef Table* table
    cdef uint32_t bucket
    cdef uint32_t reached = 0
    memset(&lists, 0, sizeof(HashLists))
    try:
        hash_lists_build(&lists, plan, rows, locality_weighted, own_locality, hash_keys)
        for bucket in range(<uint32_t>BUCKETS):
            reached += lists.branch_of[bucket] != NO_BRANCH
        if options.minimum == 0 and not options.maglev:
            # As in Envoy: a ring without entries has nobody.
            reached = 0
        if lists.member_count == 0 or reached == 0 or (lists.member_count == 1 and reached == BUCKETS):
            table = table_new(0, 0, 0)
            table.kind = CONSTANT
            table.constant = <int32_t>lists.members[0] if reached else PICK_NONE_HEALTHY
            return table
        with nogil:
            table = hashed_build(&lists, options)
        if table == NULL:
            raise MemoryError
        return table
    finally:
        hash_lists_free(&lists)


cdef HashOptions checked_hashing(str policy, object hashing):
    """The settings of a hashing policy; those of Envoy where there are none."""
    cdef HashOptions options
    options.maglev = policy == "MAGLEV"
    options.murmur = False
    options.minimum = 1024
    options.maximum = RING_LIMIT
    options.size = 65537
    options.balance_factor = 0
    if hashing is None:
        return options
    if hashing.hash_function not in ("XX_HASH", "MURMUR_HASH_2"):
        raise ValueError(f"hash_function {hashing.hash_function!r} is neither XX_HASH nor MURMUR_HASH_2")
    options.murmur = hashing.hash_function == "MURMUR_HASH_2"
    minimum, maximum, size = hashing.minimum_ring_size, hashing.maximum_ring_size, hashing.table_size
    if not 0 <= minimum <= RING_LIMIT or not 0 <= maximum <= RING_LIMIT:
        raise ValueError(f"ring sizes {minimum} to {maximum} are outside 0..{<int>RING_LIMIT}")
    if minimum > maximum:
        raise ValueError(f"ring hash: minimum_ring_size ({minimum}) > maximum_ring_size ({maximum})")
    if not 1 < size <= MAGLEV_LIMIT or not is_prime(size):
        raise ValueError(f"The table size of maglev must be prime number: table_size is {size}")
    options.minimum, options.maximum, options.size = minimum, maximum, size
    if hashing.balance_factor and not 100 <= hashing.balance_factor <= 0xFFFFFFFF:
        raise ValueError(f"hash_balance_factor is {hashing.balance_factor}, must be at least 100")
    options.balance_factor = hashing.balance_factor
    return options


cdef uint32_t* identity_or_index(EndpointRows rows, bint has_duplicates) except NULL:
    """First row of the address of each row."""
    cdef uint32_t* first_of = <uint32_t*>malloc((rows.rows.count + 1) * sizeof(uint32_t))
    cdef RowIndex index
    cdef uint32_t row
    if first_of == NULL:
        raise MemoryError
    if not has_duplicates:
        for row in range(rows.rows.count):
            first_of[row] = row
        return first_of
    index.slots = NULL
    try:
        row_index_build(&index, &rows.rows, first_of)
    except MemoryError:
        free(first_of)
        raise
    finally:
        row_index_free(&index)
    return first_of


cdef object checked_uint32(object value, str field, uint32_t least):
    if type(value) is not int or not least <= value <= 0xFFFFFFFF:
        raise ValueError(f"{field} {value!r} is outside {least}..4294967295")
    return value


@cython.final
cdef class ClusterTable:
    """Compiled endpoints of one cluster. Immutable, but for endpoint states and the cursor of Python callers."""

    def __cinit__(self):
        self.table = NULL
        memset(&self.cursor, 0, sizeof(PickCursor))

    def __init__(self):
        raise TypeError("make a ClusterTable with ClusterTable.compile")

    def __dealloc__(self):
        cursor_free(&self.cursor)
        if self.table != NULL:
            state_map_release(self.table.states)
            free(self.table)

    def __reduce__(self):
        raise TypeError("ClusterTable cannot be pickled")

    @staticmethod
    def from_endpoints(endpoints, *, locality_weights=None, locality_weighted=None, **settings):
        """Build the table of eastgate.fastpath.Endpoint records. For measuring, tests and simulations.

        `endpoints`: in the order that picks and shares name them by. `locality_weights`: by (priority, Locality); where
        there are some, `locality_weighted` is True unless it is given. `settings`: those of `compile`; `hash_keys` are
        taken from the endpoints. Raises ValueError naming the endpoint, or the setting, for impossible input, and
        TypeError for a setting that there is not.
        """
        from .endpoints import columns_of, hash_keys_of

        rows = list(endpoints)
        columns = columns_of(rows, locality_weights)
        if locality_weighted is None:
            locality_weighted = bool(locality_weights)
        keys = hash_keys_of(rows)
        if any(keys):
            settings.setdefault("hash_keys", keys)
        return ClusterTable.compile(columns, locality_weighted=locality_weighted, **settings)

    @staticmethod
    def compile(
        columns,
        *,
        policy="ROUND_ROBIN",
        overprovisioning_factor=140,
        panic_threshold=50,
        locality_weighted=False,
        weighted_priority_health=False,
        choice_count=2,
        active_request_bias=1.0,
        full_scan=False,
        hashing=None,
        hash_keys=None,
        own_locality=None,
        fail_on_panic=False,
        factors=b"",
        by_weight=False,
        zone_aware=None,
        local=None,
        previous=None,
        seed=0,
        failed=b"",
    ):
        """Build the table. `policy`: ROUND_ROBIN, LEAST_REQUEST, RANDOM, RING_HASH or MAGLEV.

        `choice_count`, `active_request_bias`, `full_scan`: of LEAST_REQUEST. `hashing`: settings of the last two
        policies, or None for Envoy's defaults. `hash_keys`: what is hashed for each endpoint instead of its address, as
        bytes by row, None in a row or for all. `own_locality`: where this proxy runs.
        `previous`: endpoint states are carried over by identity (address, locality). `failed`: optional uint8 per
        endpoint, non-zero = failed for another reason than EDS health (outlier ejection, active health check).
        `fail_on_panic`: what falls to a priority in panic gets no endpoint; RING_HASH and MAGLEV ignore it.
        `factors`: what endpoints in slow start have of their weight, 1.0 for others, float64 by row; for ROUND_ROBIN
        and LEAST_REQUEST. `by_weight`: LEAST_REQUEST compares nobody, also where weights are equal. `zone_aware`,
        `local`: settings of zone-aware routing or None for Envoy's defaults, and the census of the local cluster;
        without one, or without `own_locality`, zones are not looked at. `seed` places the cursor of Python callers.
        Raises ValueError naming the field for impossible input.
        """
        global tables_built
        cdef ClusterTable made = ClusterTable.__new__(ClusterTable)
        cdef ClusterTable before = <ClusterTable?>previous if previous is not None else None
        cdef StateMap* states = NULL
        cdef Plan plan
        cdef HashOptions options
        cdef uint32_t* first_of = NULL
        if policy not in POLICIES:
            raise ValueError(f"policy {policy!r} is none of {', '.join(POLICIES)}")
        made.policy = policy
        made.options.overprovisioning_factor = checked_uint32(overprovisioning_factor, "overprovisioning_factor", 1)
        made.options.panic_threshold = checked_uint32(panic_threshold, "panic_threshold", 0)
        made.options.locality_weighted = locality_weighted
        made.options.weighted_priority_health = weighted_priority_health
        made.options.fail_on_panic = fail_on_panic and policy not in HASHING
        made.options.zone_percent = 100
        made.options.zone_minimum = 6
        if zone_aware is not None:
            made.options.zone_percent = checked_uint32(zone_aware.routing_enabled, "routing_enabled", 0)
            if zone_aware.routing_enabled > 100:
                raise ValueError(f"routing_enabled {zone_aware.routing_enabled} is above 100")
            made.options.zone_minimum = zone_aware.min_cluster_size
            made.options.zone_force = checked_uint32(zone_aware.force_min_size, "force_local_zone.min_size", 0)
            made.options.zone_by_weight = zone_aware.by_weight
        made.own = None if own_locality is None else tuple(own_locality)
        made.local = None if policy in HASHING else local
        choices = checked_uint32(choice_count, "choice_count", 2)
        if not active_request_bias >= 0:
            raise ValueError(f"active_request_bias {active_request_bias!r} is negative")
        made.rows = EndpointRows(columns, failed, factors if policy in WEIGHING else b"")
        made.columns = columns
        memset(&plan, 0, sizeof(Plan))
        try:
            first_of = <uint32_t*>malloc((made.rows.rows.count + 1) * sizeof(uint32_t))
            if first_of == NULL:
                raise MemoryError
            states = state_map_build(
                made.rows, before.rows if before is not None else None,
                before.table.states if before is not None else NULL, first_of)
            plan_build(&plan, made.rows, first_of, &made.options, made.local, made.own)
            if policy in HASHING and plan.kept > 0:
                options = checked_hashing(policy, hashing)
                made.table = compile_hashed(
                    &plan, made.rows, locality_weighted, own_locality, hash_keys, &options)
            else:
                made.table = compile_plan(
                    &plan, &made.rows.rows, policy, 0 if full_scan else choices, active_request_bias, by_weight)
            made.table.rows = made.rows.rows
            made.table.states = states
            made.refused = plan.refused
            made.zoned = plan.zoned
            states = NULL
        finally:
            state_map_release(states)
            plan_free(&plan)
            free(first_of)
        tables_built += 1
        made.table.serial = tables_built
        if cursor_init(made.table, &made.cursor, seed & 0xFFFFFFFFFFFFFFFF) < 0:
            raise MemoryError
        return made

    def __len__(self):
        return self.table.rows.count

    def pick(self):
        """Endpoint index (row of columns), or a negative Reason."""
        if self.table.balance_factor:
            self.count_active()
        return table_pick(self.table, &self.cursor)

    def finds_endpoints(self):
        """Whether some pick gives an endpoint."""
        if table_hashes(self.table):
            # Some hashes may find nobody where others do.
            return any(self.shares())
        return self.table.kind != CONSTANT or self.table.constant >= 0

    def pick_hash(self, value, attempt=0):
        """The same for a connection with this hash. `attempt`: others than 0 lead to further endpoints.

        RANDOM takes the hash as its draw; ROUND_ROBIN and LEAST_REQUEST do not look at it.
        """
        cdef PickHash hash
        hash.value = value
        hash.present = True
        hash.attempt = attempt
        self.count_active()
        return table_pick_hash(self.table, &self.cursor, &hash)

    cdef int count_active(self) except -1:
        """Where loads are bounded, tell the cursor how many connections all endpoints have."""
        cdef uint32_t* first_of
        cdef uint32_t row
        if self.table.balance_factor:
            # Duplicates share the state of their first row.
            first_of = identity_or_index(self.rows, self.table.states.duplicates > 0)
            self.cursor.cluster_active = 0
            for row in range(self.table.rows.count):
                if first_of[row] == row:
                    self.cursor.cluster_active += relaxed_load(&state_of(self.table.states, row).active)
            free(first_of)
        return 0

    def pick_many(self, out):
        """Fill a writable uint32 buffer with picks; 0xFFFFFFFF where there was none."""
        cdef Py_buffer view
        cdef uint32_t* picks
        cdef Py_ssize_t count
        PyObject_GetBuffer(out, &view, PyBUF_WRITABLE | PyBUF_ND | PyBUF_FORMAT)
        try:
            if view.itemsize != 4 or view.format == NULL or strcmp(view.format, b"I") != 0:
                raise ValueError("out: a buffer of uint32 (format I) is needed")
            picks = <uint32_t*>view.buf
            count = view.len // 4
            self.count_active()
            with nogil:
                table_fill(self.table, &self.cursor, picks, count)
        finally:
            PyBuffer_Release(&view)

    def spin(self, picks):
        """Pick `picks` times as the engine does, keeping nothing; return how many gave an endpoint. For benchmarks."""
        cdef uint64_t wanted = picks
        cdef uint64_t found
        self.count_active()
        with nogil:
            found = table_spin(self.table, &self.cursor, wanted)
        return found

    def shares(self):
        """float64 per endpoint, exact, sum 1 - refused (0 when nothing can be picked); least request: at equal load."""
        cdef Plan plan
        cdef const Group* group
        cdef uint32_t number, member, row
        cdef uint32_t* first_of = identity_or_index(self.rows, self.table.states.duplicates > 0)
        cdef double[::1] shares
        memset(&plan, 0, sizeof(Plan))
        found = array("d", bytes(8 * self.table.rows.count))
        if self.table.kind == RANDOM or table_hashes(self.table) or self.table.kind == CONSTANT:
            free(first_of)
            if self.table.rows.count > 0:
                shares = found
                if self.table.kind == RANDOM:
                    random_shares(self.table, &shares[0])
                elif self.table.kind != CONSTANT:
                    hashed_shares(self.table, &shares[0])
                elif self.table.constant >= 0:
                    shares[self.table.constant] = 1.0
            return memoryview(found)
        try:
            plan_build(&plan, self.rows, first_of, &self.options, self.local, self.own)
            if self.table.rows.count > 0:
                shares = found
                for number in range(plan.group_count):
                    group = &plan.groups[number]
                    for member in range(group.first, group.first + group.count):
                        row = plan.members[member]
                        shares[row] += group.share * (<double>self.table.rows.pick_weight[row] / <double>group.weight)
        finally:
            plan_free(&plan)
            free(first_of)
        return memoryview(found)

    def priorities(self):
        """Per priority: total, healthy, degraded, excluded, healthy load %, degraded load %, availability %, panic.

        Availability is that of healthy and degraded endpoints together, 100 at most.
        """
        cdef Plan plan
        cdef uint32_t* first_of = identity_or_index(self.rows, self.table.states.duplicates > 0)
        memset(&plan, 0, sizeof(Plan))
        try:
            plan_build(&plan, self.rows, first_of, &self.options, self.local, self.own)
            return tuple([
                (
                    plan.priorities.counts[number].hosts,
                    plan.priorities.counts[number].healthy,
                    plan.priorities.counts[number].degraded,
                    plan.priorities.counts[number].excluded,
                    plan.priorities.healthy_load[number],
                    plan.priorities.degraded_load[number],
                    min(
                        100,
                        plan.priorities.healthy_availability[number] + plan.priorities.degraded_availability[number],
                    ),
                    bool(plan.priorities.panic[number]),
                )
                for number in range(plan.priorities.count)
            ])
        finally:
            plan_free(&plan)
            free(first_of)

    def census(self):
        """Endpoints of P0 as `local` of another table's compile takes them."""
        cdef Plan plan
        cdef uint32_t* first_of = identity_or_index(self.rows, self.table.states.duplicates > 0)
        memset(&plan, 0, sizeof(Plan))
        try:
            plan_build(&plan, self.rows, first_of, &self.options, None, None)
            return plan_census(&plan, self.rows)
        finally:
            plan_free(&plan)
            free(first_of)

    cdef EndpointState* checked_state(self, endpoint) except NULL:
        if not 0 <= endpoint < self.table.rows.count:
            raise IndexError(f"endpoint {endpoint} of {self.table.rows.count}")
        return state_of(self.table.states, <uint32_t>endpoint)

    def address(self, endpoint):
        """host:port, [host]:port, or unix:path."""
        self.checked_state(endpoint)
        return self.rows.address_text(endpoint)

    def state(self, endpoint):
        """active, cx_total, cx_connect_fail, consecutive_failures."""
        cdef EndpointState* state = self.checked_state(endpoint)
        return (
            relaxed_load(&state.active), relaxed_load(&state.cx_total), relaxed_load(&state.cx_connect_fail),
            relaxed_load(&state.consecutive_failures),
        )

    def reset_failures(self, endpoint):
        """Set consecutive_failures to 0, as outlier detection does after it has dealt with them."""
        relaxed_clear(&self.checked_state(endpoint).consecutive_failures)

    def hold(self, endpoint):
        """Count an established connection, as the engine does; each needs a drop. For simulations."""
        relaxed_add(&self.checked_state(endpoint).active, 1)

    def drop(self, endpoint):
        """Take back one hold."""
        cdef EndpointState* state = self.checked_state(endpoint)
        if relaxed_load(&state.active) == 0:
            raise ValueError(f"endpoint {endpoint} has no active connection")
        relaxed_add(&state.active, <uint32_t>-1)

    def schedule(self):
        """(kind, length): "constant", "cycle", "alias" or the policy in lower case, and how many places it has."""
        return KIND_NAMES[<int>self.table.kind], self.table.length

    def hash_entries(self):
        """By priority that takes picks: (hash, row) of each entry of its ring, or the row of each place of its table.

        Empty for a table that picks do not find by a hash.
        """
        return hashed_entries(self.table) if table_hashes(self.table) else []

    def memory(self):
        """Bytes of this table, its endpoint states and its columns; states shared with other tables count in each."""
        cdef EndpointRows rows = self.rows
        total = getsizeof(self) + self.table.bytes + getsizeof(rows) + len(rows.names) * sizeof(rows.rows.names[0])
        total += state_map_bytes(self.table.states)
        total += sum([
            getsizeof(held) for held in (
                rows.family, rows.address, rows.port, rows.weight, rows.health, rows.priority, rows.locality,
                rows.failed, rows.pick_weight, rows.localities, rows.locality_priorities, rows.locality_weights,
            ) if held
        ])
        return total
