"""Health classes, availability, priority loads, panic and locality weights, as Envoy computes them. Picks nothing.

Rule, in integers that truncate (opf = overprovisioning factor, 140 unless the assignment says otherwise):
    availability  H = min(100, opf * healthy / (hosts - excluded)), D the same with degraded; 0 when nobody counts
    norm          = min(100, sum of all H and D)
    loads         100 is handed out over H ascending, then over D: min(remaining, H * 100 / norm); what truncation
                  leaves goes to the first priority that has an H, else to the first that has a D
    low           100.0 * (healthy + degraded) / (hosts - excluded) < threshold, in doubles, without opf
    panic         low, unless norm is 100; when every priority panics the loads are shares of the endpoint counts

Worked example: P0 has 4 endpoints, 2 healthy: H = 140 * 2 / 4 = 70; P1 4 of 4: H = 100 (140 capped). norm = 100, so
loads are 70 and 30. Now P1 falls to 1 of 4: H = 35, norm = 100 still (70 + 35, capped): loads 70 and 30, no panic.
P0 falls to 1 of 4 too: 35 and 35, norm = 70: loads 50 and 50, and both panic since 25 % < 50 %.

Locality weights (doubles): weight * min(1.0, opf / 100 * eligible / (total - excluded)).
Example: weight 1, 2 of 5 healthy: 1.4 * 0.4 = 0.56.

Where it differs from Envoy: nowhere in the stateful form (PriorityLoads). Envoy keeps the loads of before when norm
is 0, and so does priority_distribute. ClusterTable is the same arithmetic on a state that starts anew at each compile
and hears of the priorities in ascending order: Envoy's answer for a new balancer, and the picks of an old one in all
but one case. With norm 0 either every priority panics, and the loads are overwritten; or the threshold is 0, and P0's
load of 100 hides what is stale. The case left is a small overprovisioning factor that truncates every availability to
0 while enough endpoints are healthy to avoid panic (factor 1, 9 of 10 healthy): Envoy then uses the loads of some
earlier time, and we those that it would have after a restart.
"""
cimport cython
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memset

# EDS HealthStatus: UNKNOWN, HEALTHY, UNHEALTHY, DRAINING, TIMEOUT, DEGRADED.
cdef tuple CLASS_NAMES = ("healthy", "degraded", "unhealthy", "unhealthy")


cdef HealthClass health_class(uint8_t eds_status, bint failed) noexcept nogil:
    if eds_status > 5:
        return UNKNOWN_STATUS
    if eds_status == 3:
        return EXCLUDED
    if failed or eds_status == 2 or eds_status == 4:
        return UNHEALTHY
    return DEGRADED if eds_status == 5 else HEALTHY


cdef void priority_init(PriorityState* state, uint32_t panic_threshold) noexcept nogil:
    memset(state, 0, sizeof(PriorityState))
    state.panic_threshold = panic_threshold if panic_threshold < 100 else 100


cdef inline uint32_t percent(uint32_t factor, uint64_t part, uint64_t total) noexcept nogil:
    # Sums of weights stay below 2^39 (128 * 2^32), and the factor below 2^32: the product may pass 2^64.
    cdef double estimate
    cdef uint64_t value
    if total == 0:
        return 0
    estimate = <double>factor * <double>part
    if estimate >= 9.0e18:
        return 100 if estimate / <double>total >= 100.0 else <uint32_t>(estimate / <double>total)
    value = factor * part / total
    return 100 if value > 100 else <uint32_t>value


cdef void priority_set(
    PriorityState* state, uint32_t priority, const PriorityCounts* counts, uint32_t overprovisioning_factor,
    bint weighted
) noexcept nogil:
    cdef uint32_t available = counts.hosts - counts.excluded
    if priority >= state.count:
        state.count = priority + 1
    state.counts[priority] = counts[0]
    state.healthy_availability[priority] = 0
    state.degraded_availability[priority] = 0
    if available == 0:
        return
    if weighted:
        state.healthy_availability[priority] = percent(
            overprovisioning_factor, counts.healthy_weight, counts.weight - counts.excluded_weight)
        state.degraded_availability[priority] = percent(
            overprovisioning_factor, counts.degraded_weight, counts.weight - counts.excluded_weight)
    else:
        state.healthy_availability[priority] = percent(overprovisioning_factor, counts.healthy, available)
        state.degraded_availability[priority] = percent(overprovisioning_factor, counts.degraded, available)


cdef void distribute_loads(PriorityState* state) noexcept nogil:
    cdef uint32_t total = 0
    cdef uint32_t remaining = 100
    cdef uint32_t priority, load
    for priority in range(state.count):
        total += state.healthy_availability[priority] + state.degraded_availability[priority]
    state.norm = total if total < 100 else 100
    if state.norm == 0:
        return
    for priority in range(state.count):
        load = state.healthy_availability[priority] * 100 / state.norm
        state.healthy_load[priority] = load if load < remaining else remaining
        remaining -= state.healthy_load[priority]
    for priority in range(state.count):
        load = state.degraded_availability[priority] * 100 / state.norm
        state.degraded_load[priority] = load if load < remaining else remaining
        remaining -= state.degraded_load[priority]
    if remaining == 0:
        return
    for priority in range(state.count):
        if state.healthy_availability[priority] > 0:
            state.healthy_load[priority] += remaining
            return
    for priority in range(state.count):
        if state.degraded_availability[priority] > 0:
            state.degraded_load[priority] += remaining
            return


cdef bint priority_is_low(uint32_t threshold, const PriorityCounts* counts) noexcept nogil:
    cdef uint32_t available = counts.hosts - counts.excluded
    cdef double healthy = 0.0
    cdef double degraded = 0.0
    if available > 0:
        healthy = 100.0 * counts.healthy / available
        degraded = 100.0 * counts.degraded / available
    return healthy + degraded < threshold


cdef void distribute_panic(PriorityState* state) noexcept nogil:
    cdef uint64_t hosts = 0
    cdef uint32_t handed_out = 0
    cdef uint32_t priority
    cdef bint total_panic = True
    if state.panic_threshold == 0 and state.norm == 0:
        state.healthy_load[0] = 100
        return
    for priority in range(state.count):
        state.panic[priority] = state.norm < 100 and priority_is_low(
            state.panic_threshold, &state.counts[priority])
        total_panic = total_panic and state.panic[priority]
        hosts += state.counts[priority].hosts
    if not total_panic:
        return
    if hosts == 0:
        state.healthy_load[0] = 100
        return
    for priority in range(state.count):
        state.healthy_load[priority] = <uint32_t>(100 * <uint64_t>state.counts[priority].hosts / hosts)
        state.degraded_load[priority] = 0
        handed_out += state.healthy_load[priority]
    for priority in range(state.count):
        if state.counts[priority].hosts > 0:
            state.healthy_load[priority] += 100 - handed_out
            return


cdef void priority_distribute(PriorityState* state) noexcept nogil:
    distribute_loads(state)
    distribute_panic(state)


cdef uint32_t priority_choose(const PriorityState* state, uint64_t hash, bint* degraded) noexcept nogil:
    cdef uint32_t bucket = <uint32_t>(hash % 100) + 1
    cdef uint32_t sum = 0
    cdef uint32_t priority
    degraded[0] = False
    for priority in range(state.count):
        sum += state.healthy_load[priority]
        if bucket <= sum:
            return priority
    for priority in range(state.count):
        sum += state.degraded_load[priority]
        if bucket <= sum:
            degraded[0] = True
            return priority
    return 0


cdef double locality_weight(
    uint32_t weight, uint32_t eligible, uint32_t total, uint32_t excluded, uint32_t overprovisioning_factor
) noexcept nogil:
    cdef uint32_t available = total - excluded
    cdef double ratio
    if available == 0:
        return 0.0
    ratio = 1.0 * eligible / available
    ratio = (overprovisioning_factor / 100.0) * ratio
    return weight * (ratio if ratio < 1.0 else 1.0)


def classify_health(eds_status, *, failed=False):
    """Return ("healthy" | "degraded" | "unhealthy", excluded). ValueError for a status that EDS does not define."""
    cdef HealthClass found = UNKNOWN_STATUS
    if 0 <= eds_status <= 255:
        found = health_class(<uint8_t>eds_status, failed)
    if found == UNKNOWN_STATUS:
        raise ValueError(f"health {eds_status} is no EDS HealthStatus (0..5)")
    return CLASS_NAMES[found], found == EXCLUDED


def choose_priority(hash_value, healthy_load, degraded_load):
    """Return (priority, degraded) for a 64-bit hash or random value."""
    cdef PriorityState state
    cdef bint degraded = False
    cdef uint32_t priority
    if not 0 < len(healthy_load) == len(degraded_load) <= PRIORITY_LIMIT:
        raise ValueError(f"{len(healthy_load)} healthy and {len(degraded_load)} degraded loads; need 1..128 of each")
    priority_init(&state, 50)
    state.count = len(healthy_load)
    for priority in range(state.count):
        state.healthy_load[priority] = healthy_load[priority]
        state.degraded_load[priority] = degraded_load[priority]
    priority = priority_choose(&state, hash_value, &degraded)
    return priority, degraded


def effective_locality_weight(weight, *, eligible, total, excluded=0, overprovisioning_factor=140):
    """Return the weight of a locality after losing endpoints; 0.0 when none is eligible."""
    if not (0 <= excluded <= total and 0 <= eligible <= total):
        raise ValueError(f"eligible {eligible} and excluded {excluded} of {total} endpoints")
    return locality_weight(weight, eligible, total, excluded, overprovisioning_factor)


@cython.final
cdef class PriorityLoads:
    """Loads and panic of one load balancer, updated priority by priority as Envoy does. Not thread safe."""
    cdef PriorityState state

    def __init__(self, *, panic_threshold=50):
        if panic_threshold < 0:
            raise ValueError(f"panic_threshold {panic_threshold} is negative")
        priority_init(&self.state, min(panic_threshold, 100))

    def __reduce__(self):
        raise TypeError("PriorityLoads cannot be pickled")

    @property
    def panic_threshold(self):
        return self.state.panic_threshold

    @panic_threshold.setter
    def panic_threshold(self, value):
        if value < 0:
            raise ValueError(f"panic_threshold {value} is negative")
        self.state.panic_threshold = min(value, 100)

    def update(
        self, priority, *, hosts, healthy, degraded=0, excluded=0, overprovisioning_factor=140, weights=None
    ):
        """Replace one priority and recompute all loads.

        `weights`: sums of endpoint weights (all, healthy, degraded, excluded), given when weighted_priority_health
        is on. ValueError for counts that cannot be.
        """
        cdef PriorityCounts counts
        if not 0 <= priority < PRIORITY_LIMIT:
            raise ValueError(f"priority {priority} is outside 0..127")
        if overprovisioning_factor <= 0:
            raise ValueError(f"overprovisioning_factor {overprovisioning_factor} is not positive")
        if min(healthy, degraded, excluded) < 0 or healthy + degraded > hosts or excluded > hosts:
            raise ValueError(f"{healthy} healthy, {degraded} degraded, {excluded} excluded of {hosts} endpoints")
        memset(&counts, 0, sizeof(counts))
        counts.hosts = hosts
        counts.healthy = healthy
        counts.degraded = degraded
        counts.excluded = excluded
        if weights is not None:
            counts.weight, counts.healthy_weight, counts.degraded_weight, counts.excluded_weight = weights
            if counts.excluded_weight > counts.weight:
                raise ValueError(f"excluded weight {counts.excluded_weight} of {counts.weight}")
        priority_set(&self.state, priority, &counts, overprovisioning_factor, weights is not None)
        priority_distribute(&self.state)

    @property
    def healthy_load(self):
        return tuple([self.state.healthy_load[priority] for priority in range(self.state.count)])

    @property
    def degraded_load(self):
        return tuple([self.state.degraded_load[priority] for priority in range(self.state.count)])

    @property
    def availability(self):
        """(healthy, degraded) percent of each priority, before normalising."""
        return tuple([
            (self.state.healthy_availability[priority], self.state.degraded_availability[priority])
            for priority in range(self.state.count)
        ])

    @property
    def panic(self):
        return tuple([bool(self.state.panic[priority]) for priority in range(self.state.count)])

    def is_low(self, priority):
        """Whether the priority by itself is below the panic threshold, the others left aside."""
        if not 0 <= priority < self.state.count:
            raise ValueError(f"priority {priority} is outside 0..{<int>self.state.count - 1}")
        return priority_is_low(self.state.panic_threshold, &self.state.counts[<uint32_t>priority])
