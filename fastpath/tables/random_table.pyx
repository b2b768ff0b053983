"""Lay out the RANDOM policy: which lists each value of draw % 100 leads to, and what share that gives an endpoint.

Rule: loads fill the values 0..99 in order, first healthy loads by priority, then degraded ones (priority_choose). The
same draw % length is the place in the list. An endpoint's share is the part of all draws that satisfy both.

Worked example: P0 has a load of 70 and 20 endpoints, P1 30 and one. Values 0..69 lead to P0. 20 divides 100, so place j
goes with the values j, j + 20, j + 40, ...: place 3 has 3, 23, 43, 63, which is 4 % of all draws; place 15 has 15, 35,
55, which is 3 %. With 21 endpoints, which have no factor in common with 100, each gets 70 / 21 %.

Where it differs from Envoy: nowhere.
"""
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from eastgate.fastpath.tables.picker cimport NO_BRANCH, Branch, Table, TableGroup
from eastgate.fastpath.tables.priority_load cimport DEGRADED, EXCLUDED, priority_choose
from eastgate.fastpath.tables.share_plan cimport Plan, group_first


cdef uint32_t random_build(const Plan* plan, uint8_t* branch_of, TableGroup* groups, Branch* branches) noexcept nogil:
    cdef uint32_t count = 0
    cdef uint32_t number, bucket, priority, availability, branch
    cdef double whole
    cdef bint degraded = False
    for number in range(plan.group_count):
        groups[number].first = group_first(&plan.groups[number])
        groups[number].count = plan.groups[number].count
        groups[number].equal = plan.groups[number].equal
        # Lists of the same priority and availability stand side by side in a plan.
        if (
            number > 0
            and plan.groups[number].priority == plan.groups[number - 1].priority
            and plan.groups[number].availability == plan.groups[number - 1].availability
        ):
            branches[count - 1].count += 1
            continue
        branches[count].first = number
        branches[count].count = 1
        count += 1
    for branch in range(count):
        whole = 0.0
        for number in range(branches[branch].first, branches[branch].first + branches[branch].count):
            whole += plan.groups[number].share
        for number in range(branches[branch].first, branches[branch].first + branches[branch].count):
            groups[number].weight = plan.groups[number].share / whole
    for bucket in range(<uint32_t>BUCKETS):
        branch_of[bucket] = NO_BRANCH
        priority = priority_choose(&plan.priorities, bucket, &degraded)
        for branch in range(count):
            number = branches[branch].first
            availability = plan.groups[number].availability
            if plan.groups[number].priority == priority and (
                availability == EXCLUDED or (availability == DEGRADED) == degraded
            ):
                branch_of[bucket] = <uint8_t>branch
                break
    return count


cdef uint32_t draw_parts(const uint8_t* branch_of, uint8_t branch, uint64_t count, double* parts) noexcept nogil:
    cdef uint64_t modulus = BUCKETS
    cdef uint64_t rest = count
    cdef uint64_t swap
    cdef uint32_t bucket
    while rest:
        swap = modulus % rest
        modulus = rest
        rest = swap
    for bucket in range(<uint32_t>modulus):
        parts[bucket] = 0.0
    for bucket in range(<uint32_t>BUCKETS):
        if branch_of[bucket] == branch:
            parts[bucket % modulus] += 1.0
    for bucket in range(<uint32_t>modulus):
        parts[bucket] = parts[bucket] / BUCKETS * modulus / count
    return <uint32_t>modulus


cdef void random_shares(const Table* table, double* shares) noexcept nogil:
    cdef double parts[100]
    cdef const TableGroup* group
    cdef uint32_t branch, number, place, modulus
    for branch in range(table.branch_count):
        for number in range(table.branches[branch].first, table.branches[branch].first + table.branches[branch].count):
            group = &table.groups[number]
            if group.count == 0:
                continue
            modulus = draw_parts(table.branch_of, <uint8_t>branch, group.count, parts)
            for place in range(group.count):
                shares[table.members[group.first + place]] += group.weight * parts[place % modulus]
