# Filling the record of a connection, for the access log and for refusals.
from eastgate.fastpath.loop.connection cimport Connection, ConnectionRecord
from eastgate.fastpath.loop.worker_state cimport Worker
from eastgate.fastpath.match.client_hello cimport ClientHello
from eastgate.fastpath.match.policy cimport CompiledPolicies, PolicyVerdict

# A record with what is known at the beginning; NULL without memory, which counts as dropped.
cdef ConnectionRecord* begin_record(Worker* worker, Connection* connection) noexcept nogil
# Put what the client asked for into it, out of what was sniffed and is still held.
cdef void note_sniffed(ConnectionRecord* record, Connection* connection) noexcept nogil
cdef void note_hello(ConnectionRecord* record, const ClientHello* hello) noexcept nogil
# Which policy denied it.
cdef void note_policy(
    ConnectionRecord* record, const CompiledPolicies* policies, const PolicyVerdict* verdict
) noexcept nogil
# What became of it. The record may be NULL; it belongs to the worker's ring afterwards.
cdef void finish_record(Worker* worker, Connection* connection, ConnectionRecord* record, int reason) noexcept nogil
