"""Where things are, what the two clusters look like, and which proxy runs in which place."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path

from .errors import LabError

ROOT = Path(__file__).resolve().parents[1]
PROXIES = ("eastgate", "stock")
HUB, TAG = "localhost/lab", "dev"
MESH_ID = "mesh1"


@dataclass(frozen=True, slots=True)
class Cluster:
    """One Kubernetes cluster with one node. ``gateway_ip`` is the address that the other cluster's proxies dial."""

    name: str
    network: str
    node: str
    node_ip: str
    pod_cidr: str
    service_cidr: str
    gateway_ip: str
    region: str
    zone: str
    greeting: str

    @property
    def api_ip(self) -> str:
        """The first address of the service range: kubernetes.default."""
        return str(ip_network(self.service_cidr)[1])

    @property
    def dns_ip(self) -> str:
        return str(ip_network(self.service_cidr)[10])

    @property
    def api_url(self) -> str:
        return f"https://{self.node_ip}:6443"


GKE = Cluster(
    name="gke",
    network="kuchima-demo-vpc01",
    node="gke-node1",
    node_ip="192.168.120.1",
    pod_cidr="10.24.0.0/16",
    service_cidr="10.28.0.0/20",
    gateway_ip="10.100.10.6",
    region="asia-northeast1",
    zone="asia-northeast1-a",
    greeting="GKE!!!",
)
ANTHOS = Cluster(
    name="anthos",
    network="default",
    node="node01",
    node_ip="192.168.120.2",
    pod_cidr="10.10.0.0/16",
    service_cidr="10.96.0.0/20",
    gateway_ip="172.16.10.152",
    region="tokyo-onprem",
    zone="",
    greeting="Anthos!!!",
)
CLUSTERS = {cluster.name: cluster for cluster in (GKE, ANTHOS)}


def other(cluster: Cluster) -> Cluster:
    """The cluster at the other end of the wire."""
    return ANTHOS if cluster is GKE else GKE


@dataclass(frozen=True, slots=True)
class Settings:
    """``cache`` keeps what was built, ``state`` what runs; ``gateways``: cluster name -> eastgate or stock."""

    cache: Path
    state: Path
    gateways: Mapping[str, str]

    @property
    def binaries(self) -> Path:
        return self.cache / "bin"

    @property
    def images(self) -> Path:
        return self.cache / "images"

    def folder(self, cluster: Cluster) -> Path:
        """Where a node keeps its files."""
        return self.state / cluster.name


def proxy_named(variable: str, value: str) -> str:
    """The value. Raises LabError when it names no proxy."""
    if value not in PROXIES:
        raise LabError(f"{variable}={value}: expected {' or '.join(PROXIES)}")
    return value


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Settings of environment variables; docs/lab.md lists them. Raises LabError."""
    cache = Path(environment.get("EASTGATE_LAB_CACHE") or Path.home() / ".cache/eastgate-lab").absolute()
    everywhere = environment.get("EASTGATE_LAB_GATEWAYS", "eastgate")
    gateways = {}
    for name in CLUSTERS:
        variable = f"EASTGATE_LAB_GATEWAY_{name.upper()}"
        value = environment.get(variable)
        gateways[name] = proxy_named(variable if value else "EASTGATE_LAB_GATEWAYS", value or everywhere)
    return Settings(
        cache=cache,
        state=Path(environment.get("EASTGATE_LAB_STATE") or cache / "state").absolute(),
        gateways=gateways,
    )


def from_environment() -> Settings:
    """Settings of this process."""
    return read_settings(os.environ)
