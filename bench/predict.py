"""How long predictions take for a large mesh: `python -m bench.predict [SERVICES]`, CPU seconds and memory, as JSON.

Two clusters on two networks, three zones each, ten services a namespace; every fifth service has a DestinationRule,
every tenth a VirtualService. Each change is one that people make, and each is timed in a process of its own.
"""

import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
EASTGATE = ROOT / ".venv" / "bin" / "eastgate"
CLUSTERS = {"west": ("net-w", "us-west", "10.1", "192.0.2.1"), "east": ("net-e", "us-east", "10.2", "192.0.2.2")}
PODS = 3
Object = dict[str, Any]


def namespace(index: int) -> str:
    return f"team-{index // 10}"


def mesh(count: int, mesh_config: Object) -> Object:
    """The Mesh document. Every third pod of a cluster is in each of its zones."""
    clusters: Object = {}
    for cluster, (network, region, block, gateway) in CLUSTERS.items():
        nodes = {f"n{zone}": {"region": region, "zone": f"{region}-{zone}"} for zone in range(3)}
        workloads = [
            {
                "name": f"svc-{index}-{pod}",
                "namespace": namespace(index),
                "address": f"{block}.{(index * PODS + pod) // 250}.{(index * PODS + pod) % 250 + 1}",
                "node": f"n{pod % 3}",
                "labels": {"app": f"svc-{index}", "version": f"v{pod % 2 + 1}"},
            }
            for index in range(count)
            for pod in range(PODS)
        ]
        clusters[cluster] = {
            "network": network,
            "gateways": [{"address": gateway}],
            "nodes": nodes,
            "workloads": workloads,
        }
    services = [
        {
            "name": f"svc-{index}",
            "namespace": namespace(index),
            "selector": {"app": f"svc-{index}"},
            "ports": [{"name": "tcp-main", "port": 80, "targetPort": 8080}],
        }
        for index in range(count)
    ]
    return {"kind": "Mesh", "meshConfig": mesh_config, "clusters": clusters, "services": services}


def istio(kind: str, name: str, place: str, spec: Object) -> Object:
    group = "security" if kind == "PeerAuthentication" else "networking"
    metadata = {"name": name, "namespace": place}
    return {"apiVersion": f"{group}.istio.io/v1", "kind": kind, "metadata": metadata, "spec": spec}


def rules(count: int) -> Iterator[Object]:
    subsets = [{"name": one, "labels": {"version": one}} for one in ("v1", "v2")]
    for index in range(0, count, 5):
        policy: Object = {"outlierDetection": {"consecutive5xxErrors": 5}}
        spec: Object = {"host": f"svc-{index}", "trafficPolicy": policy, "subsets": subsets}
        yield istio("DestinationRule", f"svc-{index}", namespace(index), spec)
        if index % 10 == 0:
            parts = [{"destination": {"host": f"svc-{index}", "subset": one}, "weight": 50} for one in ("v1", "v2")]
            yield istio(
                "VirtualService",
                f"svc-{index}",
                namespace(index),
                {"hosts": [f"svc-{index}"], "tcp": [{"route": parts}]},
            )


def changes() -> dict[str, tuple[Object, list[Object]]]:
    """What is added to the mesh, by name: fields of meshConfig, and resources."""
    ejecting = {"host": "svc-1", "trafficPolicy": {"outlierDetection": {"consecutive5xxErrors": 5}}}
    disabled, narrow = {"mtls": {"mode": "DISABLE"}}, {"egress": [{"hosts": ["./*", "istio-system/*"]}]}
    return {
        "one DestinationRule": ({}, [istio("DestinationRule", "more", namespace(0), ejecting)]),
        "meshConfig": ({"localityLbSetting": {"enabled": False}}, []),
        "PeerAuthentication": ({}, [istio("PeerAuthentication", "default", "istio-system", disabled)]),
        "Sidecar": ({}, [istio("Sidecar", "default", namespace(0), narrow)]),
    }


def written(path: Path, count: int, config: Object, more: list[Object]) -> Path:
    base: Object = {"localityLbSetting": {"enabled": True}}
    documents = [mesh(count, {**base, **config}), *rules(count), *more]
    path.write_text("\n---\n".join(json.dumps(one) for one in documents))
    return path


def measured(*arguments: str) -> Object:
    """CPU seconds of a command, the most memory that it had, and how many lines it wrote."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([str(EASTGATE), "mesh", *arguments], check=True, text=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"cpu_s": round(cpu, 1), "most_mb_so_far": after.ru_maxrss // 1024, "lines": done.stdout.count("\n")}


def main(count: int, only: str) -> None:
    folder = ROOT / "build" / "predict"
    folder.mkdir(parents=True, exist_ok=True)
    old = written(folder / "old.yaml", count, {}, [])
    found = {"services": count, "pods": count * PODS * len(CLUSTERS)}
    print(json.dumps(found))
    if only in "endpoints":
        print(json.dumps({"endpoints": measured("endpoints", str(old), "--client", "west/svc-0-0")}), flush=True)
    for name, (config, more) in changes().items():
        if only in name:
            new = written(folder / "new.yaml", count, config, more)
            print(json.dumps({name: measured("diff", str(old), str(new))}), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5000, sys.argv[2] if len(sys.argv) > 2 else "")
