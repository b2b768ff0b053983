# All raise ValueError naming the field.
from libc.stdint cimport uint32_t
from eastgate.fastpath.tables.hashed_table cimport HashOptions
from eastgate.fastpath.tables.share_plan cimport PlanOptions
from eastgate.fastpath.tables.table_build cimport ChoiceOptions

cdef int check_policy(object policy) except -1
# Whether it finds endpoints by a hash; whether it looks at weights that change while an endpoint starts.
cdef bint policy_hashes(object policy) except -1
cdef bint policy_weighs(object policy) except -1
cdef object checked_uint32(object value, str field, uint32_t least)
# What of `options` says how zones are looked at. `zone_aware`: None for Envoy's defaults.
cdef int check_zones(PlanOptions* options, object zone_aware) except -1
cdef ChoiceOptions checked_choice(object choice_count, object bias, bint full_scan, bint by_weight) except *
# `hashing`: None for Envoy's defaults.
cdef HashOptions checked_hashing(str policy, object hashing) except *
