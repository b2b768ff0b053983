"""Where things are, what the two clusters look like, and which proxy runs in which place."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path

from .errors import LabError

ROOT = Path(__file__).resolve().parents[1]
PROXIES = ("eastgate", "stock")
# Where a proxy runs. A word for one place of one cluster wins over one for that place in both, and that over one for
# all sidecars; these are what runs where nobody said anything.
PLACES = {"client": "stock", "server": "stock", "gateway": "eastgate"}
SIDECARS = ("client", "server")
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
class Proxies:
    """Which proxy, eastgate or stock, runs in each place of one cluster."""

    client: str = PLACES["client"]
    server: str = PLACES["server"]
    gateway: str = PLACES["gateway"]

    def __str__(self) -> str:
        return ", ".join(f"{place} {getattr(self, place)}" for place in PLACES)


@dataclass(frozen=True, slots=True)
class Settings:
    """``cache`` keeps what was built, ``state`` what runs; ``proxies``: cluster name -> what runs there."""

    cache: Path
    state: Path
    proxies: Mapping[str, Proxies]

    @property
    def binaries(self) -> Path:
        return self.cache / "bin"

    @property
    def images(self) -> Path:
        return self.cache / "images"

    def folder(self, cluster: Cluster) -> Path:
        """Where a node keeps its files."""
        return self.state / cluster.name


def variables(place: str, cluster: str) -> list[str]:
    """Names of variables that say what runs there; the first that is set wins."""
    names = [f"EASTGATE_LAB_{place}_{cluster}", f"EASTGATE_LAB_{place}S"]
    if place in SIDECARS:
        names.append("EASTGATE_LAB_SIDECARS")
    return [name.upper() for name in names]


def proxy_of(environment: Mapping[str, str], place: str, cluster: str) -> str:
    """Which proxy runs there. Raises LabError where a variable, used or not, names none."""
    chosen = PLACES[place]
    for variable in reversed(variables(place, cluster)):
        if value := environment.get(variable):
            if value not in PROXIES:
                raise LabError(f"{variable}={value}: expected {' or '.join(PROXIES)}")
            chosen = value
    return chosen


def misspelt(environment: Mapping[str, str]) -> None:
    """Raises LabError where a variable names a place that there is not: it would change nothing."""
    known = {name for cluster in CLUSTERS for place in PLACES for name in variables(place, cluster)}
    for name in environment:
        word = name.removeprefix("EASTGATE_LAB_")
        if (
            word != name
            and name not in known
            and word.startswith(tuple(place.upper() for place in (*PLACES, "sidecar")))
        ):
            raise LabError(f"{name}: there is no such place; there are {', '.join(sorted(known))}")


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Settings of environment variables; docs/lab.md lists them. Raises LabError."""
    cache = Path(environment.get("EASTGATE_LAB_CACHE") or Path.home() / ".cache/eastgate-lab").absolute()
    misspelt(environment)
    return Settings(
        cache=cache,
        state=Path(environment.get("EASTGATE_LAB_STATE") or cache / "state").absolute(),
        proxies={name: Proxies(**{place: proxy_of(environment, place, name) for place in PLACES}) for name in CLUSTERS},
    )


def from_environment() -> Settings:
    """Settings of this process."""
    return read_settings(os.environ)
