"""What is published, as others see it: frozen records of clusters and listeners."""

from eastgate.fastpath.match.route_table import RouteTable
from eastgate.fastpath.tables.cluster_table import ClusterTable
from eastgate.fastpath.tables.zones import Census
from eastgate.proxy.membership.endpoint_flags import FAILED
from eastgate.proxy.membership.slow_start import Ramp, Weights
from eastgate.xds.record import record
from eastgate.xds.resources import Assignment, Cluster, Listener

from .cluster_plan import ClusterSpec
from .http_plan import Used
from .places import Place
from .tls_contexts import TlsUse


@record
class CompiledCluster:
    """One cluster. ``table`` None: no endpoints (warming, or no route needs them). One of type ORIGINAL_DST has a table
    and no assignment. ``census``: what others have to know of the local cluster, only of that one itself.
    """

    spec: ClusterSpec
    table: ClusterTable | None
    slot: int
    census: Census | None = None

    @property
    def cluster(self) -> Cluster:
        return self.spec.cluster

    @property
    def assignment(self) -> Assignment | None:
        """The one in use."""
        return self.spec.assignment

    @property
    def flags(self) -> bytes:
        """By row, see endpoint_flags."""
        return self.spec.flags

    @property
    def closed(self) -> str:
        """Why connections are refused although there is a table; empty when they are not."""
        return self.spec.closed if self.table is not None else ""

    @property
    def ramp(self) -> Ramp | None:
        """Only with slow start."""
        return self.spec.ramp

    @property
    def failed(self) -> bytes:
        """endpoint_health.Cause by row, as compiled; empty when there are none."""
        return bytes(bits & FAILED for bits in self.spec.flags)

    @property
    def weights(self) -> Weights:
        """Of endpoints in slow start, as compiled."""
        return self.spec.weights


@record
class CompiledListener:
    """One listener's route table; ``cluster_names``, of clusters and views, hold the slots that it refers to.
    ``tls``: what its chains terminate, in their order, the default chain last; ``used``: routes of HTTP, likewise;
    ``numbers``: what its chains go by in all tables, likewise. ``places``: where clusters are reached by it.
    """

    listener: Listener
    routes: RouteTable
    cluster_names: tuple[str, ...]
    tls: tuple[TlsUse | None, ...] = ()
    used: Used = ()
    numbers: tuple[int, ...] = ()
    places: frozenset[Place] = frozenset()
