"""Answers to a first request of HTTP/1 that cannot be served: Envoy's status, headers and body for it, and an end.

Bodies are those of Envoy's codec, of its router and of its RBAC filter (source/common/router/router.cc,
source/extensions/filters/http/rbac/rbac_filter.cc).
"""
from libc.stdio cimport snprintf
from libc.string cimport strlen
from libc.time cimport time as unix_time
from libc.time cimport time_t, tm

from eastgate.fastpath.reason cimport Reason

cdef extern from "time.h" nogil:
    tm* gmtime_r(const time_t* seconds, tm* broken)

cdef const char** DAYS = [b"Sun", b"Mon", b"Tue", b"Wed", b"Thu", b"Fri", b"Sat"]
cdef const char** MONTHS = [
    b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec",
]
cdef const char* RESET = b"upstream connect error or disconnect/reset before headers. reset reason: "


cdef struct Answer:
    const char* status
    const char* reset           # in front of the body; empty or RESET
    const char* body


cdef bint answer_of(int reason, Answer* answer) noexcept nogil:
    answer.status = b"503 Service Unavailable"
    answer.reset = b""
    answer.body = b""
    if reason == Reason.POLICY:
        answer.status = b"403 Forbidden"
        answer.body = b"RBAC: access denied"
    elif reason == Reason.BAD_REQUEST:
        answer.status = b"400 Bad Request"
        answer.body = b"Bad Request"
    elif reason == Reason.NO_ROUTE:
        answer.status = b"404 Not Found"
    elif reason == Reason.NO_ENDPOINTS or reason == Reason.NONE_HEALTHY or reason == Reason.PANIC:
        answer.body = b"no healthy upstream"
    elif reason == Reason.OVERFLOW:
        answer.reset = RESET
        answer.body = b"overflow"
    elif reason == Reason.CONNECT_TIMEOUT:
        answer.reset = RESET
        answer.body = b"connection timeout"
    elif reason == Reason.CONNECT_FAILED or (
        reason >= Reason.UPSTREAM_TLS_UNKNOWN_CA and reason <= Reason.UPSTREAM_TLS_FAILED
    ):
        answer.reset = RESET
        answer.body = b"remote connection failure"
    else:
        # A cluster that is not known has no body.
        return reason == Reason.UNKNOWN_CLUSTER
    return True


cdef size_t write_answer(int reason, char* into) noexcept nogil:
    cdef Answer answer
    cdef time_t now = unix_time(NULL)
    cdef tm date
    cdef size_t length
    cdef const char* kind = b""
    cdef int written
    if not answer_of(reason, &answer):
        return 0
    gmtime_r(&now, &date)
    length = strlen(answer.reset) + strlen(answer.body)
    if length:
        kind = b"content-type: text/plain\r\n"
    written = snprintf(
        into, ANSWER_CAPACITY,
        b"HTTP/1.1 %s\r\ncontent-length: %zu\r\n%sdate: %s, %02d %s %04d %02d:%02d:%02d GMT\r\nserver: envoy\r\n"
        b"connection: close\r\n\r\n%s%s",
        answer.status, length, kind, DAYS[date.tm_wday], date.tm_mday, MONTHS[date.tm_mon], date.tm_year + 1900,
        date.tm_hour, date.tm_min, date.tm_sec, answer.reset, answer.body,
    )
    return <size_t>written if 0 < written < ANSWER_CAPACITY else 0
