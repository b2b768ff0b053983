"""Which addresses a node gets for the endpoints of a service: pods of its own network, gateways for the others.

Pure functions; knows nothing of xDS or of locality load balancing, which comes after. Source of the rules: istio,
pilot/pkg/xds/endpoints/ep_filters.go and pilot/pkg/model/network.go.

Worked example: two pods here, three pods behind two gateways there. Scale 2 (least common multiple of the gateway
counts): the pods weigh 2 each, and 3 x 2 is shared by the gateways, 3 each.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

MAX_WEIGHT = 2**32 - 1


@dataclass(frozen=True, slots=True)
class NetworkGateway:
    """A way into a network. ``cluster`` empty: for endpoints of any cluster. ``port`` 0: no mTLS port."""

    network: str
    address: str
    port: int = 15443
    cluster: str = ""


@dataclass(frozen=True, slots=True)
class Member:
    """One endpoint of a service before split horizon; no address: only behind a gateway. ``item`` is the caller's."""

    address: str
    network: str
    cluster: str
    weight: int
    mtls: bool
    item: object = None


@dataclass(frozen=True, slots=True)
class View:
    """The node that asks. ``requested_networks`` empty: no restriction. Families: which IP versions it has."""

    network: str
    requested_networks: frozenset[str] = frozenset()
    ipv4: bool = True
    ipv6: bool = True

    def sees(self, network: str) -> bool:
        """Whether endpoints of this network are visible; those without a network always are."""
        return not self.requested_networks or not network or network in self.requested_networks


@dataclass(frozen=True, slots=True)
class Seen:
    """What the node gets: a member as it is, or a gateway (``member`` None) that stands for `weight` of them."""

    weight: int
    member: Member | None = None
    gateway: NetworkGateway | None = None


def scale_factor(gateways: Sequence[NetworkGateway]) -> int:
    """Least common multiple of the gateways of each network and of each (network, cluster): weights divide evenly."""
    counts: dict[tuple[str, ...], int] = {}
    for gateway in gateways:
        counts[(gateway.network,)] = counts.get((gateway.network,), 0) + 1
        if gateway.cluster:
            key = (gateway.network, gateway.cluster)
            counts[key] = counts.get(key, 0) + 1
    return math.lcm(*counts.values()) if counts else 1


def _ways(member: Member, gateways: Sequence[NetworkGateway]) -> list[NetworkGateway]:
    of_network = [gateway for gateway in gateways if gateway.network == member.network]
    return [gateway for gateway in of_network if gateway.cluster == member.cluster] or of_network


def _reachable(gateway: NetworkGateway, view: View) -> bool:
    try:
        version = ip_address(gateway.address).version
    except ValueError:
        return True
    return view.ipv4 if version == 4 else view.ipv6


def _is_direct(member: Member, view: View, ways: Sequence[NetworkGateway]) -> bool:
    if member.network == view.network or not member.network:
        return True
    # A node without a network is inside none: what has a gateway goes through it.
    return not ways


def split_horizon(
    members: Iterable[Member], view: View, gateways: Sequence[NetworkGateway], *, sidecar: bool = True
) -> tuple[Seen, ...]:
    """Direct members in their order, then gateways by address and port; members that cannot be reached are left out.

    ``gateways`` are those of the whole mesh. Without any, nothing is scaled or replaced.
    """
    scale = scale_factor(gateways)
    direct: list[Seen] = []
    through: dict[NetworkGateway, int] = {}
    for member in members:
        if not view.sees(member.network):
            continue
        weight = min((member.weight or 1) * scale, MAX_WEIGHT)
        ways = [way for way in _ways(member, gateways) if way.port or not sidecar]
        if _is_direct(member, view, ways):
            if member.address:
                direct.append(Seen(weight, member=member))
            continue
        reachable = [way for way in ways if _reachable(way, view)]
        if not member.mtls or not reachable:
            continue
        for way in reachable:
            through[way] = min(through.get(way, 0) + weight // len(reachable), MAX_WEIGHT)
    ordered = sorted(through.items(), key=lambda pair: (pair[0].address, pair[0].port))
    return (*direct, *(Seen(weight, gateway=way) for way, weight in ordered))


def mtls_only(seen: Iterable[Seen]) -> tuple[Seen, ...]:
    """What an SNI-DNAT cluster keeps: pods that speak mesh mTLS, and gateways (which only stand for such pods)."""
    return tuple(entry for entry in seen if entry.member is None or entry.member.mtls)
