"""No image of this process for anybody: neither a core file, wherever the system sends those, nor for a debugger of the
same user.

A limit of 0 alone is not enough: the kernel does not hold it against a program that core files are piped to.
"""

cdef extern from "<sys/prctl.h>" nogil:
    enum: PR_GET_DUMPABLE
    enum: PR_SET_DUMPABLE
    int prctl(int option, ...)


def forbid():
    """From now on, and for good. What this process starts is not concerned. Raises OSError."""
    if prctl(PR_SET_DUMPABLE, <unsigned long>0, 0, 0, 0) != 0:
        raise OSError("core files cannot be forbidden")


def is_forbidden():
    """Whether there will be no image."""
    return prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0
