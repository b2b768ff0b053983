"""Who may connect to a TCP port: eastgate's sidecars decide as stock ones do, whatever sidecar the client has.

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
# Of one connection: (client, server) -> what became of it.
Verdicts = Mapping[tuple[str, str], str]
DENIED = "refused"


def seen(pairs: Pairs) -> dict[tuple[str, str], str]:
    """One connection of each client to each server."""
    targets = [f"tcp:server-{server}:80" for server in PROXIES]

    def of(client: str) -> list[str]:
        return pairs.client(client).each(pairs.kubectl, *targets)

    with ThreadPoolExecutor() as pool:
        rows = list(pool.map(of, CLIENTS))
    return {
        (client, server): word
        for client, row in zip(CLIENTS, rows, strict=True)
        for server, word in zip(PROXIES, row, strict=True)
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


def table(*allowed: str) -> dict[tuple[str, str], str]:
    """Verdicts where these clients are let in, and no other."""
    return {(client, server): server if client in allowed else DENIED for client in CLIENTS for server in PROXIES}


@pytest.fixture
def permissive(pairs: Pairs) -> Iterator[Pairs]:
    """Clients without sidecar may connect, so that policy alone decides. STRICT again at the end."""
    pairs.kubectl.apply(authentication("PERMISSIVE"))
    yield pairs
    pairs.kubectl("-n", NAMESPACE, "delete", "authorizationpolicy", "--all", "--ignore-not-found")
    pairs.kubectl.apply(authentication("STRICT"))


@pytest.mark.parametrize("mode", ["STRICT", "PERMISSIVE", "DISABLE"])
def test_modes_of_peer_authentication(permissive: Pairs, mode: str) -> None:
    permissive.kubectl.apply(authentication(mode))
    becomes(permissive, mode, table(*(PROXIES if mode == "STRICT" else CLIENTS)))


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
# Policy, and whom it lets in.
BY_NAME: Mapping[str, tuple[Object, Sequence[str]]] = {
    "ALLOW nothing": (policy("ALLOW"), ()),
    "ALLOW everybody": (policy("ALLOW", {}), CLIENTS),
    "ALLOW a principal": (policy("ALLOW", source(principals=[PRINCIPAL])), ["stock"]),
    "DENY a principal": (policy("DENY", source(principals=[PRINCIPAL])), ["eastgate", BARE]),
    "ALLOW a namespace": (policy("ALLOW", source(namespaces=[NAMESPACE])), PROXIES),
    "DENY other namespaces": (policy("DENY", source(notNamespaces=[NAMESPACE])), PROXIES),
    "ALLOW a port": (policy("ALLOW", ports("9090")), CLIENTS),
    "ALLOW another port": (policy("ALLOW", ports("8080")), ()),
    "DENY a port": (policy("DENY", ports("9090")), ()),
    "ALLOW a principal at a port": (policy("ALLOW", {**source(principals=[PRINCIPAL]), **ports("9090")}), ["stock"]),
}


@pytest.mark.parametrize("name", BY_NAME)
def test_policies_decide_as_beside_stock(permissive: Pairs, name: str) -> None:
    one, allowed = BY_NAME[name]
    permissive.kubectl.apply(one)
    becomes(permissive, name, table(*allowed))


@pytest.mark.parametrize("action", ["ALLOW", "DENY"])
def test_policies_by_address(permissive: Pairs, action: str) -> None:
    (pod,) = permissive.pods("client-stock")
    permissive.kubectl.apply(policy(action, source(ipBlocks=[pod["status"]["podIP"]])))
    becomes(permissive, f"{action} an address", table(*(["stock"] if action == "ALLOW" else ["eastgate", BARE])))
