# Names that a peer's certificate may have.
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint32_t
from eastgate.fastpath.tls.failure cimport TlsFailure
from eastgate.fastpath.tls.openssl cimport X509

cdef enum NameKind:
    NAME_ANY
    NAME_URI
    NAME_DNS

cdef enum NameHow:
    NAME_EXACT
    NAME_PREFIX
    NAME_SUFFIX
    NAME_CONTAINS

cdef struct NameRule:
    uint8_t kind
    uint8_t how
    uint8_t ignore_case
    uint32_t length
    char* value                 # owned

# Do these bytes equal, letters of either case if wanted?
cdef bint same_text(const uint8_t* text, const char* value, size_t length, bint ignore_case) noexcept nogil
# Does a name of the certificate match one of the rules, where there are any? TLS_FINE, or why not.
cdef TlsFailure check_names(const NameRule* rules, uint32_t count, const X509* certificate) noexcept nogil
# All its names that policies know: URIs, DNS names, its subject as RFC 2253 writes it, with a NUL between. The length;
# 0 where they do not fit or one holds a NUL.
cdef size_t all_names(const X509* certificate, char* into, size_t capacity) noexcept nogil
# The certificate's first URI name into `into`; its length, 0 where there is none or it does not fit.
cdef size_t uri_name(const X509* certificate, char* into, size_t capacity) noexcept nogil
