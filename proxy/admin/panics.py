"""How often an endpoint was picked while its priority was in panic: Envoy's lb_healthy_panic.

Workers count nothing for it: endpoints count their connects, and whether a priority is in panic changes with the table
alone. So what the endpoints of such priorities count while a table is current is the number. An observer of the
compiler.
"""

from collections.abc import Sequence

from eastgate.fastpath.tables.cluster_table import ClusterTable
from eastgate.proxy.compile.compiled import CompiledCluster
from eastgate.xds.record import record

PANIC = 7
"""Place in what ClusterTable.priorities says of a priority"""
_FINE = b"\0\1"


@record
class _Current:
    """Rows in panic of the table in use, and how many connects they had counted when it came."""

    table: ClusterTable
    rows: Sequence[int]
    before: int

    def picks(self) -> int:
        return connects(self.table, self.rows) - self.before


def connects(table: ClusterTable, rows: Sequence[int]) -> int:
    """Connects of these endpoints so far."""
    return sum(table.state(row)[1] for row in rows)


def rows_in_panic(compiled: CompiledCluster) -> tuple[int, ...]:
    """Rows of the priorities that are in panic; most clusters have no unhealthy endpoint, and need no arithmetic."""
    if compiled.table is None or compiled.assignment is None:
        return ()
    columns = compiled.assignment.columns
    if not columns.health.strip(_FINE) and not any(compiled.flags):
        return ()
    panic = {number for number, priority in enumerate(compiled.table.priorities()) if priority[PANIC]}
    return tuple(row for row in range(columns.count) if columns.entry(row).priority in panic) if panic else ()


class Panics:
    """Counts by cluster."""

    def __init__(self) -> None:
        self._ended: dict[str, int] = {}
        self._current: dict[str, _Current] = {}

    def published(self, name: str, compiled: CompiledCluster | None) -> None:
        """A cluster has a new table; None: it is gone."""
        if (over := self._current.pop(name, None)) is not None:
            self._ended[name] = self._ended.get(name, 0) + over.picks()
        if compiled is None:
            self._ended.pop(name, None)
        elif (rows := rows_in_panic(compiled)) and compiled.table is not None:
            self._current[name] = _Current(compiled.table, rows, connects(compiled.table, rows))

    def picks(self, name: str) -> int:
        current = self._current.get(name)
        return self._ended.get(name, 0) + (current.picks() if current is not None else 0)
