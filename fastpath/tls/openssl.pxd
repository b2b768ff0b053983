# What eastgate calls of OpenSSL 3. Opaque types; macros as functions. Nothing here needs the GIL.
from libc.stddef cimport size_t
from libc.stdint cimport uint64_t
from libc.time cimport tm

cdef extern from "openssl/ssl.h" nogil:
    ctypedef struct SSL:
        pass
    ctypedef struct SSL_CTX:
        pass
    ctypedef struct SSL_METHOD:
        pass
    ctypedef struct SSL_SESSION:
        pass
    ctypedef struct BIO:
        pass
    ctypedef struct BIO_METHOD:
        pass
    ctypedef struct X509:
        pass
    ctypedef struct X509_STORE:
        pass
    ctypedef struct X509_STORE_CTX:
        pass
    ctypedef struct EVP_PKEY:
        pass

    enum:
        SSL_ERROR_WANT_READ
        SSL_ERROR_ZERO_RETURN
        SSL_VERIFY_NONE
        SSL_VERIFY_PEER
        SSL_VERIFY_FAIL_IF_NO_PEER_CERT
        SSL_MODE_RELEASE_BUFFERS
        SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER
        SSL_SESS_CACHE_OFF
        SSL_SENT_SHUTDOWN
        SSL_RECEIVED_SHUTDOWN
        SSL_TLSEXT_ERR_OK
        SSL_TLSEXT_ERR_NOACK
        SSL_CLIENT_HELLO_SUCCESS
        SSL_CLIENT_HELLO_ERROR
        SSL_AD_ILLEGAL_PARAMETER
        SSL_AD_REASON_OFFSET
        SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE
        SSL_R_UNSUPPORTED_PROTOCOL
        SSL_R_VERSION_TOO_LOW
        SSL_R_WRONG_SSL_VERSION
        SSL_R_NO_SHARED_CIPHER
        SSL_R_NO_SHARED_GROUPS
        TLS1_2_VERSION
        TLS1_3_VERSION
        TLSEXT_TYPE_server_name
        TLSEXT_TYPE_application_layer_protocol_negotiation
        SSL_SESS_CACHE_CLIENT
        SSL_SESS_CACHE_SERVER
        SSL_SESS_CACHE_NO_INTERNAL
    uint64_t SSL_OP_NO_RENEGOTIATION
    uint64_t SSL_OP_NO_COMPRESSION
    uint64_t SSL_OP_NO_TICKET
    uint64_t SSL_OP_IGNORE_UNEXPECTED_EOF
    uint64_t SSL_OP_CIPHER_SERVER_PREFERENCE

    const SSL_METHOD* TLS_method()
    SSL_CTX* SSL_CTX_new(const SSL_METHOD* method)
    void SSL_CTX_free(SSL_CTX* context)
    uint64_t SSL_CTX_set_options(SSL_CTX* context, uint64_t options)
    long SSL_CTX_set_mode(SSL_CTX* context, long mode)
    int SSL_CTX_set_min_proto_version(SSL_CTX* context, int version)
    int SSL_CTX_set_max_proto_version(SSL_CTX* context, int version)
    int SSL_CTX_set_cipher_list(SSL_CTX* context, const char* ciphers)
    int SSL_CTX_set1_groups_list(SSL_CTX* context, const char* groups)
    void SSL_CTX_set_read_ahead(SSL_CTX* context, int on)
    void SSL_CTX_set_default_read_buffer_len(SSL_CTX* context, size_t length)
    long SSL_CTX_set_session_cache_mode(SSL_CTX* context, long mode)
    int SSL_CTX_set_num_tickets(SSL_CTX* context, size_t count)
    int SSL_CTX_set_session_id_context(SSL_CTX* context, const unsigned char* name, unsigned int length)
    void SSL_CTX_set_verify(SSL_CTX* context, int mode, void* callback)
    void SSL_CTX_set_cert_verify_callback(
        SSL_CTX* context, int (*callback)(X509_STORE_CTX*, void*) noexcept nogil, void* argument
    )
    void SSL_CTX_set_alpn_select_cb(
        SSL_CTX* context,
        int (*callback)(
            SSL*, const unsigned char**, unsigned char*, const unsigned char*, unsigned int, void*
        ) noexcept nogil,
        void* argument,
    )
    void SSL_CTX_set_client_hello_cb(
        SSL_CTX* context, int (*callback)(SSL*, int*, void*) noexcept nogil, void* argument
    )
    int SSL_CTX_set_alpn_protos(SSL_CTX* context, const unsigned char* protocols, unsigned int length)
    int SSL_CTX_use_certificate(SSL_CTX* context, X509* certificate)
    int SSL_CTX_add1_chain_cert(SSL_CTX* context, X509* certificate)
    int SSL_CTX_use_PrivateKey(SSL_CTX* context, EVP_PKEY* key)
    int SSL_CTX_check_private_key(const SSL_CTX* context)
    X509_STORE* SSL_CTX_get_cert_store(const SSL_CTX* context)
    long SSL_CTX_set_timeout(SSL_CTX* context, long seconds)
    long SSL_CTX_sess_set_cache_size(SSL_CTX* context, long sessions)
    void SSL_CTX_sess_set_new_cb(SSL_CTX* context, int (*callback)(SSL*, SSL_SESSION*) noexcept nogil)
    int SSL_CTX_set_session_ticket_cb(
        SSL_CTX* context,
        int (*make)(SSL*, void*) noexcept nogil,
        void* take,
        void* argument,
    )
    SSL_SESSION* SSL_get_session(const SSL* ssl)
    int SSL_set_session(SSL* ssl, SSL_SESSION* session)
    int SSL_session_reused(const SSL* ssl)
    void SSL_SESSION_free(SSL_SESSION* session)
    int SSL_SESSION_is_resumable(const SSL_SESSION* session)
    long SSL_SESSION_get_timeout(const SSL_SESSION* session)
    long SSL_SESSION_set_timeout(SSL_SESSION* session, long seconds)
    int SSL_SESSION_set1_ticket_appdata(SSL_SESSION* session, const void* data, size_t length)
    int SSL_SESSION_get0_ticket_appdata(SSL_SESSION* session, void** data, size_t* length)

    SSL* SSL_new(SSL_CTX* context)
    void SSL_free(SSL* ssl)
    void SSL_set_accept_state(SSL* ssl)
    void SSL_set_connect_state(SSL* ssl)
    void SSL_set_bio(SSL* ssl, BIO* reading, BIO* writing)
    int SSL_set_tlsext_host_name(SSL* ssl, const char* name)
    int SSL_set_alpn_protos(SSL* ssl, const unsigned char* protocols, unsigned int length)
    int SSL_set_ex_data(SSL* ssl, int index, void* data)
    void* SSL_get_ex_data(const SSL* ssl, int index)
    int SSL_get_ex_data_X509_STORE_CTX_idx()
    int SSL_do_handshake(SSL* ssl)
    int SSL_read_ex(SSL* ssl, void* buffer, size_t length, size_t* got)
    int SSL_write_ex(SSL* ssl, const void* data, size_t length, size_t* written)
    int SSL_shutdown(SSL* ssl)
    void SSL_set_shutdown(SSL* ssl, int mode)
    int SSL_get_error(const SSL* ssl, int result)
    int SSL_is_init_finished(const SSL* ssl)
    int SSL_version(const SSL* ssl)
    void SSL_get0_alpn_selected(const SSL* ssl, const unsigned char** protocol, unsigned int* length)
    int SSL_client_hello_get0_ext(SSL* ssl, unsigned int kind, const unsigned char** out, size_t* length)
    X509* SSL_get0_peer_certificate(const SSL* ssl)

cdef extern from "openssl/bio.h" nogil:
    enum:
        BIO_TYPE_SOURCE_SINK
        BIO_CTRL_EOF
        BIO_CTRL_FLUSH
    int BIO_get_new_index()
    BIO_METHOD* BIO_meth_new(int kind, const char* name)
    int BIO_meth_set_write_ex(BIO_METHOD* method, int (*write)(BIO*, const char*, size_t, size_t*) noexcept nogil)
    int BIO_meth_set_read_ex(BIO_METHOD* method, int (*read)(BIO*, char*, size_t, size_t*) noexcept nogil)
    int BIO_meth_set_ctrl(BIO_METHOD* method, long (*ctrl)(BIO*, int, long, void*) noexcept nogil)
    BIO* BIO_new(const BIO_METHOD* method)
    BIO* BIO_new_mem_buf(const void* data, int length)
    int BIO_free(BIO* bio)
    void BIO_set_init(BIO* bio, int on)
    void BIO_set_data(BIO* bio, void* data)
    void* BIO_get_data(BIO* bio)
    void BIO_set_retry_read(BIO* bio)
    void BIO_clear_retry_flags(BIO* bio)

cdef extern from "openssl/pem.h" nogil:
    X509* PEM_read_bio_X509(BIO* bio, X509** into, void* callback, void* argument)
    EVP_PKEY* PEM_read_bio_PrivateKey(
        BIO* bio, EVP_PKEY** into, int (*password)(char*, int, int, void*) noexcept nogil, void* argument
    )

cdef extern from "openssl/evp.h" nogil:
    void EVP_PKEY_free(EVP_PKEY* key)

cdef extern from "openssl/x509.h" nogil:
    void X509_free(X509* certificate)
    int X509_STORE_add_cert(X509_STORE* store, X509* certificate)
    int X509_STORE_set_flags(X509_STORE* store, unsigned long flags)
    int X509_verify_cert(X509_STORE_CTX* store)
    int X509_STORE_CTX_get_error(const X509_STORE_CTX* store)
    void X509_STORE_CTX_set_error(X509_STORE_CTX* store, int error)
    void* X509_STORE_CTX_get_ex_data(const X509_STORE_CTX* store, int index)
    X509* X509_STORE_CTX_get0_cert(const X509_STORE_CTX* store)
    ctypedef struct X509_CHAIN "STACK_OF(X509)":
        pass
    ctypedef struct ASN1_TIME:
        pass
    X509_CHAIN* X509_STORE_CTX_get0_chain(const X509_STORE_CTX* store)
    int sk_X509_num(const X509_CHAIN* chain)
    X509* sk_X509_value(const X509_CHAIN* chain, int place)
    const ASN1_TIME* X509_get0_notAfter(const X509* certificate)
    int ASN1_TIME_to_tm(const ASN1_TIME* time, tm* into)
    void* X509_get_ext_d2i(const X509* certificate, int kind, int* critical, int* index)

cdef extern from "openssl/x509_vfy.h" nogil:
    enum:
        X509_V_FLAG_PARTIAL_CHAIN
        X509_V_ERR_CERT_HAS_EXPIRED
        X509_V_ERR_CERT_NOT_YET_VALID
        X509_V_ERR_APPLICATION_VERIFICATION
        X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT
        X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY
        X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT
        X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN
        X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE

cdef extern from "openssl/x509v3.h" nogil:
    ctypedef struct ASN1_STRING:
        pass
    ctypedef struct GENERAL_NAME:
        int type
    ctypedef struct GENERAL_NAMES:
        pass
    enum:
        NID_subject_alt_name
        GEN_DNS
        GEN_URI
    int sk_GENERAL_NAME_num(const GENERAL_NAMES* names)
    GENERAL_NAME* sk_GENERAL_NAME_value(const GENERAL_NAMES* names, int index)
    void GENERAL_NAMES_free(GENERAL_NAMES* names)
    void* GENERAL_NAME_get0_value(const GENERAL_NAME* name, int* kind)
    const unsigned char* ASN1_STRING_get0_data(const ASN1_STRING* text)
    int ASN1_STRING_length(const ASN1_STRING* text)

cdef extern from "openssl/err.h" nogil:
    void ERR_clear_error()
    unsigned long ERR_peek_error()
    unsigned long ERR_peek_last_error()
    int ERR_GET_REASON(unsigned long code)
    int ERR_GET_LIB(unsigned long code)
    const char* ERR_reason_error_string(unsigned long code)
    enum:
        ERR_LIB_SSL
        ERR_R_MALLOC_FAILURE

cdef extern from "openssl/pemerr.h" nogil:
    enum:
        PEM_R_NO_START_LINE
