"""One line on stderr when a fatal signal ends the process: what it was, and which build. Then the signal does its work.

Only what a signal handler may call is called: write, time, signal, raise. The line is made before, but for two numbers.
"""
from libc.signal cimport SIGABRT, SIGFPE, SIGILL, SIGSEGV, SIG_DFL, raise_, signal
from libc.string cimport memcpy, strlen
from libc.time cimport time

cdef extern from "<signal.h>" nogil:
    enum: SIGBUS
    enum: SIGSYS

cdef extern from "<unistd.h>" nogil:
    ssize_t write(int fd, const void* data, size_t size)

cdef enum:
    WORDS_MOST = 512
    LINE_MOST = 640
    STDERR = 2

cdef char words[WORDS_MOST]


cdef const char* name_of(int number) noexcept nogil:
    if number == SIGSEGV:
        return b"SIGSEGV"
    if number == SIGBUS:
        return b"SIGBUS"
    if number == SIGABRT:
        return b"SIGABRT"
    if number == SIGILL:
        return b"SIGILL"
    if number == SIGFPE:
        return b"SIGFPE"
    return b"SIGSYS"


cdef size_t put(char* line, size_t at, const char* text) noexcept nogil:
    cdef size_t size = strlen(text)
    if at + size > LINE_MOST:
        size = LINE_MOST - at
    memcpy(line + at, text, size)
    return at + size


cdef size_t put_number(char* line, size_t at, unsigned long long value) noexcept nogil:
    cdef char digits[24]
    cdef int place = 23
    digits[place] = 0
    while True:
        place -= 1
        digits[place] = <char>(48 + value % 10)
        value //= 10
        if value == 0:
            break
    return put(line, at, &digits[place])


cdef void speak(int number) noexcept nogil:
    cdef char line[LINE_MOST + 1]
    cdef size_t at = put(line, 0, b"critical fatal signal, ending signal=")
    at = put(line, at, name_of(number))
    at = put(line, at, b" at=")
    at = put_number(line, at, <unsigned long long>time(NULL))
    at = put(line, at, words)
    line[at] = 10
    write(STDERR, line, at + 1)
    # By the signal itself: whoever started the process sees what ended it, and there is a core where one is wanted.
    signal(number, SIG_DFL)
    raise_(number)


def arm(text):
    """Have `text` said, behind the signal and the time in seconds since 1970, when a fatal signal comes.

    Raises ValueError for a text that is too long, or no line.
    """
    cdef int number
    encoded = (" " + text if text else "").encode()
    if len(encoded) >= WORDS_MOST or not text.isprintable():
        raise ValueError(f"{text[:40]!r} is no line of less than {WORDS_MOST} bytes")
    memcpy(words, <const char*>encoded, len(encoded) + 1)
    for number in (SIGSEGV, SIGBUS, SIGABRT, SIGILL, SIGFPE, SIGSYS):
        signal(number, speak)
