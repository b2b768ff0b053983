"""The embedded control plane, given the objects of the clusters, drives an eastgate sidecar to a real istiod's tables.

What a client in another namespace has of the article's services: endpoints with priority, weight and share, how its
clusters balance, and where its listeners and routes lead. EASTGATE_LAB_LONG=1: all stages.
"""

import json
import os
from pathlib import Path

from lab.settings import ANTHOS, GKE

from .mesh import ECHO, Mesh
from .pairs import Pairs
from .rules import FAILOVER, FAILOVER_PRIORITY, Object, distribute, hashing_rules, locality_rules, subset_rules
from .test_same_as_embedded import Tables, agreed, balancers, described, embedded
from .test_same_as_envoy import DUMP, endpoints

LONG = bool(os.environ.get("EASTGATE_LAB_LONG"))
CLIENT = "client-eastgate"


def of_the_article(cluster: str) -> bool:
    return cluster.startswith("outbound|80|") and "|echo-" in cluster and ".default.svc." in cluster


def led(dump: str) -> set[str]:
    """Chains of TCP that lead to these services, and virtual hosts of HTTP: one JSON text each, in no order."""
    found = set()
    for part in json.loads(dump)["configs"]:
        for entry in part.get("dynamic_listeners", ()):
            listener = entry["active_state"]["listener"]
            for chain in listener.get("filter_chains", ()):
                typed = [one["typed_config"] for one in chain["filters"]]
                targets = [one for one in typed if of_the_article(one.get("cluster", ""))]
                if to := [(one["cluster"], one.get("hash_policy", [])) for one in targets]:
                    found.add(json.dumps([listener["name"], chain.get("filter_chain_match", {}), to], sort_keys=True))
        for entry in part.get("dynamic_route_configs", ()):
            for host in entry["route_config"].get("virtual_hosts", ()):
                clusters = [one.get("route", {}).get("cluster", "") for one in host["routes"]]
                if to := [cluster for cluster in clusters if of_the_article(cluster)]:
                    found.add(json.dumps([entry["route_config"]["name"], sorted(host["domains"]), to]))
    return found


def test_same_tables_of_a_sidecar_as_under_istiod(mesh: Mesh, pairs: Pairs, tmp_path: Path) -> None:
    (pod, _) = (one["metadata"]["name"] for one in mesh.kubectl[GKE.name].pods("default", ECHO))
    stages: dict[str, tuple[list[Object], bool]] = {
        "failover": (locality_rules(FAILOVER), True),
        "one pod unready": (locality_rules(FAILOVER), False),
        "failoverPriority, ready again": (locality_rules(FAILOVER_PRIORITY), True),
        "distribute": (locality_rules(distribute(80)), True),
        "hashed": (hashing_rules(), True),
        "subsets": (subset_rules(ANTHOS), True),
    }

    def tables(dump: str) -> Tables:
        return endpoints(tmp_path, dump, of_the_article), led(dump), balancers(dump, of_the_article)

    def real() -> str:
        return pairs.admin(CLIENT, DUMP)

    node = json.loads(pairs.admin(CLIENT, "/server_info"))["node"]
    table: Tables | None = None
    with embedded(tmp_path, node, described(mesh, [])) as ours:
        table = agreed(mesh, ours, "no rule", [], real, tables, None)
        for stage, (rules, ready) in stages.items():
            if not LONG and stage not in {"failover", "subsets"}:
                continue
            if stage == "subsets":
                mesh.reset()
            mesh.apply(rules)
            mesh.set_ready(GKE, pod, ready)
            table = agreed(mesh, ours, stage, rules, real, tables, table)
            told = "{} endpoints, {} chains and hosts, {} balancers equal".format(*map(len, table))
            mesh.row(f"{stage}: embedded control plane", "gke sidecar", "as under istiod", told)
            # Two endpoints at home and a gateway, of both services.
            assert len(table[0]) >= 4, table
            assert len(table[1]) >= 2, table
