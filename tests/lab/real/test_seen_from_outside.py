"""The tools that look from outside, at pods with stock Envoy and with eastgate: probes from a pod, of one service and
of all of a gateway's, and the page of a pod.
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from lab import gateways
from lab.settings import ANTHOS, GKE, PROXIES

from .mesh import Mesh
from .pairs import NAMESPACE, Pairs
from .rules import host
from .user import User

GATEWAY = f"{ANTHOS.gateway_ip}:15443"
SERVICE = "echo-tcp"
SNI = f"outbound_.80_._.{host(SERVICE)}"
SERVERS = f"outbound|80||servers.{NAMESPACE}.svc.cluster.local"


@pytest.fixture
def user(mesh: Mesh, tmp_path: Path) -> User:
    return User(mesh.lab, tmp_path)


def pod_of(proxy: str) -> tuple[str, ...]:
    return f"deploy/client-{proxy}.{NAMESPACE}", "--context", GKE.name


@pytest.mark.parametrize("proxy", PROXIES)
def test_a_pod_reaches_the_other_clusters_service(user: User, pairs: Pairs, proxy: str) -> None:
    words = (GATEWAY, "--service", f"{SERVICE}.default:80", "--from", *pod_of(proxy))
    (one,) = user.json("probe", *words)["probes"]
    assert (one["verdict"], one["server_name"]) == ("mesh", SNI)
    (uri,) = one["certificate"]["uris"]
    assert re.fullmatch(r"spiffe://[^/]+/ns/default/sa/[^/]+", uri)


@pytest.mark.parametrize("proxy", PROXIES)
def test_a_pod_is_refused_what_there_is_not(user: User, pairs: Pairs, proxy: str) -> None:
    words = (GATEWAY, "--service", "nobody.default:80", "--from", *pod_of(proxy))
    (one,) = user.json("probe", *words, codes=(1,))["probes"]
    assert one["verdict"] == "closed"


def test_all_services_of_a_gateways_pod_are_tried(user: User) -> None:
    pod = (f"deploy/{gateways.NAME}.{gateways.NAMESPACE}", "--context", ANTHOS.name)
    found = {
        one["server_name"]: one for one in user.json("probe", GATEWAY, "--all", "--pod", *pod, codes=(0, 1))["probes"]
    }
    assert len(found) > 3
    assert found[SNI]["verdict"] == "mesh"
    (one,) = user.json("probe", GATEWAY, "--service", "ecko-tcp.default:80", "--pod", *pod, codes=(1,))["probes"]
    assert one["gateway"] == f"unknown server name; the nearest that it knows is {SNI}"


@contextmanager
def page(user: User, *pod: str) -> Iterator[str]:
    """The URL of `eastgate page --pod`, while it serves."""
    with user.runs("page", "--pod", *pod) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        found = re.search(r"http://\S+/", said)
        assert found, said
        yield found.group()


@pytest.mark.parametrize("proxy", PROXIES)
def test_the_page_of_a_pod_says_what_its_proxy_has(user: User, pairs: Pairs, proxy: str) -> None:
    with page(user, *pod_of(proxy)) as url:
        assert user.page(url).startswith("<!doctype html>")

        def asked(path: str) -> Any:
            return json.loads(user.page(url + path))

        assert {"traffic", "compare", "certs", "doctor"} <= set(asked("ui/about")["views"])
        (line,) = [one for one in asked("ui/clusters")["clusters"] if one["name"] == SERVERS]
        assert (line["state"], line["endpoints"], line["healthy"]) == ("well", 2, 2)
        explained = asked(f"ui/cluster?name={quote(SERVERS, safe='')}")
        addresses = {f"{one['status']['podIP']}:9090" for name in PROXIES for one in pairs.pods(f"server-{name}")}
        assert {one["address"]: one["share"] for one in explained["endpoints"]} == dict.fromkeys(addresses, 0.5)
        assert explained["groups"][0]["endpoints"] == explained["endpoint_count"] == 2
        first = explained["endpoints"][0]["address"]
        down = asked(f"ui/cluster?name={quote(SERVERS, safe='')}&what_if=down={first}")["what_if"]["endpoints"]
        assert {one["address"]: one["share"] for one in down} == {one: float(one != first) for one in addresses}
        assert asked("ui/findings")["findings"] is not None
