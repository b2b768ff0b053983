"""Settings of a cluster's table, checked: what passes here fits every C field behind it. Builds nothing."""
from libc.stdint cimport uint32_t

from eastgate.fastpath.tables.hashed_table cimport HashOptions
from eastgate.fastpath.tables.maglev_table cimport is_prime
from eastgate.fastpath.tables.share_plan cimport PlanOptions
from eastgate.fastpath.tables.table_build cimport ChoiceOptions

cdef enum:
    RING_LIMIT = 8388608        # as in Envoy
    MAGLEV_LIMIT = 5000011

cdef tuple POLICIES = ("ROUND_ROBIN", "LEAST_REQUEST", "RANDOM", "RING_HASH", "MAGLEV")
cdef tuple HASHING = ("RING_HASH", "MAGLEV")
cdef tuple WEIGHING = ("ROUND_ROBIN", "LEAST_REQUEST")


cdef int check_policy(object policy) except -1:
    if policy not in POLICIES:
        raise ValueError(f"policy {policy!r} is none of {', '.join(POLICIES)}")
    return 0


cdef bint policy_hashes(object policy) except -1:
    return policy in HASHING


cdef bint policy_weighs(object policy) except -1:
    return policy in WEIGHING


cdef object checked_uint32(object value, str field, uint32_t least):
    if type(value) is not int or not least <= value <= 0xFFFFFFFF:
        raise ValueError(f"{field} {value!r} is outside {least}..4294967295")
    return value


cdef int check_zones(PlanOptions* options, object zone_aware) except -1:
    """Settings of zone-aware routing; those of Envoy for None."""
    options.zone_percent = 100
    options.zone_minimum = 6
    options.zone_force = 0
    options.zone_by_weight = False
    if zone_aware is None:
        return 0
    options.zone_percent = checked_uint32(zone_aware.routing_enabled, "routing_enabled", 0)
    if zone_aware.routing_enabled > 100:
        raise ValueError(f"routing_enabled {zone_aware.routing_enabled} is above 100")
    options.zone_minimum = zone_aware.min_cluster_size
    options.zone_force = checked_uint32(zone_aware.force_min_size, "force_local_zone.min_size", 0)
    options.zone_by_weight = zone_aware.by_weight
    return 0


cdef ChoiceOptions checked_choice(object choice_count, object bias, bint full_scan, bint by_weight) except *:
    cdef ChoiceOptions choice
    choice.count = checked_uint32(choice_count, "choice_count", 2)
    if not bias >= 0:
        raise ValueError(f"active_request_bias {bias!r} is negative")
    choice.count = 0 if full_scan else choice.count
    choice.bias = bias
    choice.by_weight = by_weight
    return choice


cdef HashOptions checked_hashing(str policy, object hashing) except *:
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
