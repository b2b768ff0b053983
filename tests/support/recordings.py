"""What a real istiod sent, as resources to serve again: exact bytes by type URL and name."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import betterproto2
from envoy_data_plane.envoy.service.discovery.v3 import DiscoveryResponse

FOLDER = Path(__file__).parent.parent / "data" / "recordings"
PREFIX = "type.googleapis.com/"
CDS = PREFIX + "envoy.config.cluster.v3.Cluster"
EDS = PREFIX + "envoy.config.endpoint.v3.ClusterLoadAssignment"
LDS = PREFIX + "envoy.config.listener.v3.Listener"
RDS = PREFIX + "envoy.config.route.v3.RouteConfiguration"
SDS = PREFIX + "envoy.extensions.transport_sockets.tls.v3.Secret"
SHORT = {CDS: "cds", EDS: "eds", LDS: "lds", RDS: "rds"}

Resources = dict[str, dict[str, bytes]]
"""type URL -> name -> bytes inside the Any"""


def resource_name(payload: bytes) -> str:
    """Field 1 of a resource: its name."""
    assert payload[:1] == b"\x0a", "a resource begins with its name"
    length, at = betterproto2.decode_varint(payload, 1)
    return payload[at : at + length].decode()


def stages() -> list[str]:
    """All recorded stages of the SotW protocol, in the order of their numbers."""
    names = [path.name for path in FOLDER.iterdir() if (path / "anthos-gateway" / "lds.pb").exists()]
    return sorted((name for name in names if not name.endswith("-delta")), key=lambda name: int(name.split("-")[0]))


def recorded(stage: str, role: str) -> Resources:
    """What istiod sent to this node in this stage."""
    found: Resources = {}
    for type_url, short in SHORT.items():
        path = FOLDER / stage / role / f"{short}.pb"
        if type_url == RDS and not path.exists():
            # A gateway has no HTTP chains.
            continue
        response = DiscoveryResponse.parse(path.read_bytes())
        found[type_url] = {resource_name(one.value): one.value for one in response.resources}
    return found


def recorded_node(stage: str, role: str) -> dict[str, Any]:
    """The Node message that this role sent, as JSON."""
    node: dict[str, Any] = json.loads((FOLDER / stage / role / "node.json").read_text())
    return node


@dataclass(frozen=True, slots=True)
class RecordedPush:
    """One response that an open stream received. ``stage``: the state of the mesh at that time."""

    stage: str
    type_url: str
    resources: dict[str, bytes]


def push_series(role: str) -> list[RecordedPush]:
    """Everything that one recorded SotW stream received of the types served here, in order of arrival."""
    folder = FOLDER / "pushes" / f"{role}-sotw"
    pushes = []
    for entry in json.loads((folder / "index.json").read_text()):
        if entry["type"] in SHORT.values():
            response = DiscoveryResponse.parse((folder / entry["file"]).read_bytes())
            named = {resource_name(one.value): one.value for one in response.resources}
            pushes.append(RecordedPush(entry["stage"], response.type_url, named))
    return pushes


@dataclass(frozen=True, slots=True)
class RecordedCluster:
    """What the JSON beside a recording says of one SNI-DNAT cluster: (address, health) pairs and the policy."""

    lb_policy: str
    endpoints: tuple[tuple[str, str], ...]

    @property
    def healthy(self) -> frozenset[str]:
        """Addresses that may get connections while the panic threshold is 0."""
        return frozenset(address for address, health in self.endpoints if health in ("HEALTHY", "UNKNOWN"))


def recorded_clusters(stage: str, role: str) -> dict[str, RecordedCluster]:
    """SNI -> cluster, from the JSON renderings: a second opinion that no decoder of ours has touched."""
    folder = FOLDER / stage / role
    policies = {
        one["name"]: one.get("lb_policy", "ROUND_ROBIN")
        for one in json.loads((folder / "cds.json").read_text())["resources"]
    }
    found = {}
    for one in json.loads((folder / "eds.json").read_text())["resources"]:
        endpoints = []
        for endpoint in [each for entry in one.get("endpoints", ()) for each in entry.get("lb_endpoints", ())]:
            address = endpoint["endpoint"]["address"]["socket_address"]
            where = f"{address['address']}:{address['port_value']}"
            endpoints.append((where, endpoint.get("health_status", "UNKNOWN")))
        if one["cluster_name"].startswith("outbound_."):
            found[one["cluster_name"]] = RecordedCluster(policies[one["cluster_name"]], tuple(endpoints))
    return found


@dataclass(frozen=True, slots=True)
class RecordedPayload:
    """One response of a recorded stream as it was, with what the index says of it."""

    stage: str
    type_url: str
    payload: bytes


def payload_series(role: str, variant: str) -> list[RecordedPayload]:
    """Every response, of the types served here, that one recorded stream (sotw or delta) received."""
    folder = FOLDER / "pushes" / f"{role}-{variant}"
    urls = {short: type_url for type_url, short in SHORT.items()}
    return [
        RecordedPayload(entry["stage"], urls[entry["type"]], (folder / entry["file"]).read_bytes())
        for entry in json.loads((folder / "index.json").read_text())
        if entry["type"] in urls
    ]
