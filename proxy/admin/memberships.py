"""How often endpoints of a cluster came or went: Envoy's membership_change. Told of each table, counts only that."""

from eastgate.proxy.compile.compiled import CompiledCluster
from eastgate.xds.columns import Columns, Place


def moved(before: Columns | None, columns: Columns) -> bool:
    """Whether endpoints came or went. A push that moves weights alone ends at the first question; the same endpoints in
    another order are no change either."""
    places: set[Place] = set()
    if before is not None:
        if before.has_places_of(columns):
            return False
        places.update(before.all_places())
    return places != set(columns.all_places())


class Memberships:
    """Counts changes by cluster. An observer of the compiler."""

    def __init__(self) -> None:
        self._columns: dict[str, Columns] = {}
        self._changes: dict[str, int] = {}

    def published(self, name: str, compiled: CompiledCluster | None) -> None:
        """A cluster has a new table; None: it is gone."""
        if compiled is None:
            self._columns.pop(name, None)
            self._changes.pop(name, None)
            return
        if compiled.assignment is None:
            return
        before, columns = self._columns.get(name), compiled.assignment.columns
        self._columns[name] = columns
        if moved(before, columns):
            self._changes[name] = self._changes.get(name, 0) + 1

    def changes(self, name: str) -> int:
        return self._changes.get(name, 0)
