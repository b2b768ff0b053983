"""Whom a policy lets in is let in, and nobody else, whatever ALPN is offered: eastgate's verdicts are those of stock.

The client is a program with the certificate of a pod, which its pilot-agent writes to a folder: no sidecar chooses what
is offered.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from lab import objects
from lab.settings import PROXIES, ROOT
from lab.shell import wait_for

from .pairs import NAMESPACE, PROXY, SLEEPING, Pairs, deployed, pod
from .rules import Object

NAME = "offering"
FOLDER = "/var/lib/istio/data"
PROGRAM = Path(ROOT / "lab/app/alpn.py").read_text()
ISTIOS = ("istio", "istio-peer-exchange,istio", "istio-http/1.0,istio", "istio-http/1.1,istio,http/1.1")
# Kind and port of the pod -> what is offered. HTTP/2 would want another answer than these requests get.
OFFERS = {
    ("tcp", 9090): (*ISTIOS, "istio-h2,istio,h2", "h2", "http/1.1", "else", ""),
    ("http", 8080): (*ISTIOS, "http/1.1", "else", ""),
}
CELLS = [(kind, port, offer) for (kind, port), offers in OFFERS.items() for offer in offers]
IDENTITY = f"cluster.local/ns/{NAMESPACE}/sa/{NAME}"


def policy(action: str, *principals: str) -> Object:
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": "alpn", "namespace": NAMESPACE},
        "spec": {"action": action, "rules": [{"from": [{"source": {"principals": list(principals)}}]}]},
    }


@pytest.fixture(scope="module")
def offering(pairs: Pairs) -> Iterator[Pairs]:
    """A pod with an identity of its own, whose certificate is a file."""
    client = pod(NAME, "stock", SLEEPING, "other", proxyMetadata={"OUTPUT_CERTS": FOLDER})
    client["spec"]["template"]["spec"]["serviceAccountName"] = NAME
    pairs.kubectl.apply(objects.service_account(NAME, NAMESPACE))
    with deployed(pairs, client):
        yield pairs


def seen(pairs: Pairs, server: str) -> list[str]:
    """What became of each cell, in the place of the server's name its role."""
    address = pairs.pods(f"server-{server}")[0]["status"]["podIP"]
    targets = [f"{kind}:{address}:{port}:{offer}" for kind, port, offer in CELLS]
    words = ("python3", "-", FOLDER, *targets)
    said: Sequence[str] = json.loads(pairs.kubectl.exec(NAMESPACE, f"deploy/{NAME}", PROXY, *words, input=PROGRAM))
    return ["answered" if word == server else word for word in said]


@pytest.mark.parametrize(
    ("action", "principal", "let_in"),
    [("ALLOW", IDENTITY, True), ("ALLOW", f"{IDENTITY}-not", False), ("DENY", IDENTITY, False)],
    ids=["allowed", "not-allowed", "denied"],
)
def test_verdict_of_each_offer_is_that_of_stock(offering: Pairs, action: str, principal: str, let_in: bool) -> None:
    offering.kubectl.apply(policy(action, principal))
    first = CELLS.index(("tcp", 9090, "istio"))
    try:
        # A push reaches both, one after the other.
        for server in PROXIES:
            wait_for(
                f"{server}: {action}", lambda s=server: (seen(offering, s)[first] == "answered") is let_in, seconds=60
            )
        ours, stock = (dict(zip(CELLS, seen(offering, server), strict=True)) for server in PROXIES)
        assert ours == stock
        assert ("answered" in ours.values()) is let_in
    finally:
        offering.kubectl.delete(NAMESPACE, "authorizationpolicy", "alpn")
