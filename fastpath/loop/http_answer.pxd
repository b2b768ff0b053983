# What Envoy answers a first request of HTTP/1 with when it cannot be served.
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t

cdef enum:
    ANSWER_CAPACITY = 512

# The answer for a Reason into `into`, of ANSWER_CAPACITY; its length, 0 where Envoy says nothing but closes.
cdef size_t write_answer(int reason, char* into) noexcept nogil
