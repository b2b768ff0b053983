"""Tables of clusters into slots: one for all endpoints, and one for each subset that routes ask for.

Knows what endpoints of clusters with subsets say, and compiles nothing but subsets.
"""

from collections.abc import Sequence
from json import dumps

from eastgate.fastpath.loop.cluster_slots import ClusterSlots
from eastgate.fastpath.tables.cluster_table import ClusterTable
from eastgate.proxy.log import Log
from eastgate.xds.resources import Assignment, Criteria
from eastgate.xds.subsets import EndpointMetadata, endpoint_metadata

from .cluster_plan import spoken_to
from .cluster_tables import compile_subset
from .compiled import CompiledCluster
from .slot_book import SlotBook
from .subsets import select


class ClusterViews:
    """What of a cluster its slots show. Control thread only."""

    def __init__(self, slots: ClusterSlots, book: SlotBook, log: Log) -> None:
        self._slots = slots
        self._book = book
        self._log = log
        # Metadata by row of clusters with subsets, and the assignment that it is of.
        self._metadata: dict[str, tuple[Assignment, list[EndpointMetadata]]] = {}

    def publish(self, name: str, compiled: CompiledCluster) -> None:
        """Publish the cluster's table, and those of its subsets that routes ask for."""
        arguments = compiled.spec.slot.as_arguments()
        table = None if compiled.closed else compiled.table
        for criteria, slot in (((), compiled.slot), *self._book.views(name).items()):
            view, rows = self._view(compiled, table, criteria)
            self._slots.publish(slot, view, **arguments, **spoken_to(compiled.spec, rows))

    def withdraw(self, name: str, gone: CompiledCluster) -> None:
        """Connections to a cluster that left are refused as to an unknown one; its slots stay with who holds them."""
        self._slots.publish(gone.slot, None)
        for slot in self._book.views(name).values():
            self._slots.publish(slot, None)
        self._metadata.pop(name, None)

    def metadata_of(self, name: str, assignment: Assignment) -> list[EndpointMetadata]:
        """What the endpoints of a cluster with subsets say, by row. Raises ValueError for what cannot be read."""
        own = self._metadata.get(name)
        if own is None or own[0] is not assignment:
            said = endpoint_metadata(assignment.raw)
            own = self._metadata[name] = assignment, [said.get(key, {}) for key in assignment.columns.all_keys()]
        return own[1]

    def _view(
        self, compiled: CompiledCluster, table: ClusterTable | None, criteria: Criteria
    ) -> tuple[ClusterTable | None, Sequence[int] | None]:
        """Table for connections with these criteria, and its rows among all endpoints; None for all of them, as in a
        cluster without subsets.
        """
        cluster, assignment = compiled.cluster, compiled.assignment
        if table is None or assignment is None or cluster.subsets is None:
            return table, None
        selection = select(cluster.subsets, criteria, self.metadata_of(cluster.name, assignment))
        rows: Sequence[int] = selection.rows
        try:
            made = compile_subset(compiled.spec, assignment, table, rows)
            if selection.then_any and not made.finds_endpoints():
                rows = range(assignment.columns.count)
                made = compile_subset(compiled.spec, assignment, table, rows)
        except ValueError as error:
            self._log.warning("subset not compiled", name=cluster.name, criteria=dumps(criteria), reason=str(error))
            return None, None
        return made, rows
