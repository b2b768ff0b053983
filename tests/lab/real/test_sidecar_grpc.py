"""grpc-go beside eastgate and stock sidecars: its client sends nothing more until the server's SETTINGS have come."""

import itertools
from collections.abc import Iterator

import pytest

from lab.objects import image
from lab.settings import PROXIES
from lab.shell import wait_for

from .pairs import Pairs, deployed, pod
from .rules import Object

EVERY_PAIR = list(itertools.product(PROXIES, PROXIES))
# A port that is said to be gRPC, and one of which the proxies find it out.
PORTS = {"grpc": 7070, "any": 7071}
CONNECTIONS = 3
SETTINGS_MS = 1000.0


def server(proxy: str) -> Object:
    words = ["serve", proxy, *map(str, PORTS.values())]
    return pod(f"grpc-{proxy}", proxy, {"image": image("app"), "command": ["/app/grpc"], "args": words}, "other")


@pytest.fixture(scope="module")
def served(pairs: Pairs) -> Iterator[Pairs]:
    """A server of grpc-go beside each proxy; the clients are those of the pairs."""
    ports = [{"name": name, "port": port, "targetPort": port} for name, port in PORTS.items()]
    with deployed(pairs, *map(server, PROXIES), ports=ports):
        yield pairs


@pytest.mark.parametrize("port", PORTS)
@pytest.mark.parametrize(("client", "server"), EVERY_PAIR, ids=map("-to-".join, EVERY_PAIR))
def test_a_client_that_waits_for_settings_gets_them(served: Pairs, client: str, server: str, port: str) -> None:
    place = (served.kubectl, f"grpc-{server}", PORTS[port])
    wait_for(f"{client} to {server}, {port}", lambda: not served.client(client).call(*place, 1).error, seconds=60)
    said = served.client(client).call(*place, CONNECTIONS)
    assert said.error == ""
    assert said.answers == {server: CONNECTIONS * (1 + CONNECTIONS)}
    # The quickest: whoever waits for what the client does not send waits each time.
    assert min(said.ready_ms) < SETTINGS_MS, said
