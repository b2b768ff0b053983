# Authorization policies, compiled: who may do what, as far as it is known at layer 4.
from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t
from eastgate.fastpath.match.facts cimport Facts

# Three values: and is the least of its parts, or the greatest, not turns around.
cdef enum Truth:
    TRUTH_FALSE = 0
    TRUTH_UNKNOWN = 1
    TRUTH_TRUE = 2

cdef enum:
    NO_POLICY = -1

# Who is at the other end of a TLS connection: all names of its certificate, with a NUL between. NULL: none was shown.
cdef struct Peer:
    const char* name
    uint32_t length
    uint8_t unread              # it was shown, and its names are too long to keep: `name` is not NULL

cdef struct PolicyVerdict:
    uint8_t allowed
    uint8_t unknown             # it was decided by something that nobody here knows
    int32_t policy              # that denied, as its PolicySet numbers them; NO_POLICY: none allowed it
    uint32_t rules              # that denied, as its PolicySet numbers them
    # Rules that deny nobody, and what they would have done.
    uint16_t shadow_allowed
    uint16_t shadow_denied
    uint16_t logged

cdef struct CompiledPolicies    # opaque; shared by a PolicySet and by connections that are not judged yet

cdef void policies_acquire(CompiledPolicies* policies) noexcept nogil
cdef void policies_release(CompiledPolicies* policies) noexcept nogil

# Ask all filters in their order, until one denies. NULL: there are none.
cdef void judge_policies(
    const CompiledPolicies* policies, const Facts* facts, const Peer* peer, PolicyVerdict* verdict
) noexcept nogil

# Name of a policy into `into`, cut at `capacity`; its length.
cdef uint32_t policy_name(
    const CompiledPolicies* policies, int32_t policy, char* into, uint32_t capacity
) noexcept nogil

cdef class PolicySet:
    cdef CompiledPolicies* compiled
    cdef readonly tuple names           # of policies, by number
    cdef readonly tuple unknown         # (name of a policy, what it asks that is not known)
