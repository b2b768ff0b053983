from typing import NamedTuple

class StuckWorker(NamedTuple):
    """A worker whose turn does not end; `thread_id` as in /proc/PID/task."""

    worker: int
    thread_id: int
    seconds: float

class Inspected(NamedTuple):
    """What looking for ClientHellos found, in the words of Envoy's tls_inspector."""

    tls_found: int
    tls_not_found: int
    sni_found: int
    alpn_found: int
    client_hello_too_large: int

class BusyPolls(NamedTuple):
    """Times that asking for events before going to sleep found some, found none, or was crowded out of the CPU."""

    found: int
    missed: int
    crowded: int
