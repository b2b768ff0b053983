"""Config dumps for tests: of what a real istiod sent in a recorded stage, and of clusters made up in a line."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

ADMIN = "type.googleapis.com/envoy.admin.v3."
FOLDER = Path(__file__).parent.parent / "data" / "recordings"
ENVOY = Path(__file__).parent.parent / "data" / "envoy"

Json = dict[str, Any]


def config_dump(
    clusters: Iterable[Mapping[str, Any]],
    assignments: Iterable[Mapping[str, Any]],
    *,
    listeners: Iterable[Mapping[str, Any]] = (),
    routes: Iterable[Mapping[str, Any]] = (),
    node: Mapping[str, Any] | None = None,
) -> Json:
    """/config_dump?include_eds of a proxy that has accepted these resources."""
    return {
        "configs": [
            {"@type": ADMIN + "BootstrapConfigDump", "bootstrap": {"node": node or {}}},
            {"@type": ADMIN + "ClustersConfigDump", "dynamic_active_clusters": [{"cluster": one} for one in clusters]},
            {
                "@type": ADMIN + "EndpointsConfigDump",
                "dynamic_endpoint_configs": [{"endpoint_config": one} for one in assignments],
            },
            {
                "@type": ADMIN + "ListenersConfigDump",
                "dynamic_listeners": [{"name": one["name"], "active_state": {"listener": one}} for one in listeners],
            },
            {
                "@type": ADMIN + "RoutesConfigDump",
                "dynamic_route_configs": [{"route_config": one} for one in routes],
            },
        ]
    }


def recorded_dump(stage: str, role: str) -> Json:
    """A config_dump with what istiod sent to this node in this stage."""
    folder = FOLDER / stage / role
    kinds = [kind for kind in ("cds", "eds", "lds", "rds") if (folder / f"{kind}.json").exists()]
    sent = {kind: json.loads((folder / f"{kind}.json").read_text())["resources"] for kind in kinds}
    # Of Delta each is in a Resource, with its name and version.
    resources = {kind: [one.get("resource", one) for one in ones] for kind, ones in sent.items()}
    node = json.loads((folder / "node.json").read_text())
    return config_dump(
        resources["cds"], resources["eds"], listeners=resources["lds"], routes=resources.get("rds", ()), node=node
    )


def endpoint(
    address: str,
    *,
    weight: int = 1,
    health: str = "HEALTHY",
    workload: str | None = "pod;ns;app;;here",
    tls: bool = True,
) -> Json:
    """An LbEndpoint as istiod sends it."""
    host, _, port = address.rpartition(":")
    metadata: Json = {"filter_metadata": {"istio": {"workload": workload}}} if workload is not None else {}
    if tls:
        metadata.setdefault("filter_metadata", {})["envoy.transport_socket_match"] = {"tlsMode": "istio"}
    return {
        "endpoint": {"address": {"socket_address": {"address": host.strip("[]"), "port_value": int(port)}}},
        "health_status": health,
        "metadata": metadata,
        "load_balancing_weight": weight,
    }


def gateway(address: str = "192.0.2.6:15443", *, cluster: str = "there", weight: int = 1, **rest: Any) -> Json:
    """An endpoint that stands for the pods of another network."""
    return endpoint(address, weight=weight, workload=f";;;;{cluster}", **rest)


def places(count: int, *, network: int = 0, unhealthy: int = 0, weight: int = 1) -> list[Json]:
    """So many pods, the first ones unhealthy."""
    return [
        endpoint(
            f"10.{network}.{i >> 8}.{i & 255}:8080", weight=weight, health="UNHEALTHY" if i < unhealthy else "HEALTHY"
        )
        for i in range(count)
    ]


def locality(
    where: str, endpoints: Iterable[Mapping[str, Any]], *, priority: int = 0, weight: int | None = None
) -> Json:
    """LocalityLbEndpoints; the weight is the sum of the endpoints', as istiod makes it up, unless given. 0: none."""
    members = list(endpoints)
    region, _, zone = where.partition("/")
    total = sum(one["load_balancing_weight"] for one in members) if weight is None else weight
    return {
        "locality": {"region": region, **({"zone": zone} if zone else {})},
        "lb_endpoints": members,
        "priority": priority,
        **({"load_balancing_weight": total} if total else {}),
    }


NAME = "outbound|80||echo.default.svc.cluster.local"


def cluster(
    name: str = NAME,
    *,
    policy: str = "ROUND_ROBIN",
    panic: int | None = 0,
    weighted: bool = True,
    outlier: Mapping[str, Any] | None = None,
    kind: str = "EDS",
) -> Json:
    """A Cluster as istiod sends it. `outlier` {}: outlier detection with Envoy's defaults; None: without."""
    common: Json = {} if panic is None else {"healthy_panic_threshold": {"value": panic} if panic else {}}
    if weighted:
        common["locality_weighted_lb_config"] = {}
    return {
        "name": name,
        "type": kind,
        "lb_policy": policy,
        "common_lb_config": common,
        **({} if outlier is None else {"outlier_detection": outlier}),
    }


def assignment(*entries: Mapping[str, Any], name: str = NAME, factor: int = 140) -> Json:
    """A ClusterLoadAssignment."""
    return {"cluster_name": name, "endpoints": list(entries), "policy": {"overprovisioning_factor": factor}}


def write(folder: Path, document: Mapping[str, Any], name: str = "dump.json") -> str:
    """The path of a file with the document."""
    path = folder / name
    path.write_text(json.dumps(document))
    return str(path)
