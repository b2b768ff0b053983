"""How often endpoints of a cluster came or went: Envoy's membership_change. Told of each table, counts only that."""

from eastgate.proxy.compile.compiled import CompiledCluster
from eastgate.xds.resources import Columns

Places = tuple[bytes, bytes, bytes, tuple[bytes, ...]]


def places_of(columns: Columns) -> Places:
    """Where the endpoints are, in order. Weights, health and localities are no part of it."""
    return bytes(columns.family), bytes(columns.address), bytes(columns.port), tuple(columns.names)


def as_set(places: Places) -> set[tuple[object, ...]]:
    """The same without their order."""
    family, address, port, names = places
    return {
        (names[int.from_bytes(address[16 * row : 16 * row + 4], "little")],)
        if kind == 1
        else (kind, address[16 * row : 16 * row + 16], port[2 * row : 2 * row + 2])
        for row, kind in enumerate(family)
    }


class Memberships:
    """Counts changes by cluster. An observer of the compiler."""

    def __init__(self) -> None:
        self._places: dict[str, Places] = {}
        self._changes: dict[str, int] = {}

    def published(self, name: str, compiled: CompiledCluster | None) -> None:
        """A cluster has a new table; None: it is gone."""
        if compiled is None:
            self._places.pop(name, None)
            self._changes.pop(name, None)
            return
        if compiled.assignment is None:
            return
        places, before = places_of(compiled.assignment.columns), self._places.get(name)
        self._places[name] = places
        # A push that moves weights alone ends here; the same endpoints in another order are no change either.
        if places != before and as_set(places) != (as_set(before) if before is not None else set()):
            self._changes[name] = self._changes.get(name, 0) + 1

    def changes(self, name: str) -> int:
        return self._changes.get(name, 0)
