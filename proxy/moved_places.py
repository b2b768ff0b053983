"""Which clusters are no longer reached at an address, and are at another one: connections that go there may stay."""

from collections import Counter
from collections.abc import Mapping, Set

from eastgate.proxy.compile.places import Place

# The newest ones. A mesh that allocates addresses moves few at a time.
KEPT = 1024


class MovedPlaces:
    """What moved, for as long as the cluster is reached at the same port. Told of each listener that changed."""

    def __init__(self) -> None:
        self._places: dict[str, frozenset[Place]] = {}
        self._reached: Counter[tuple[int, int]] = Counter()
        self._moved: dict[Place, None] = {}

    @property
    def moved(self) -> tuple[Place, ...]:
        return tuple(self._moved)

    def note(self, changed: Mapping[str, frozenset[Place]]) -> None:
        """Places of listeners that changed in one push; empty for one that left.

        A cluster has moved where it lost one place and gained another one of the same port.
        """
        before: set[Place] = set()
        after: set[Place] = set()
        for name, places in changed.items():
            was = self._places.pop(name, frozenset())
            if places:
                self._places[name] = places
            before |= was
            after |= places
            self._count(was, -1)
            self._count(places, 1)
        lost, gained = before - after, after - before
        arrived = {(slot, port) for slot, _, port in gained}
        for place in lost:
            if (place[0], place[2]) in arrived:
                self._moved[place] = None
        for place in [one for one in self._moved if one in gained or self._reached[one[0], one[2]] <= 0]:
            del self._moved[place]
        while len(self._moved) > KEPT:
            del self._moved[next(iter(self._moved))]

    def _count(self, places: Set[Place], by: int) -> None:
        for slot, _, port in places:
            self._reached[slot, port] += by
            if not self._reached[slot, port]:
                del self._reached[slot, port]
