"""Turn checked columns into the lists that Envoy would pick from, with the exact share of each. Builds no schedule.

Rule: every pick goes to a priority and an availability (priority_load), then to one list:
    the priority is in panic          all its endpoints, excluded ones too; localities and their weights are ignored;
                                      with fail_on_panic no list: such picks are refused, other priorities keep theirs
    locality weighting, and some
    locality has an effective weight  the healthy (degraded) endpoints of one locality, by effective weight
    P0, and the proxies like this one
    are known (local cluster)         the healthy (degraded) endpoints of one locality, by zone_routing; with
                                      routing_enabled below 100 % a part of the picks goes to all of the priority
    otherwise                         all healthy (degraded) endpoints of the priority
Inside the list an endpoint has its weight, in slow start what it has of it, over the sum of them. Duplicates are in no
list and count nowhere.

Worked example: P0 has localities A (weight 1; 2 of 5 healthy) and B (weight 2; 1 of 1), P1 one healthy endpoint.
P0: 140 * 3 / 6 = 70 %, P1: 30 %. In P0: A 1 * 0.56, B 2 * 1.0, so each of A's two has 0.7 * 0.56 / 2.56 / 2 = 0.0766,
B's has 0.7 * 2 / 2.56 = 0.5469, P1's has 0.3.

Where it differs from Envoy: nowhere in the shares. Envoy interleaves by separate schedulers per list; what comes of a
plan here is one schedule for all lists.
"""
from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memset

from eastgate.fastpath.tables.endpoint_rows cimport EndpointRows, Rows
from eastgate.fastpath.tables.priority_load cimport (
    DEGRADED, EXCLUDED, HEALTHY, PRIORITY_LIMIT, UNKNOWN_STATUS, HealthClass, PriorityCounts, PriorityState,
    health_class, locality_weight, priority_distribute, priority_init, priority_is_low, priority_set,
)
from eastgate.fastpath.reason cimport Reason
from eastgate.fastpath.tables.zone_routing cimport Zone, zone_route

cdef enum:
    NO_GROUP = 0xFFFFFFFF

# One (priority, locality) with endpoints; entries of the columns with the same pair are one place.
cdef struct Place:
    uint32_t priority
    uint32_t weight
    uint32_t hosts
    uint32_t healthy
    uint32_t degraded
    uint32_t excluded
    uint64_t healthy_weight
    double picks                # part of the picks of P0 that go here by zone
    uint32_t group_of[4]        # by HealthClass: the group that such an endpoint of this place is in
    uint32_t zone_of[4]         # the same of picks that look at zones

cdef struct Draft:              # working memory of one build
    uint8_t* class_of           # of the plan
    uint32_t* place_of          # by locality index
    Place* places
    uint32_t place_count
    double* effective           # by place
    uint32_t group_limit
    bint zoned
    bint local_low              # the local cluster is in panic


cdef int find_places(Draft* draft, EndpointRows rows) except -1:
    """Number the distinct (priority, locality) pairs; the weight of the last entry of a pair wins."""
    cdef uint32_t entry, place
    cdef dict numbers = {}
    for entry in range(rows.rows.locality_count):
        pair = (rows.locality_priorities[entry], rows.localities[entry])
        place = numbers.setdefault(pair, len(numbers))
        draft.place_of[entry] = place
        # A priority past the limit has no rows; check_rows saw to that.
        draft.places[place].priority = pair[0] if pair[0] < PRIORITY_LIMIT else PRIORITY_LIMIT - 1
        draft.places[place].weight = rows.locality_weights[entry]
    draft.place_count = <uint32_t>len(numbers)
    return 0


cdef void count_rows(
    Plan* plan, Draft* draft, const Rows* rows, const uint32_t* first_of, PriorityCounts* counts
) noexcept nogil:
    cdef uint32_t row, weight
    cdef PriorityCounts* count
    cdef Place* place
    cdef HealthClass found
    for row in range(rows.count):
        if first_of[row] != row:
            draft.class_of[row] = <uint8_t>UNKNOWN_STATUS
            continue
        found = health_class(rows.health[row], rows.failed != NULL and rows.failed[row] != 0)
        draft.class_of[row] = <uint8_t>found
        weight = rows.weight[row]
        count = &counts[rows.priority[row]]
        place = &draft.places[draft.place_of[rows.locality[row]]]
        plan.kept += 1
        count.hosts += 1
        count.weight += weight
        place.hosts += 1
        if found == HEALTHY:
            count.healthy += 1
            count.healthy_weight += weight
            place.healthy += 1
            place.healthy_weight += weight
        elif found == DEGRADED:
            count.degraded += 1
            count.degraded_weight += weight
            place.degraded += 1
        elif found == EXCLUDED:
            count.excluded += 1
            count.excluded_weight += weight
            place.excluded += 1


cdef uint32_t add_group(Plan* plan, double share, uint32_t priority, HealthClass availability) noexcept nogil:
    memset(&plan.groups[plan.group_count], 0, sizeof(Group))
    plan.groups[plan.group_count].share = share
    plan.groups[plan.group_count].priority = <uint8_t>priority
    plan.groups[plan.group_count].availability = <uint8_t>availability
    plan.groups[plan.group_count].equal = True
    plan.group_count += 1
    return plan.group_count - 1


cdef void add_refusal(
    Plan* plan, double share, uint32_t priority, HealthClass availability, int32_t refusal
) noexcept nogil:
    cdef uint32_t group = add_group(plan, share, priority, availability)
    plan.groups[group].refusal = refusal
    plan.refused += share


cdef void put_first(Zone* zones, uint32_t* place_of, uint32_t number) noexcept nogil:
    """Change places with the first one: zone_route looks for the own zone there."""
    cdef Zone zone = zones[0]
    cdef uint32_t place = place_of[0]
    zones[0] = zones[number]
    place_of[0] = place_of[number]
    zones[number] = zone
    place_of[number] = place


cdef int find_zones(Plan* plan, Draft* draft, EndpointRows rows, const PlanOptions* options, local, own) except -1:
    """Whether picks of P0 look at zones, and what each place then gets. Envoy's order of conditions."""
    cdef uint32_t number, upstream
    cdef uint32_t count = 0
    cdef uint64_t upstream_total = 0
    cdef uint64_t local_total = 0
    cdef bint has_local = False
    cdef PriorityCounts counts
    cdef Place* place
    cdef Zone* zones = <Zone*>calloc(draft.place_count + 1, sizeof(Zone))
    cdef uint32_t* place_of = <uint32_t*>malloc((draft.place_count + 1) * sizeof(uint32_t))
    cdef tuple here
    cdef dict names = {}
    try:
        if zones == NULL or place_of == NULL:
            raise MemoryError
        for number in range(rows.rows.locality_count):
            names[draft.place_of[number]] = rows.localities[number]
        by_locality = local[4]
        for _hosts, healthy, weight in by_locality.values():
            local_total += <uint64_t>(weight if options.zone_by_weight else healthy)
        for number in range(draft.place_count):
            place = &draft.places[number]
            if place.priority != 0 or place.hosts == 0:
                continue
            here = by_locality.get(names[number], (0, 0, 0))
            zones[count].upstream = place.healthy_weight if options.zone_by_weight else place.healthy
            zones[count].local = here[2] if options.zone_by_weight else here[1]
            upstream_total += zones[count].upstream
            place_of[count] = number
            if names[number] == own:
                has_local = True
                put_first(zones, place_of, count)
            count += 1
        if count < 2 or (len(by_locality) < 2 and options.zone_force == 0):
            return 0
        if own is None or by_locality.get(own, (0, 0, 0))[0] == 0:
            return 0
        if plan.priorities.counts[0].healthy < options.zone_minimum:
            return 0
        memset(&counts, 0, sizeof(PriorityCounts))
        counts.hosts, counts.healthy, counts.degraded, counts.excluded = local[0], local[1], local[2], local[3]
        draft.local_low = priority_is_low(options.panic_threshold, &counts)
        upstream = draft.places[place_of[0]].healthy
        zone_route(
            zones, count, local_total, upstream_total, has_local,
            has_local and options.zone_force > 0 and upstream >= options.zone_force)
        for number in range(count):
            draft.places[place_of[number]].picks = zones[number].picks
        draft.zoned = True
        plan.zoned = True
        return 0
    finally:
        free(zones)
        free(place_of)


cdef void assign_zones(Plan* plan, Draft* draft, HealthClass wanted, double share) noexcept nogil:
    """Give the places of P0 a group each, by zone. A degraded pick goes by the same parts."""
    cdef uint32_t number, eligible
    cdef double empty = 0.0
    cdef Place* place
    for number in range(draft.place_count):
        place = &draft.places[number]
        if place.priority != 0 or place.picks <= 0.0:
            continue
        eligible = place.healthy if wanted == HEALTHY else place.degraded
        if eligible == 0:
            empty += share * place.picks
        else:
            place.zone_of[<uint32_t>wanted] = add_group(plan, share * place.picks, 0, wanted)
    if empty > 0.0:
        add_refusal(plan, empty, 0, wanted, -<int32_t>Reason.NONE_HEALTHY)


cdef void assign_groups(
    Plan* plan, Draft* draft, uint32_t priority, HealthClass wanted, uint32_t load, const PlanOptions* options
) noexcept nogil:
    """Give the places of one priority and availability their group: one each by locality weight, or one for all."""
    cdef double share = load / 100.0
    cdef double total = 0.0
    cdef double zoned
    cdef uint32_t number, group, eligible
    cdef Place* place
    if options.locality_weighted:
        for number in range(draft.place_count):
            place = &draft.places[number]
            draft.effective[number] = 0.0
            if place.priority == priority:
                eligible = place.healthy if wanted == HEALTHY else place.degraded
                draft.effective[number] = locality_weight(
                    place.weight, eligible, place.hosts, place.excluded, options.overprovisioning_factor)
                total += draft.effective[number]
    if total > 0.0:
        for number in range(draft.place_count):
            if draft.effective[number] > 0.0:
                group = add_group(plan, share * (draft.effective[number] / total), priority, wanted)
                draft.places[number].group_of[<uint32_t>wanted] = group
        return
    if priority == 0 and draft.zoned:
        zoned = share * (options.zone_percent / 100.0)
        if not draft.local_low:
            assign_zones(plan, draft, wanted, zoned)
            share -= zoned
        elif options.fail_on_panic:
            add_refusal(plan, zoned, 0, wanted, -<int32_t>Reason.PANIC)
            share -= zoned
        if options.zone_percent >= 100 and (options.fail_on_panic or not draft.local_low):
            return
    group = add_group(plan, share, priority, wanted)
    for number in range(draft.place_count):
        if draft.places[number].priority == priority:
            draft.places[number].group_of[<uint32_t>wanted] = group


cdef void assign_panic_group(Plan* plan, Draft* draft, uint32_t priority, uint32_t load) noexcept nogil:
    cdef uint32_t group = add_group(plan, load / 100.0, priority, EXCLUDED)
    cdef uint32_t number, kind
    for number in range(draft.place_count):
        if draft.places[number].priority == priority:
            for kind in range(4):
                draft.places[number].group_of[kind] = group


cdef void assign_all(Plan* plan, Draft* draft, const PlanOptions* options) noexcept nogil:
    cdef PriorityState* state = &plan.priorities
    cdef uint32_t priority, healthy, degraded
    cdef uint32_t handed_out = 0
    for priority in range(state.count):
        handed_out += state.healthy_load[priority] + state.degraded_load[priority]
    for priority in range(state.count):
        healthy = state.healthy_load[priority]
        degraded = state.degraded_load[priority]
        if handed_out == 0 and priority == 0:
            # priority_choose: where no load reaches the bucket, it is the healthy endpoints of P0.
            healthy = 100
        if state.panic[priority]:
            if healthy + degraded > 0:
                if options.fail_on_panic:
                    add_refusal(plan, (healthy + degraded) / 100.0, priority, EXCLUDED, -<int32_t>Reason.PANIC)
                else:
                    assign_panic_group(plan, draft, priority, healthy + degraded)
            continue
        if healthy > 0:
            assign_groups(plan, draft, priority, HEALTHY, healthy, options)
        if degraded > 0:
            assign_groups(plan, draft, priority, DEGRADED, degraded, options)


cdef inline uint32_t group_of(const Draft* draft, const Rows* rows, uint32_t row) noexcept nogil:
    if draft.class_of[row] > EXCLUDED:
        return NO_GROUP
    return draft.places[draft.place_of[rows.locality[row]]].group_of[draft.class_of[row]]


cdef inline uint32_t zone_of(const Draft* draft, const Rows* rows, uint32_t row) noexcept nogil:
    if draft.class_of[row] > EXCLUDED:
        return NO_GROUP
    return draft.places[draft.place_of[rows.locality[row]]].zone_of[draft.class_of[row]]


cdef inline void add_member(Plan* plan, const Rows* rows, uint32_t number, uint32_t row) noexcept nogil:
    cdef Group* group = &plan.groups[number]
    if group.count > 0 and rows.pick_weight[row] != rows.pick_weight[plan.members[group.first]]:
        group.equal = False
    plan.members[group.first + group.count] = row
    group.count += 1
    group.weight += rows.pick_weight[row]


cdef void fill_members(Plan* plan, const Draft* draft, const Rows* rows) noexcept nogil:
    cdef uint32_t row, number
    cdef uint32_t first = 0
    for row in range(rows.count):
        number = group_of(draft, rows, row)
        if number != NO_GROUP:
            plan.groups[number].count += 1
    if draft.zoned:
        for row in range(rows.count):
            number = zone_of(draft, rows, row)
            if number != NO_GROUP:
                plan.groups[number].count += 1
    for number in range(plan.group_count):
        plan.groups[number].first = first
        first += plan.groups[number].count
        plan.groups[number].count = 0
    plan.member_count = first
    for row in range(rows.count):
        number = group_of(draft, rows, row)
        if number != NO_GROUP:
            add_member(plan, rows, number, row)
    if draft.zoned:
        for row in range(rows.count):
            number = zone_of(draft, rows, row)
            if number != NO_GROUP:
                add_member(plan, rows, number, row)


cdef void drop_empty_groups(Plan* plan) noexcept nogil:
    # A list can only be empty when it is the only one: P0's healthy endpoints, picked because nothing is available.
    cdef uint32_t number
    cdef uint32_t kept = 0
    for number in range(plan.group_count):
        if plan.groups[number].count > 0 or plan.groups[number].refusal != 0:
            plan.groups[kept] = plan.groups[number]
            kept += 1
    plan.group_count = kept


cdef int plan_build(
    Plan* plan, EndpointRows rows, const uint32_t* first_of, const PlanOptions* options, object local, object own
) except -1:
    """Fill `plan`; whatever happens, plan_free is right afterwards."""
    cdef PriorityCounts counts[128]
    cdef Draft draft
    cdef uint32_t priority, highest
    cdef uint32_t localities = rows.rows.locality_count
    memset(plan, 0, sizeof(Plan))
    memset(&draft, 0, sizeof(Draft))
    memset(counts, 0, sizeof(counts))
    draft.group_limit = localities * 2 + 2 * PRIORITY_LIMIT
    plan.class_of = <uint8_t*>malloc(rows.rows.count + 1)
    draft.class_of = plan.class_of
    draft.place_of = <uint32_t*>malloc((localities + 1) * sizeof(uint32_t))
    draft.places = <Place*>calloc(localities + 1, sizeof(Place))
    draft.effective = <double*>calloc(localities + 1, sizeof(double))
    plan.groups = <Group*>malloc(draft.group_limit * sizeof(Group))
    plan.members = <uint32_t*>malloc((2 * <size_t>rows.rows.count + 1) * sizeof(uint32_t))
    try:
        if (draft.class_of == NULL or draft.place_of == NULL or draft.places == NULL or draft.effective == NULL
                or plan.groups == NULL or plan.members == NULL):
            raise MemoryError
        find_places(&draft, rows)
        with nogil:
            for priority in range(draft.place_count):
                memset(draft.places[priority].group_of, 0xFF, sizeof(draft.places[priority].group_of))
                memset(draft.places[priority].zone_of, 0xFF, sizeof(draft.places[priority].zone_of))
            count_rows(plan, &draft, &rows.rows, first_of, counts)
            highest = 0
            for priority in range(<uint32_t>PRIORITY_LIMIT):
                if counts[priority].hosts > 0:
                    highest = priority
            priority_init(&plan.priorities, options.panic_threshold)
            for priority in range(highest + 1):
                priority_set(
                    &plan.priorities, priority, &counts[priority], options.overprovisioning_factor,
                    options.weighted_priority_health)
                # After each, as in a new balancer that hears of one priority after the other.
                priority_distribute(&plan.priorities)
        if local is not None and options.zone_percent > 0 and not options.locality_weighted:
            find_zones(plan, &draft, rows, options, local, own)
        with nogil:
            assign_all(plan, &draft, options)
            fill_members(plan, &draft, &rows.rows)
            drop_empty_groups(plan)
    finally:
        free(draft.place_of)
        free(draft.places)
        free(draft.effective)
    return 0


cdef void plan_free(Plan* plan) noexcept nogil:
    free(plan.groups)
    free(plan.members)
    free(plan.class_of)
    plan.groups = NULL
    plan.members = NULL
    plan.class_of = NULL


cdef tuple plan_census(const Plan* plan, EndpointRows rows):
    cdef const PriorityCounts* counts = &plan.priorities.counts[0]
    cdef dict found = {}
    cdef uint32_t row
    for row in range(rows.rows.count):
        if plan.class_of[row] == UNKNOWN_STATUS or rows.rows.priority[row] != 0:
            continue
        name = rows.localities[rows.rows.locality[row]]
        hosts, healthy, weight = found.get(name, (0, 0, 0))
        good = plan.class_of[row] == HEALTHY
        found[name] = hosts + 1, healthy + good, weight + (rows.rows.weight[row] if good else 0)
    return counts.hosts, counts.healthy, counts.degraded, counts.excluded, found
