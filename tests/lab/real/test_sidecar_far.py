"""A service of three places: none here, the second one's pods are gone behind a gateway that lives, the third serves.

The second place is the other cluster's network, whose gateway accepts connections for a name that nobody has behind it.
Beside eastgate no connection fails: the handshake that ends there is one attempt, and the next goes on to the third.
"""

from collections.abc import Iterator

import pytest

from lab.settings import ANTHOS, GKE
from lab.shell import wait_for

from .pairs import NAMESPACE, Pairs
from .rules import OUTLIERS, Object

HOST, ADDRESS, PORT = f"far.{NAMESPACE}.mesh", "240.7.7.7", 80
CLUSTER = f"outbound|{PORT}||{HOST}"
SECOND, THIRD = "second", "third"
# Of the range of the other cluster's pods; none has it.
GONE = "10.10.77.77"
CONNECTIONS = 20


def endpoint(address: str, network: str, region: str) -> Object:
    return {
        "address": address,
        "network": network,
        "locality": region,
        "labels": {"security.istio.io/tlsMode": "istio"},
        "serviceAccount": "server-stock",
    }


def far(third: str) -> Iterator[Object]:
    """The service, its third place at this address, and the order of its places."""
    yield {
        "apiVersion": "networking.istio.io/v1",
        "kind": "ServiceEntry",
        "metadata": {"name": "far", "namespace": NAMESPACE},
        "spec": {
            "hosts": [HOST],
            "addresses": [ADDRESS],
            "location": "MESH_INTERNAL",
            "resolution": "STATIC",
            "ports": [{"number": PORT, "name": "tcp", "protocol": "TCP", "targetPort": 9090}],
            "endpoints": [endpoint(GONE, ANTHOS.network, SECOND), endpoint(third, GKE.network, THIRD)],
        },
    }
    setting = {"enabled": True, "failover": [{"from": GKE.region, "to": SECOND}]}
    yield {
        "apiVersion": "networking.istio.io/v1",
        "kind": "DestinationRule",
        "metadata": {"name": "far", "namespace": NAMESPACE},
        "spec": {
            "host": HOST,
            "trafficPolicy": {"loadBalancer": {"localityLbSetting": setting}, "outlierDetection": OUTLIERS},
        },
    }


@pytest.fixture
def with_far(pairs: Pairs) -> Iterator[Pairs]:
    address = pairs.pods("server-stock")[0]["status"]["podIP"]
    pairs.kubectl.apply(*far(address))
    yield pairs
    pairs.kubectl.delete(NAMESPACE, "serviceentry", "far")
    pairs.kubectl.delete(NAMESPACE, "destinationrule", "far")


def rows(pairs: Pairs) -> list[str]:
    """What the sidecar of the client beside eastgate knows of the service: lines of /clusters, without its name."""
    lines = pairs.admin("client-eastgate", "/clusters").splitlines()
    return [line.removeprefix(f"{CLUSTER}::") for line in lines if line.startswith(f"{CLUSTER}::")]


def test_pods_that_are_gone_behind_a_living_gateway_cost_no_connection(with_far: Pairs) -> None:
    gateway = f"{ANTHOS.gateway_ip}:15443"

    def both_are_known() -> bool:
        found = rows(with_far)
        return f"{gateway}::priority::0" in found and any(row.endswith("::priority::1") for row in found)

    wait_for("the client has the service", both_are_known)
    seen = with_far.answered("eastgate", ADDRESS, CONNECTIONS)
    assert (seen.answers, seen.failed) == ({"stock": CONNECTIONS}, 0), seen
    # It was tried, and found out.
    (failed,) = (row.rpartition("::")[2] for row in rows(with_far) if row.startswith(f"{gateway}::cx_connect_fail::"))
    assert int(failed) >= 1
