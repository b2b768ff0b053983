"""Who may connect to a port, TCP or HTTP: eastgate's sidecars decide as stock ones, whatever sidecar the client has.

Modes of PeerAuthentication, and AuthorizationPolicy by principal, namespace, address and port.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from lab.errors import LabError
from lab.settings import PROXIES
from lab.shell import wait_for

from .pairs import BARE, NAMESPACE, Pairs, authentication
from .rules import Object

CLIENTS = (*PROXIES, BARE)
# Port of the pod -> how the clients connect to it.
TARGETS = {"9090": "tcp:server-{}:80", "8080": "http:server-{}:8080"}
# Of one connection: (client, server, port of the pod) -> what became of it.
Verdicts = Mapping[tuple[str, str, str], str]
REFUSED = "refused"
# What a rule makes of a connection: an HTTP client gets an answer.
DENIED = {"9090": REFUSED, "8080": "403"}


def seen(pairs: Pairs) -> dict[tuple[str, str, str], str]:
    """One connection of each client to each port of each server."""
    cells = [(server, port) for server in PROXIES for port in TARGETS]
    targets = [TARGETS[port].format(server) for server, port in cells]

    def of(client: str) -> list[str]:
        return pairs.client(client).each(pairs.kubectl, *targets)

    with ThreadPoolExecutor() as pool:
        rows = list(pool.map(of, CLIENTS))
    return {
        (client, *cell): word
        for client, row in zip(CLIENTS, rows, strict=True)
        for cell, word in zip(cells, row, strict=True)
    }


def becomes(pairs: Pairs, stage: str, wanted: Verdicts) -> None:
    """Wait until every cell is as wanted, twice in a row: a push reaches the sidecars one after the other."""
    last: list[Verdicts] = [{}]

    def as_wanted() -> bool:
        before, last[0] = last[0], seen(pairs)
        return last[0] == wanted == before

    try:
        wait_for(stage, as_wanted, seconds=60)
    except LabError:
        wrong = {cell: (wanted[cell], last[0].get(cell)) for cell in wanted if last[0].get(cell) != wanted[cell]}
        pytest.fail(f"{stage}: cell: (wanted, seen): {wrong}")


def table(
    allowed: Sequence[str], *, ports: Sequence[str] = tuple(TARGETS), denied: Mapping[str, str] = DENIED
) -> dict[tuple[str, str, str], str]:
    """Verdicts where these clients are let in at these ports of the pod, and no other."""
    return {
        (client, server, port): server if client in allowed and port in ports else denied[port]
        for client in CLIENTS
        for server in PROXIES
        for port in TARGETS
    }


# Without a certificate nothing gets as far as a request.
UNHEARD = dict.fromkeys(TARGETS, REFUSED)


def one_request_each() -> Object:
    """eastgate judges connections: one that a stock client keeps for later requests has the verdict of its first."""
    policy = {"connectionPool": {"http": {"maxRequestsPerConnection": 1}}}
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "DestinationRule",
        "metadata": {"name": "one-request-each", "namespace": NAMESPACE},
        "spec": {"host": f"*.{NAMESPACE}.svc.cluster.local", "trafficPolicy": policy},
    }


@pytest.fixture
def permissive(pairs: Pairs) -> Iterator[Pairs]:
    """Clients without sidecar may connect, so that policy alone decides. STRICT again at the end."""
    pairs.kubectl.apply(authentication("PERMISSIVE"), one_request_each())
    yield pairs
    pairs.kubectl("-n", NAMESPACE, "delete", "authorizationpolicy,destinationrule", "--all", "--ignore-not-found")
    pairs.kubectl.apply(authentication("STRICT"))


@pytest.mark.parametrize("mode", ["STRICT", "PERMISSIVE", "DISABLE"])
def test_modes_of_peer_authentication(permissive: Pairs, mode: str) -> None:
    permissive.kubectl.apply(authentication(mode))
    becomes(permissive, mode, table(PROXIES if mode == "STRICT" else CLIENTS, denied=UNHEARD))


def policy(action: str, *rules: Object) -> Object:
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": "one", "namespace": NAMESPACE},
        "spec": {"action": action, "rules": list(rules)},
    }


def source(**fields: list[str]) -> Object:
    return {"from": [{"source": fields}]}


def ports(*numbers: str) -> Object:
    return {"to": [{"operation": {"ports": list(numbers)}}]}


PRINCIPAL = f"cluster.local/ns/{NAMESPACE}/sa/client-stock"
# Policy, whom it lets in, and at which ports of the pod.
BY_NAME: Mapping[str, tuple[Object, Sequence[str], Sequence[str]]] = {
    "ALLOW nothing": (policy("ALLOW"), (), ()),
    "ALLOW everybody": (policy("ALLOW", {}), CLIENTS, tuple(TARGETS)),
    "ALLOW a principal": (policy("ALLOW", source(principals=[PRINCIPAL])), ["stock"], tuple(TARGETS)),
    "DENY a principal": (policy("DENY", source(principals=[PRINCIPAL])), ["eastgate", BARE], tuple(TARGETS)),
    "ALLOW a namespace": (policy("ALLOW", source(namespaces=[NAMESPACE])), PROXIES, tuple(TARGETS)),
    "DENY other namespaces": (policy("DENY", source(notNamespaces=[NAMESPACE])), PROXIES, tuple(TARGETS)),
    "ALLOW a port": (policy("ALLOW", ports("9090")), CLIENTS, ["9090"]),
    "DENY a port": (policy("DENY", ports("9090")), CLIENTS, ["8080"]),
    "ALLOW a port that nobody asks for": (policy("ALLOW", ports("9091")), (), ()),
    "ALLOW a principal at a port": (
        policy("ALLOW", {**source(principals=[PRINCIPAL]), **ports("8080")}),
        ["stock"],
        ["8080"],
    ),
}


@pytest.mark.parametrize("name", BY_NAME)
def test_policies_decide_as_beside_stock(permissive: Pairs, name: str) -> None:
    one, allowed, at = BY_NAME[name]
    permissive.kubectl.apply(one)
    becomes(permissive, name, table(allowed, ports=at))


@pytest.mark.parametrize("action", ["ALLOW", "DENY"])
def test_policies_by_address(permissive: Pairs, action: str) -> None:
    (pod,) = permissive.pods("client-stock")
    permissive.kubectl.apply(policy(action, source(ipBlocks=[pod["status"]["podIP"]])))
    becomes(permissive, f"{action} an address", table(["stock"] if action == "ALLOW" else ["eastgate", BARE]))
