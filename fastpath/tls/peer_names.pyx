"""Which names a peer's certificate may have, and whether it has one of them. Rules of SPIFFE: exactly one URI name
(https://github.com/spiffe/spiffe/blob/main/standards/X509-SVID.md, section 2).
"""
from libc.string cimport memchr, memcmp, memcpy

from eastgate.fastpath.tls.failure cimport TlsFailure
from eastgate.fastpath.tls.openssl cimport (
    ASN1_STRING, ASN1_STRING_get0_data, ASN1_STRING_length, BIO, BIO_METHOD, BIO_free, BIO_new, GENERAL_NAME,
    GENERAL_NAMES, GENERAL_NAMES_free, GENERAL_NAME_get0_value, GEN_DNS, GEN_URI, NID_subject_alt_name, X509,
    X509_get_ext_d2i, sk_GENERAL_NAME_num, sk_GENERAL_NAME_value,
)

cdef extern from "openssl/x509.h" nogil:
    ctypedef struct X509_NAME:
        pass

    const unsigned long XN_FLAG_RFC2253

    X509_NAME* X509_get_subject_name(const X509* certificate)
    int X509_NAME_print_ex(BIO* to, const X509_NAME* name, int indent, unsigned long flags)
    const BIO_METHOD* BIO_s_mem()
    long BIO_get_mem_data(BIO* bio, char** data)


cdef inline uint8_t lower(uint8_t byte) noexcept nogil:
    return byte + 32 if 65 <= byte <= 90 else byte


cdef bint same_text(const uint8_t* text, const char* value, size_t length, bint ignore_case) noexcept nogil:
    cdef size_t place
    if not ignore_case:
        return memcmp(text, value, length) == 0
    for place in range(length):
        if lower(text[place]) != lower(<uint8_t>value[place]):
            return False
    return True


cdef bint rule_matches(const NameRule* rule, NameKind kind, const uint8_t* text, size_t length) noexcept nogil:
    cdef size_t start
    if (rule.kind != NAME_ANY and rule.kind != kind) or length < rule.length:
        return False
    if rule.how == NAME_EXACT:
        return length == rule.length and same_text(text, rule.value, length, rule.ignore_case)
    if rule.how == NAME_PREFIX:
        return same_text(text, rule.value, rule.length, rule.ignore_case)
    if rule.how == NAME_SUFFIX:
        return same_text(text + length - rule.length, rule.value, rule.length, rule.ignore_case)
    for start in range(length - rule.length + 1):
        if same_text(text + start, rule.value, rule.length, rule.ignore_case):
            return True
    return False


cdef inline NameKind kind_of(int general) noexcept nogil:
    if general == GEN_URI:
        return NAME_URI
    return NAME_DNS if general == GEN_DNS else NAME_ANY


cdef TlsFailure check_names(const NameRule* rules, uint32_t count, const X509* certificate) noexcept nogil:
    cdef GENERAL_NAMES* names = <GENERAL_NAMES*>X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL)
    cdef GENERAL_NAME* name
    cdef ASN1_STRING* text
    cdef int kind, place
    cdef uint32_t rule
    cdef int identities = 0
    cdef bint matched = count == 0
    if names == NULL:
        return TlsFailure.TLS_FINE if matched else TlsFailure.TLS_WRONG_NAME
    for place in range(sk_GENERAL_NAME_num(names)):
        name = sk_GENERAL_NAME_value(names, place)
        text = <ASN1_STRING*>GENERAL_NAME_get0_value(name, &kind)
        if kind_of(kind) == NAME_ANY:
            continue
        identities += kind == GEN_URI
        for rule in range(count):
            if rule_matches(
                &rules[rule], kind_of(kind), ASN1_STRING_get0_data(text), <size_t>ASN1_STRING_length(text)
            ):
                matched = True
                break
    GENERAL_NAMES_free(names)
    if identities > 1:
        return TlsFailure.TLS_TWO_IDENTITIES
    return TlsFailure.TLS_FINE if matched else TlsFailure.TLS_WRONG_NAME


cdef struct Names:
    char* text
    size_t length
    size_t capacity
    bint is_whole


cdef void add_name(Names* names, const void* text, size_t length) noexcept nogil:
    """A name, and a NUL behind it."""
    if length >= names.capacity - names.length or memchr(text, 0, length) != NULL:
        names.is_whole = False
        return
    memcpy(names.text + names.length, text, length)
    names.text[names.length + length] = 0
    names.length += length + 1


cdef void add_alternatives(Names* names, const GENERAL_NAMES* alternatives, int wanted) noexcept nogil:
    cdef ASN1_STRING* text
    cdef int kind, place
    for place in range(sk_GENERAL_NAME_num(alternatives)):
        text = <ASN1_STRING*>GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(alternatives, place), &kind)
        if kind == wanted:
            add_name(names, ASN1_STRING_get0_data(text), <size_t>ASN1_STRING_length(text))


cdef void add_subject(Names* names, const X509* certificate) noexcept nogil:
    cdef BIO* bio = BIO_new(BIO_s_mem())
    cdef char* text = NULL
    cdef size_t length
    if bio == NULL or X509_NAME_print_ex(bio, X509_get_subject_name(certificate), 0, XN_FLAG_RFC2253) < 0:
        names.is_whole = False
    else:
        length = <size_t>BIO_get_mem_data(bio, &text)
        add_name(names, text, length)
    BIO_free(bio)


cdef size_t all_names(const X509* certificate, char* into, size_t capacity) noexcept nogil:
    cdef GENERAL_NAMES* alternatives
    cdef Names names
    names.text = into
    names.length = 0
    names.capacity = capacity
    names.is_whole = True
    alternatives = <GENERAL_NAMES*>X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL)
    if alternatives != NULL:
        add_alternatives(&names, alternatives, GEN_URI)
        add_alternatives(&names, alternatives, GEN_DNS)
        GENERAL_NAMES_free(alternatives)
    add_subject(&names, certificate)
    # Without the last NUL: the subject may be empty, and is a name then.
    return names.length - 1 if names.is_whole and names.length else 0


cdef size_t uri_name(const X509* certificate, char* into, size_t capacity) noexcept nogil:
    cdef GENERAL_NAMES* names
    cdef ASN1_STRING* text
    cdef int kind, place
    cdef size_t length = 0
    names = <GENERAL_NAMES*>X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL)
    if names == NULL:
        return 0
    for place in range(sk_GENERAL_NAME_num(names)):
        text = <ASN1_STRING*>GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(names, place), &kind)
        if kind == GEN_URI:
            if <size_t>ASN1_STRING_length(text) <= capacity:
                length = <size_t>ASN1_STRING_length(text)
                memcpy(into, ASN1_STRING_get0_data(text), length)
            break
    GENERAL_NAMES_free(names)
    return length
