"""Which OpenSSL the native modules call, and the file that it was loaded from."""
import os

from eastgate.fastpath.tls.openssl cimport SSL_version

cdef extern from "openssl/crypto.h" nogil:
    enum: OPENSSL_VERSION
    const char* OpenSSL_version(int kind)

cdef extern from "<dlfcn.h>" nogil:
    ctypedef struct Dl_info:
        const char* dli_fname
    int dladdr(const void* address, Dl_info* found)


def openssl():
    """Return its version as it says it, and the path of its library; empty where the loader does not know."""
    cdef Dl_info found
    path = ""
    # The address of any function of it; ours are linked with libssl alone, never with a copy.
    if dladdr(<const void*>SSL_version, &found) != 0 and found.dli_fname != NULL:
        # A wheel's own is loaded by a path through its parents.
        path = os.path.realpath(found.dli_fname).decode(errors="replace")
    return OpenSSL_version(OPENSSL_VERSION).decode(errors="replace"), path
