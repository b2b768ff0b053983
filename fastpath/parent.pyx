"""End with the process that started this one, however that ended: Linux tells by a signal, and nothing else has to run.

The signal also comes when only the thread ended that started us, so the handler looks who the parent is. It does what
a signal handler may do.
"""
from libc.string cimport memset
from posix.types cimport pid_t

cdef extern from "<signal.h>" nogil:
    ctypedef struct sigset_t:
        pass
    struct sigaction_t "sigaction":
        void (*sa_handler)(int) noexcept nogil
        sigset_t sa_mask
        int sa_flags
    enum: SA_RESTART
    int SIGRTMIN
    int sigaction(int number, const sigaction_t* action, sigaction_t* before)
    int sigemptyset(sigset_t* mask)

cdef extern from "<sys/prctl.h>" nogil:
    enum: PR_SET_PDEATHSIG
    int prctl(int option, ...)

cdef extern from "<unistd.h>" nogil:
    pid_t getppid()
    void _exit(int status)

cdef pid_t parent = 0


cdef void orphaned(int number) noexcept nogil:
    if getppid() != parent:
        _exit(0)


def end_with(int process):
    """From now on this process ends when its parent, `process`, does; return False when that has happened already.

    Ask for the parent before anything else is done, or a parent that ended meanwhile is not noticed. Raises OSError.
    """
    global parent
    cdef int number = SIGRTMIN + 1
    cdef sigaction_t action
    parent = process
    memset(&action, 0, sizeof(action))
    action.sa_handler = orphaned
    action.sa_flags = SA_RESTART
    sigemptyset(&action.sa_mask)
    if sigaction(number, &action, NULL) != 0 or prctl(PR_SET_PDEATHSIG, <unsigned long>number, 0, 0, 0) != 0:
        raise OSError("the end of the parent process cannot be asked for")
    # It may have ended before it was asked for.
    return getppid() == parent
