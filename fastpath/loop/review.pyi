from typing import NamedTuple, final

class ReviewSettings(NamedTuple):
    """How open connections of what changed are looked at.

    `drain_ms`: how long one goes on that does not fit any more. `cuts_changed`: all of a changed chain end, needed or
    not. `moved`: (slot, host as 4 or 16 bytes, port) of each address at which a cluster is no longer reached although
    it is at another one; connections that were going there stay with it.
    """

    drain_ms: int
    cuts_changed: bool = False
    moved: tuple[tuple[int, bytes, int], ...] = ()

@final
class Moves:
    """Clusters that are reached at another address than before. Made by an Engine."""
