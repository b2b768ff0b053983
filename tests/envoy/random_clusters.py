"""Random clusters as an istiod could send them, for both proxies: everything that decides a share, and its corners."""

import random
from dataclasses import dataclass
from typing import Any

from envoy_data_plane.envoy.config.cluster.v3 import Cluster
from envoy_data_plane.envoy.config.endpoint.v3 import ClusterLoadAssignment
from envoy_data_plane.envoy.extensions.load_balancing_policies.least_request.v3 import LeastRequest

from ..support import dumps, messages
from .numbered import host_of

# What clusters are balanced by; a policy that the product does not compile fails the run.
POLICIES = ("ROUND_ROBIN", "LEAST_REQUEST", "RANDOM", "RING_HASH", "MAGLEV")
# Addresses that a cluster draws from. They are its own: what arrives there late is not taken for another's.
ADDRESSES = 64
BLOCK = 256
HEALTH_MIXES = (
    ("HEALTHY",),
    ("HEALTHY", "UNKNOWN", "UNHEALTHY"),
    ("HEALTHY", "HEALTHY", "UNKNOWN", "DEGRADED"),
    ("HEALTHY", "UNHEALTHY", "DRAINING", "TIMEOUT"),
    ("HEALTHY", "UNKNOWN", "UNHEALTHY", "DRAINING", "TIMEOUT", "DEGRADED"),
    ("DEGRADED", "UNHEALTHY"),
    ("UNHEALTHY", "DRAINING", "UNHEALTHY", "HEALTHY"),
)


@dataclass(frozen=True)
class Configuration:
    """A cluster and its endpoints, as the JSON that a person can put into a bootstrap."""

    cluster: dict[str, Any]
    assignment: dict[str, Any]

    @property
    def cluster_bytes(self) -> bytes:
        return bytes(Cluster.from_dict(self.cluster))

    @property
    def assignment_bytes(self) -> bytes:
        return bytes(ClusterLoadAssignment.from_dict(self.assignment))


def least_request(rng: random.Random, cluster: dict[str, Any]) -> None:
    """Settings of LEAST_REQUEST; the full scan is for load_balancing_policy alone."""
    config: dict[str, Any] = {"choice_count": rng.choice((2, 2, 3, 5))}
    if rng.random() < 0.4:
        config["active_request_bias"] = {"default_value": rng.choice((0.0, 0.5, 2.0)), "runtime_key": "not.set"}
    cluster["least_request_lb_config"] = config
    if rng.random() < 0.3:
        del cluster["least_request_lb_config"]
        # Naming the class registers it for Any.
        extension = {"@type": messages.pack(LeastRequest()).type_url, **config, "selection_method": "FULL_SCAN"}
        for field in ("locality_weighted_lb_config", "zone_aware_lb_config"):
            if field in cluster["common_lb_config"]:
                extension["locality_lb_config"] = {field: cluster["common_lb_config"].pop(field)}
        typed = {"name": "least_request", "typed_config": extension}
        cluster["load_balancing_policy"] = {"policies": [{"typed_extension_config": typed}]}


def random_configuration(rng: random.Random, name: str, position: int, port: int) -> Configuration:
    """The cluster at a position: 1-4 priorities, 1-6 localities, 1-20 endpoints of which some may repeat an address."""
    policy = rng.choice(POLICIES)
    cluster = {
        **dumps.cluster(name, policy=policy, panic=rng.choice((0, 10, 50, 100)), weighted=rng.random() < 0.5),
        "connect_timeout": "10s",
        "eds_cluster_config": {"service_name": name, "eds_config": {"ads": {}, "resource_api_version": "V3"}},
    }
    common = cluster["common_lb_config"]
    if "locality_weighted_lb_config" not in common and rng.random() < 0.3:
        common["zone_aware_lb_config"] = {"fail_traffic_on_panic": True}
    if policy == "LEAST_REQUEST":
        least_request(rng, cluster)
    if policy == "RING_HASH":
        smallest = rng.choice((1, 16, 1024))
        function = rng.choice(("XX_HASH", "MURMUR_HASH_2"))
        cluster["ring_hash_lb_config"] = {"minimum_ring_size": smallest, "hash_function": function}
    if policy == "MAGLEV":
        cluster["maglev_lb_config"] = {"table_size": rng.choice((2, 5, 251, 65537))}
    priorities = rng.randint(1, 4)
    count = max(rng.randint(1, 20), priorities)
    numbers = rng.sample(range(position * BLOCK, position * BLOCK + ADDRESSES), count)
    if rng.random() < 0.3:
        # Duplicates, in whatever priority and locality they come to stand.
        numbers = rng.choices(numbers[: max(count * 2 // 3, 1)], k=count)
    zones = [f"r{rng.randint(1, 2)}/z{zone}" for zone in range(rng.randint(1, 6))]
    heaviest = rng.choice((1, 1, 3, 100))
    mixes = [rng.choice(HEALTH_MIXES) for _ in range(priorities)]
    groups: dict[tuple[int, str], list[dict[str, Any]]] = {}
    for index, number in enumerate(numbers):
        priority = index if index < priorities else rng.randrange(priorities)
        one = {
            "endpoint": {"address": {"socket_address": {"address": host_of(number), "port_value": port}}},
            "health_status": rng.choice(mixes[priority]),
            "load_balancing_weight": rng.randint(1, heaviest),
        }
        groups.setdefault((priority, rng.choice(zones)), []).append(one)
    entries = [
        dumps.locality(zone, members, priority=priority, weight=rng.choice((0, 1, *range(1, 10))))
        for (priority, zone), members in groups.items()
    ]
    rng.shuffle(entries)
    assignment = dumps.assignment(*entries, name=name, factor=rng.choice((140, 140, 100, 120, 200)))
    if rng.random() < 0.2:
        assignment["policy"]["weighted_priority_health"] = True
    return Configuration(cluster, assignment)
