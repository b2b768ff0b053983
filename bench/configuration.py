"""Big configurations for benches. All addresses are of loopback."""

from tests.support import messages
from tests.support.encoded import METADATA, assignment, endpoint, localities
from tests.support.recordings import CDS, EDS, LDS, Resources, resource_name

ROUTED = "outbound_.80_._.echo-svc.default.svc.cluster.local"


def standby(count: int) -> bytes:
    """Endpoints of priority 1 for an assignment: decoded and compiled, never picked while priority 0 is healthy."""
    return localities([endpoint(1 + index, metadata=METADATA) for index in range(count)], 6, priority=1)


def services(count: int, per_service: int) -> Resources:
    """Clusters and assignments in 3 localities of so many services; `routed` makes their chains."""
    names = [f"outbound_.80_._.s{index}.n{index % 50}.svc.cluster.local" for index in range(count)]
    assignments = {
        name: assignment(
            [endpoint(index * per_service + host, metadata=METADATA) for host in range(per_service)], zones=3, name=name
        )
        for index, name in enumerate(names)
    }
    return {CDS: {name: messages.cluster(name) for name in names}, EDS: assignments}


def routed(sink_port: int, port: int, *, more: Resources | None = None, standby_endpoints: bytes = b"") -> Resources:
    """One cluster that leads to the sink and its chain at `port`; with `more`, those services beside it."""
    names = [*(more[CDS] if more else ()), ROUTED]
    listener = messages.listener([messages.chain(name) for name in names], port=port)
    found = messages.resources({ROUTED: [messages.At(("127.0.0.1", sink_port))]}, listeners=[listener])
    found[EDS][ROUTED] += standby_endpoints
    return {
        CDS: {**(more[CDS] if more else {}), **found[CDS]},
        EDS: {**(more[EDS] if more else {}), **found[EDS]},
        LDS: {resource_name(listener): listener},
    }
