"""Lay out the table of one cluster from its plan: a flat schedule that picker walks. Does no arithmetic of shares.

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
from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset

from eastgate.fastpath.tables.endpoint_rows cimport EndpointRows, Rows
from eastgate.fastpath.tables.hash_lists cimport HashLists, hash_lists_build, hash_lists_free
from eastgate.fastpath.tables.hashed_table cimport HashOptions, hashed_build
from eastgate.fastpath.tables.picker cimport (
    ALIAS, ALIAS_REFUSING, CONSTANT, CYCLE_16, CYCLE_32, LEAST_REQUEST, NO_BRANCH, PICK_NO_ENDPOINTS, PICK_NONE_HEALTHY,
    PICK_PANIC, RANDOM, Branch, Table, TableGroup,
)
from eastgate.fastpath.tables.random_table cimport BUCKETS, random_build
from eastgate.fastpath.tables.schedule cimport AliasCell, alias_build, cycle_build, cycle_length
from eastgate.fastpath.tables.share_plan cimport Group, Plan, group_first

cdef enum:
    # An exact cycle may have this many turns, or two per endpoint: half a kilobyte for a small cluster, and never more
    # than the alias table that would stand in its place.
    CYCLE_LIMIT = 256
    REFUSAL_CELLS = 2


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


cdef Table* compile_least_request(const Plan* plan, const ChoiceOptions* choice) except NULL:
    cdef Table* table = table_new(plan.group_count * sizeof(AliasCell), plan.group_count, plan.member_count)
    cdef double* shares = <double*>malloc(plan.group_count * sizeof(double))
    cdef TableGroup* groups = <TableGroup*>table.groups
    cdef uint32_t number
    table.kind = LEAST_REQUEST
    table.length = plan.group_count
    table.choice_count = choice.count
    table.bias = choice.bias
    memcpy(<void*>table.members, plan.members, plan.member_count * sizeof(uint32_t))
    if shares != NULL:
        for number in range(plan.group_count):
            shares[number] = plan.groups[number].share
            groups[number].first = group_first(&plan.groups[number])
            groups[number].count = plan.groups[number].count
            # Where nobody is compared, weights are looked at also where they are equal.
            groups[number].equal = plan.groups[number].equal and not (choice.by_weight and groups[number].count > 1)
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
    const Plan* plan, const Rows* rows, str policy, const ChoiceOptions* choice
) except NULL:
    cdef uint32_t number
    if plan.member_count == 0 or (plan.member_count == 1 and plan.refused == 0.0):
        return compile_constant(plan)
    if policy == "RANDOM":
        return compile_random(plan)
    if policy == "LEAST_REQUEST":
        for number in range(plan.group_count):
            if plan.groups[number].count > 1:
                return compile_least_request(plan, choice)
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
