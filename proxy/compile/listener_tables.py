"""Route tables of listeners: made of a plan and of the slots of the clusters that it leads to. Publishes nothing."""

from collections.abc import Callable, Generator, Mapping, Sequence
from weakref import WeakValueDictionary

from eastgate.fastpath.match.chain_counts import ChainCounters, ChainCounts
from eastgate.fastpath.match.chains import ChainSpec
from eastgate.fastpath.match.route_table import RouteTable
from eastgate.xds.access_log import AccessLogSpec
from eastgate.xds.resources import FilterChain

from .changes import Changes
from .listener_plan import ListenerSpec, chain_spec, inspection, view_name
from .slot_book import LOOKS_PER_SLICE, SlotBook
from .tls_contexts import TlsUse

# Writing the specification of a chain takes 0.5 to 2 us.
CHAINS_PER_SLICE = 64


class ListenerTables:
    """Maker of route tables; what their chains count, by stat_prefix, goes on from one table to the next.

    ``guards_names``: see Role. ``log_number``: by which number events name these access logs.
    """

    def __init__(
        self, book: SlotBook, *, guards_names: bool, log_number: Callable[[tuple[AccessLogSpec, ...]], int]
    ) -> None:
        self._book = book
        self._guards_names = guards_names
        self._log_number = log_number
        # By stat_prefix; the route tables hold them.
        self._counts: WeakValueDictionary[str, ChainCounts] = WeakValueDictionary()

    def chain_counters(self) -> dict[str, ChainCounters]:
        """By stat_prefix, of chains whose table is in use."""
        return {prefix: one.counters() for prefix, one in self._counts.items()}

    def steps(
        self, plan: Changes, spec: ListenerSpec, tls: Sequence[TlsUse | None], numbers: Sequence[int]
    ) -> Generator[None, None, tuple[Mapping[str, int], RouteTable]]:
        """The route table of a listener, and the slots that it leads to, by name. `tls`, `numbers`: by chain.

        A name that CDS has not sent (yet) gets a slot as well: its connections are refused as unknown cluster, and
        served from the moment that the cluster comes.
        """
        slots: dict[str, int] = {}
        for index, cluster in enumerate(spec.clusters, 1):
            slots[cluster] = self._book.take(cluster)
            plan.acquired.append(cluster)
            if index % LOOKS_PER_SLICE == 0:
                yield
        for index, (cluster, criteria) in enumerate(spec.views, 1):
            view = view_name(cluster, criteria)
            slots[view] = self._book.take_view(cluster, criteria, slots[cluster])
            plan.acquired.append(view)
            plan.viewed.add(cluster)
            if index % LOOKS_PER_SLICE == 0:
                yield
        specs = []
        for index, (chain, name) in enumerate(spec.chains, 1):
            specs.append(self._chain_spec(spec, chain, slots, name=name, tls=tls[index - 1], number=numbers[index - 1]))
            if index % CHAINS_PER_SLICE == 0:
                yield
        last = None
        if spec.default_chain is not None:
            chain, name = spec.default_chain
            last = self._chain_spec(spec, chain, slots, name=name, tls=tls[-1], number=numbers[-1])
        seen = inspection(spec.listener)
        routes = yield from RouteTable.steps(specs, last, seen, guards_names=self._guards_names)
        return slots, routes

    def _chain_spec(
        self,
        spec: ListenerSpec,
        chain: FilterChain,
        slots: Mapping[str, int],
        *,
        name: str,
        tls: TlsUse | None,
        number: int,
    ) -> ChainSpec:
        is_inbound = spec.listener.traffic_direction == "INBOUND"
        counts = self._counts_of(chain)
        log = self._log_number((*chain.access_logs, *spec.listener.access_logs))
        return chain_spec(
            chain, slots, name=name, tls=tls, counts=counts, is_inbound=is_inbound, log=log, number=number
        )

    def _counts_of(self, chain: FilterChain) -> ChainCounts | None:
        """What the connections of all chains with this stat_prefix count in; None without one."""
        if not chain.stat_prefix:
            return None
        return self._counts.setdefault(chain.stat_prefix, ChainCounts(chain.stat_prefix))
