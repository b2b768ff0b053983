"""Who holds which slots by name: clusters, the chains that lead to them, and views of clusters."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from eastgate.fastpath.loop.cluster_slots import ClusterSlots
from eastgate.xds.resources import Criteria

from .listener_plan import view_name

# Taking or giving back a slot, and looking at a cluster that did not change, take 0.5 to 2 us.
LOOKS_PER_SLICE = 256
NO_VIEWS: Mapping[Criteria, int] = MappingProxyType({})


class SlotBook:
    """Slots taken and given back by name; each `take` is paired with one name given to `release`."""

    def __init__(self, slots: ClusterSlots) -> None:
        self._slots = slots
        # Slots of the subsets that routes ask for, by cluster; and of each such slot's name, what it is of.
        self._views: dict[str, dict[Criteria, int]] = {}
        self._view_of: dict[str, tuple[str, Criteria]] = {}

    def take(self, name: str) -> int:
        """The slot of a cluster. Raises ValueError when there is none left."""
        return self._slots.acquire(name)

    def take_view(self, cluster: str, criteria: Criteria, slot: int) -> int:
        """The slot of a view of the cluster that has `slot`; its name is view_name(cluster, criteria)."""
        name = view_name(cluster, criteria)
        view = self._slots.acquire(name, view_of=slot)
        self._views.setdefault(cluster, {})[criteria] = view
        self._view_of[name] = cluster, criteria
        return view

    def views(self, cluster: str) -> Mapping[Criteria, int]:
        """Slots of the views of a cluster that routes ask for."""
        return self._views.get(cluster, NO_VIEWS)

    def release(self, names: Iterable[str]) -> None:
        """Give back one take of each name."""
        for name in names:
            # The slot is found by its name: the holder of the route knows no other.
            slot = self._slots.acquire(name)
            self._slots.release(slot)
            self._slots.release(slot)
            if name in self._view_of and name not in self._slots:
                cluster, criteria = self._view_of.pop(name)
                del self._views[cluster][criteria]
                if not self._views[cluster]:
                    del self._views[cluster]
