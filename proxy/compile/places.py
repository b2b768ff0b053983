"""At which addresses clusters are reached through a listener that has no socket: of single hosts, not of ranges.

An address that a mesh allocates to a service may move to another one with a push, and who is connected already has
nothing of that: the cluster is the same.
"""

from collections.abc import Generator, Iterator, Mapping
from socket import AF_INET, AF_INET6, inet_pton

from eastgate.xds.cidr import CidrRange
from eastgate.xds.resources import FilterChain, Listener

from .http_plan import by_request
from .listener_plan import chain_targets, packed_ip
from .policies import policies_of

Place = tuple[int, bytes, int]
"""Slot of a cluster, 4 or 16 bytes of an address, port."""

HOSTS_PER_SLICE = 64
_ANY = (bytes(4), bytes(16))


def places_of_clusters(listener: Listener, slots: Mapping[str, int]) -> Generator[None, None, frozenset[Place]]:
    """Of a listener that is not inbound and whose chains were routed, in slices.

    Chains that refuse, or ask policies, have none.
    """
    found: set[Place] = set()
    if listener.bind_to_port or listener.traffic_direction == "INBOUND":
        return frozenset()
    own = [(packed_ip(host), port) for host, port in listener.addresses]
    ports = {port for _, port in own}
    for chain in (*listener.filter_chains, *filter(None, (listener.default_filter_chain,))):
        if chain.refusal or policies_of(chain) is not None:
            continue
        if by_request(chain):
            yield from _by_host(chain, slots, ports, found)
        hosts = [single for single in map(_single_host, chain.match.destination_prefixes) if single]
        places = [(host, port) for host in hosts for port in ports]
        places += [(host, port) for host, port in own if host not in _ANY and not chain.match.destination_prefixes]
        found.update((slot, host, port) for slot in _slots_of(chain, slots) for host, port in places)
        yield
    return frozenset(found)


def _slots_of(chain: FilterChain, slots: Mapping[str, int]) -> Iterator[int]:
    if by_request(chain):
        names = chain.route_config.clusters if chain.route_config is not None else frozenset()
        return (slots[name] for name in names if name in slots)
    return (slot for slot, _ in chain_targets(chain, slots))


def _by_host(
    chain: FilterChain, slots: Mapping[str, int], ports: set[int], found: set[Place]
) -> Generator[None, None, None]:
    """What virtual hosts are for: HTTP/2 is routed by the address alone."""
    hosts = chain.route_config.virtual_hosts if chain.route_config is not None else ()
    for index, one in enumerate(hosts, 1):
        addresses = [packed for packed in map(_address, one.domains) if packed is not None]
        if addresses:
            names = {name for route in one.routes for name, weight in route.clusters if weight and name in slots}
            found.update((slots[name], host, port) for name in names for host in addresses for port in ports)
        if index % HOSTS_PER_SLICE == 0:
            yield


def _address(domain: str) -> bytes | None:
    """Of a domain that is an IP address, with or without a port."""
    if not domain or not (domain[0].isdigit() or domain[0] in "[:"):
        return None
    host = domain.partition("]")[0].removeprefix("[") if domain[0] == "[" else domain
    if host.count(":") == 1:
        host = host.partition(":")[0]
    try:
        return inet_pton(AF_INET6 if ":" in host else AF_INET, host)
    except OSError:
        return None


def _single_host(prefix: CidrRange) -> bytes | None:
    return prefix.address if prefix.length == 8 * len(prefix.address) else None
