"""The compiled endpoints of one cluster as an object: made of columns and settings, picked from, asked for its shares.

share_plan says which lists there are and how much each gets; table_build makes a flat schedule of them for picker, and
has the rules. Where it differs from Envoy: weights of a priority that sum past 2^32 - 1 are refused for every policy;
Envoy does so for hashing policies only.
"""
cimport cython
from cpython.buffer cimport PyBUF_FORMAT, PyBUF_ND, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset, strcmp

from eastgate.fastpath.tables.endpoint_rows cimport EndpointRows, RowIndex, row_index_build, row_index_free
from eastgate.fastpath.tables.endpoint_state cimport (
    EndpointState, StateMap, state_map_build, state_map_bytes, state_map_release, state_of,
)
from eastgate.fastpath.tables.hashed_table cimport HashOptions, hashed_entries, hashed_shares
from eastgate.fastpath.tables.picker cimport (
    CONSTANT, RANDOM, PickCursor, PickHash, cursor_free, cursor_init, table_fill, table_hashes, table_pick,
    table_pick_hash, table_spin,
)
from eastgate.fastpath.tables.random_table cimport random_shares
from eastgate.fastpath.tables.share_plan cimport Group, Plan, plan_build, plan_census, plan_free
from eastgate.fastpath.tables.table_build cimport ChoiceOptions, compile_hashed, compile_plan
from eastgate.fastpath.tables.table_options cimport (
    check_policy, check_zones, checked_choice, checked_hashing, checked_uint32, policy_hashes, policy_weighs,
)

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

cdef tuple KIND_NAMES = (
    "constant", "cycle", "cycle", "alias", "least_request", "random", "ring_hash", "maglev", "alias",
)
cdef uint64_t tables_built = 0


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
        from .endpoints import columns_of_endpoints, hash_keys_of

        rows = list(endpoints)
        columns = columns_of_endpoints(rows, locality_weights)
        if locality_weighted is None:
            locality_weighted = bool(locality_weights)
        keys = hash_keys_of(rows)
        if any(keys):
            settings.setdefault("hash_keys", keys)
        return ClusterTable.compile(columns, locality_weighted=locality_weighted, **settings)

    @staticmethod
    def compile(
        columns, *, policy="ROUND_ROBIN", overprovisioning_factor=140, panic_threshold=50, locality_weighted=False,
        weighted_priority_health=False, choice_count=2, active_request_bias=1.0, full_scan=False, hashing=None,
        hash_keys=None, own_locality=None, fail_on_panic=False, factors=b"", by_weight=False, zone_aware=None,
        local=None, previous=None, seed=0, failed=b"",
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
        cdef ClusterTable made = ClusterTable.__new__(ClusterTable)
        cdef ClusterTable before = <ClusterTable?>previous if previous is not None else None
        cdef bint hashes = policy_hashes(policy)
        cdef ChoiceOptions choice
        check_policy(policy)
        made.policy = policy
        made.options.overprovisioning_factor = checked_uint32(overprovisioning_factor, "overprovisioning_factor", 1)
        made.options.panic_threshold = checked_uint32(panic_threshold, "panic_threshold", 0)
        made.options.locality_weighted = locality_weighted
        made.options.weighted_priority_health = weighted_priority_health
        made.options.fail_on_panic = fail_on_panic and not hashes
        check_zones(&made.options, zone_aware)
        made.own = None if own_locality is None else tuple(own_locality)
        made.local = None if hashes else local
        choice = checked_choice(choice_count, active_request_bias, full_scan, by_weight)
        made.rows = EndpointRows(columns, failed, factors if policy_weighs(policy) else b"")
        made.columns = columns
        made.build(before, &choice, hashing, hash_keys)
        if cursor_init(made.table, &made.cursor, seed & 0xFFFFFFFFFFFFFFFF) < 0:
            raise MemoryError
        return made

    cdef int build(self, ClusterTable before, const ChoiceOptions* choice, object hashing, object hash_keys) except -1:
        """Plan the shares of the rows and lay them out, once. `before`: the table whose states are carried over."""
        global tables_built
        cdef StateMap* states = NULL
        cdef Plan plan
        cdef HashOptions options
        cdef uint32_t* first_of = NULL
        memset(&plan, 0, sizeof(Plan))
        try:
            first_of = <uint32_t*>malloc((self.rows.rows.count + 1) * sizeof(uint32_t))
            if first_of == NULL:
                raise MemoryError
            states = state_map_build(
                self.rows, before.rows if before is not None else None,
                before.table.states if before is not None else NULL, first_of)
            plan_build(&plan, self.rows, first_of, &self.options, self.local, self.own)
            if policy_hashes(self.policy) and plan.kept > 0:
                options = checked_hashing(self.policy, hashing)
                self.table = compile_hashed(
                    &plan, self.rows, self.options.locality_weighted, self.own, hash_keys, &options)
            else:
                self.table = compile_plan(&plan, &self.rows.rows, self.policy, choice)
            self.table.rows = self.rows.rows
            self.table.states = states
            self.refused = plan.refused
            self.zoned = plan.zoned
            states = NULL
        finally:
            state_map_release(states)
            plan_free(&plan)
            free(first_of)
        tables_built += 1
        self.table.serial = tables_built
        return 0

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
        if rows.further is not None:
            total += sum([
                getsizeof(held) for held in (
                    rows.further.first, rows.further.family, rows.further.address, rows.further.port,
                )
            ])
        total += sum([
            getsizeof(held) for held in (
                rows.family, rows.address, rows.port, rows.weight, rows.health, rows.priority, rows.locality,
                rows.failed, rows.pick_weight, rows.localities, rows.locality_priorities, rows.locality_weights,
            ) if held
        ])
        return total
