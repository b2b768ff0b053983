"""Istio's resources for the stages of the lab."""

from typing import Any

from lab.settings import ANTHOS, GKE, Cluster

SERVICES = ("echo-svc", "echo-tcp")
Object = dict[str, Any]
# Without 100 Envoy ejects at most one endpoint in ten, and traffic to drained pods goes on failing.
OUTLIERS = {"consecutive5xxErrors": 1, "interval": "1s", "baseEjectionTime": "1m", "maxEjectionPercent": 100}
FAILOVER = {
    "enabled": True,
    "failover": [{"from": ANTHOS.region, "to": GKE.region}, {"from": GKE.region, "to": ANTHOS.region}],
}
FAILOVER_PRIORITY = {
    "enabled": True,
    "failoverPriority": ["topology.istio.io/network", "topology.kubernetes.io/region", "topology.kubernetes.io/zone"],
}
CLUSTER_LOCAL = [{"settings": {"clusterLocal": True}, "hosts": ["*.default.svc.cluster.local"]}]


def host(service: str) -> str:
    return f"{service}.default.svc.cluster.local"


def resource(api: str, kind: str, name: str, spec: Object) -> Object:
    metadata = {"name": name, "namespace": "default"}
    return {"apiVersion": f"{api}.istio.io/v1", "kind": kind, "metadata": metadata, "spec": spec}


def locality_rules(setting: Object) -> list[Object]:
    """DestinationRules with this localityLbSetting, for both services."""
    policy = {
        # A drained Envoy refuses new connections only: clients that keep theirs notice nothing.
        "connectionPool": {"http": {"maxRequestsPerConnection": 1}},
        "loadBalancer": {"simple": "ROUND_ROBIN", "localityLbSetting": setting},
        "outlierDetection": OUTLIERS,
    }
    return [
        resource("networking", "DestinationRule", service, {"host": host(service), "trafficPolicy": policy})
        for service in SERVICES
    ]


def hiding(rules: list[Object]) -> list[Object]:
    """The same rules; istiod does not show unready pods to their proxies, who would use them in a panic."""
    for rule in rules:
        policy = rule["spec"]["trafficPolicy"]
        policy["outlierDetection"] = {**policy["outlierDetection"], "minHealthPercent": 1}
    return rules


def distribute(local: int) -> Object:
    """From each region this many percent stay, the rest goes to the other one."""
    pairs = ((GKE.region, ANTHOS.region), (ANTHOS.region, GKE.region))
    wanted = [{"from": f"{one}/*", "to": {f"{one}/*": local, f"{two}/*": 100 - local}} for one, two in pairs]
    return {"enabled": True, "distribute": wanted}


def hashing_rules() -> list[Object]:
    """Source addresses hashed, on a ring for one service and with Maglev for the other; not for one subset of it."""
    ring, table = ({"ringHash": {"minimumRingSize": 64}}, {"maglev": {"tableSize": 1009}})
    rules = []
    for service, algorithm in zip(SERVICES, (ring, table), strict=True):
        policy = {"loadBalancer": {"consistentHash": {"useSourceIp": True, **algorithm}}}
        own = {"loadBalancer": {"simple": "ROUND_ROBIN"}}
        subsets = [
            {"name": "hashed", "labels": {"app": "echoserver"}},
            {"name": "in-turn", "labels": {"app": "echoserver"}, "trafficPolicy": own},
        ]
        spec = {"host": host(service), "trafficPolicy": policy, "subsets": subsets}
        rules.append(resource("networking", "DestinationRule", service, spec))
    return rules


def home_rules() -> list[Object]:
    """A subset for each cluster, and each client to the one of its own."""
    rules = subset_rules(GKE)
    for rule in rules:
        if rule["kind"] == "VirtualService":
            (host_,) = rule["spec"]["hosts"]
            (kind,) = set(rule["spec"]) - {"hosts"}
            rule["spec"][kind] = [
                {
                    "match": [{"sourceLabels": {"topology.istio.io/cluster": one.name}}],
                    "route": [{"destination": {"host": host_, "subset": one.name}}],
                }
                for one in (GKE, ANTHOS)
            ]
    return rules


def subset_rules(target: Cluster) -> list[Object]:
    """A subset for each cluster, and everything to the one of the target."""
    rules = []
    for service in SERVICES:
        subsets = [{"name": one.name, "labels": {"topology.istio.io/cluster": one.name}} for one in (GKE, ANTHOS)]
        rules.append(resource("networking", "DestinationRule", service, {"host": host(service), "subsets": subsets}))
        route = {"route": [{"destination": {"host": host(service), "subset": target.name}}]}
        kind = "tcp" if service.endswith("-tcp") else "http"
        rules.append(resource("networking", "VirtualService", service, {"hosts": [host(service)], kind: [route]}))
    return rules
