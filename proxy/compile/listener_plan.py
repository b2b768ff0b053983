"""What a listener of a snapshot is to become: pure, no slots and no route table yet."""

from collections.abc import Mapping
from json import dumps
from socket import AF_INET, AF_INET6, inet_pton

from eastgate.fastpath.match.chain_counts import DESTINATION, SOURCE, ChainCounts
from eastgate.fastpath.match.chains import DEFAULT_CONNECT_ATTEMPTS, DEFAULT_HANDSHAKE_MS, ChainSpec, Inspection
from eastgate.fastpath.reason import Reason
from eastgate.xds.record import record
from eastgate.xds.resources import Criteria, FilterChain, Listener

from .http_plan import by_request, clusters_of, compile_routes
from .policies import policies_of
from .tls_contexts import TlsUse


@record
class ListenerSpec:
    """A listener to be. ``clusters``: names that its chains lead to; ``views``: those of which they ask for a subset.

    ``chains``: (chain, the name that it goes by), the default chain apart.
    """

    listener: Listener
    clusters: tuple[str, ...]
    views: tuple[tuple[str, Criteria], ...]
    chains: tuple[tuple[FilterChain, str], ...]
    default_chain: tuple[FilterChain, str] | None


def plan_listener(listener: Listener) -> ListenerSpec:
    """What becomes of a listener. Raises ValueError for what no slot can be had for."""
    default = listener.default_filter_chain
    every = [*listener.filter_chains, *filter(None, (default,))]
    names = dict.fromkeys(cluster for chain in every for cluster in (*dict(chain.clusters), *_by_request(chain)))
    for cluster in names:
        if "\0" in cluster:
            # Behind it stands what tells the views of a cluster apart.
            raise ValueError(f"cluster {cluster!r} of a chain: no name holds a NUL")
    views = dict.fromkeys(
        (cluster, criteria)
        for chain in every
        if chain.criteria
        for (cluster, _), criteria in zip(chain.clusters, chain.criteria, strict=True)
        if criteria
    )
    return ListenerSpec(
        listener,
        tuple(names),
        tuple(views),
        tuple((chain, chain.name or f"{listener.name}#{index}") for index, chain in enumerate(listener.filter_chains)),
        (default, default.name or f"{listener.name}#default") if default is not None else None,
    )


def _by_request(chain: FilterChain) -> list[str]:
    return sorted(clusters_of(chain)) if by_request(chain) else []


def clashes(listeners: Mapping[str, Listener], in_use: Mapping[str, Listener]) -> dict[str, tuple[str, str]]:
    """Listeners that may not have their address, as in Envoy: (address, whose it is). Who is there first keeps it,
    whether it binds a socket there or stands for the address of redirected connections.

    `in_use`: listeners as they are now, by name; those that `listeners` no longer has are about to leave.
    """
    owners: dict[tuple[bytes, int], str] = {}
    found: dict[str, tuple[str, str]] = {}
    for name, listener in in_use.items():
        if name in listeners:
            kept = places_of(listener).keys() & places_of(listeners[name]).keys()
            owners.update(dict.fromkeys(kept, name))
    for name, listener in listeners.items():
        for place, (host, port) in places_of(listener).items():
            if (owner := owners.setdefault(place, name)) != name:
                found.setdefault(name, (f"[{host}]:{port}" if ":" in host else f"{host}:{port}", owner))
    return found


def places_of(listener: Listener) -> dict[tuple[bytes, int], tuple[str, int]]:
    """Addresses that no other listener may have, as bytes and as they are written."""
    # Bound to port 0, which is any, no two get the same.
    return {
        (packed_ip(host), port): (host, port) for host, port in listener.addresses if port or not listener.bind_to_port
    }


def packed_ip(host: str) -> bytes:
    """4 or 16 bytes of an IP address. Raises OSError for what is none."""
    return inet_pton(AF_INET6 if ":" in host else AF_INET, host)


def view_name(cluster: str, criteria: Criteria) -> str:
    """Name of the slot of a cluster for connections with these criteria; no cluster has such a name."""
    return f"{cluster}\0{dumps(criteria)}" if criteria else cluster


def inspection(listener: Listener) -> Inspection:
    """What is looked for in the first bytes of its connections."""
    return Inspection(
        tls_skipped=listener.tls_skipped_ports,
        http=listener.http_inspector,
        http_skipped=listener.http_skipped_ports,
    )


def chain_targets(chain: FilterChain, slots: Mapping[str, int]) -> tuple[tuple[int, int], ...]:
    """(slot, weight) of each cluster of a chain, or of the view of it that the chain asks for."""
    if not chain.criteria:
        return tuple((slots[cluster], weight) for cluster, weight in chain.clusters)
    both = zip(chain.clusters, chain.criteria, strict=True)
    return tuple((slots[view_name(cluster, criteria)], weight) for (cluster, weight), criteria in both)


def chain_spec(
    chain: FilterChain,
    slots: Mapping[str, int],
    *,
    name: str,
    tls: TlsUse | None = None,
    counts: ChainCounts | None = None,
    is_inbound: bool = False,
    log: int = 0,
    number: int = 0,
) -> ChainSpec:
    """The fast path's form of a chain; `slots` maps the names of its clusters, and those of views of them.

    `tls`: what it terminates; a chain whose TLS cannot be terminated refuses. `counts`: of its stat_prefix.
    `is_inbound`: its listener's connections end here, so that Istio's metrics are those of the destination. `log`:
    number of its access logs. `number`: what it goes by from one table to the next.
    """
    refusal = Reason.POLICY if chain.refusal or chain.match.unsupported else Reason.NONE
    if tls is not None and tls.context is None and refusal == Reason.NONE:
        refusal = Reason.NO_CERTIFICATE
    return ChainSpec(
        name=name,
        destination_port=chain.match.destination_port,
        destination_prefixes=chain.match.destination_prefixes,
        server_names=chain.match.server_names,
        transport_protocol=chain.match.transport_protocol,
        application_protocols=chain.match.application_protocols,
        direct_source_prefixes=chain.match.direct_source_prefixes,
        source_type=chain.match.source_type,
        source_prefixes=chain.match.source_prefixes,
        source_ports=chain.match.source_ports,
        targets=chain_targets(chain, slots),
        refusal=refusal,
        idle_timeout_ms=round(chain.idle_timeout_s * 1000),
        max_duration_ms=round(chain.max_downstream_connection_duration_s * 1000),
        max_connect_attempts=chain.max_connect_attempts or DEFAULT_CONNECT_ATTEMPTS,
        hash_source_ip=chain.hash_source_ip,
        tls=tls.context if tls is not None else None,
        handshake_timeout_ms=round(chain.handshake_timeout_s * 1000) or DEFAULT_HANDSHAKE_MS,
        policies=policies_of(chain),
        http_routes=compile_routes(chain, slots) if by_request(chain) else None,
        is_http=chain.http is not None,
        sets_alpn=chain.http is not None and chain.http.sets_alpn,
        counts=counts,
        log=log,
        number=number,
        telemetry=(DESTINATION if is_inbound else SOURCE) if chain.telemetry else 0,
    )
