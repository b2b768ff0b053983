"""The one exception of the control side."""

from collections.abc import Callable
from pathlib import PurePath

from .fields import printable

fault_observers: list[Callable[[str, Exception, bool], object]] = []
"""Told of each fault of ours: its part (decode, stream, publish), the exception, whether its text may be shown."""


class XdsError(Exception):
    """Something from outside cannot be accepted: what kind of thing, its name, and why, in words for an operator.

    ``kind`` is CDS, EDS, LDS, RDS or SDS for a resource, otherwise what was read (``DiscoveryResponse``, ``node``).
    ``resource`` is its name, empty where it has none or the name could not be read. ``malformed``: the bytes are
    damaged, so that the name may be too.
    """

    def __init__(self, kind: str, resource: str, reason: str, *, malformed: bool = False) -> None:
        super().__init__(kind, resource, reason)
        self.kind = kind
        self.resource = resource
        # It may quote what was sent: no line of a log ends in it.
        self.reason = printable(reason)
        self.malformed = malformed

    def __str__(self) -> str:
        named = f"{self.kind} {printable(self.resource)}" if self.resource else self.kind
        return f"{named} rejected: {self.reason}"


def own_fault(error: Exception, *, part: str = "decode", shown: bool = True) -> str:
    """One line about an exception that nothing from outside should have been able to raise: what, and where; with its
    text if that is to be `shown`. Whoever observes faults is told.
    """
    for observer in fault_observers:
        observer(part, error, shown)
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    where = f" at {PurePath(last.tb_frame.f_code.co_filename).name}:{last.tb_lineno}" if last is not None else ""
    text = " ".join(str(error).split()) if shown else ""
    return f"internal error, please report it: {type(error).__name__}{where}{': ' if text else ''}{text[:200]}"
