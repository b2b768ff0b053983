"""eastgate as sidecar under a real pilot-agent, beside stock peers: mTLS both ways, readiness, drain, deletion."""

import contextlib
import itertools
import json
import time

import pytest

from lab.errors import LabError
from lab.kubectl import Kubectl
from lab.settings import PROXIES
from lab.shell import wait_for
from lab.traffic import Hold

from .pairs import BARE, GRACE_S, NAMESPACE, PROXY, Pairs

EVERY_PAIR = list(itertools.product(PROXIES, PROXIES))
COUNT = 20


@pytest.mark.parametrize("role", ["client", "server"])
def test_the_annotation_chooses_the_proxy(pairs: Pairs, role: str) -> None:
    assert "eastgate" in pairs.version(f"{role}-eastgate")
    assert "eastgate" not in pairs.version(f"{role}-stock")


@pytest.mark.parametrize(("client", "server"), EVERY_PAIR, ids=map("-to-".join, EVERY_PAIR))
def test_a_pair_talks_where_nothing_but_mutual_tls_is_allowed(pairs: Pairs, client: str, server: str) -> None:
    wait_for(f"{client} to {server}", lambda: not pairs.answered(client, f"server-{server}", 2).failed)
    seen = pairs.answered(client, f"server-{server}", COUNT)
    assert seen.answers == {server: COUNT}, seen.errors


@pytest.mark.parametrize("server", PROXIES)
def test_a_client_without_certificate_is_refused(pairs: Pairs, server: str) -> None:
    """What makes the test above one of mutual TLS."""
    seen = pairs.answered(BARE, f"server-{server}", 5)
    assert seen.failed == 5, seen.answers


@pytest.mark.parametrize("role", ["client", "server"])
def test_its_certificate_comes_from_pilot_agent(pairs: Pairs, role: str) -> None:
    """Over the socket that the bootstrap names; the agent got it from istiod."""
    certificates = json.loads(pairs.admin(f"{role}-eastgate", "/certs"))["certificates"]
    names = [name["uri"] for one in certificates for chain in one["cert_chain"] for name in chain["subject_alt_names"]]
    assert f"spiffe://cluster.local/ns/{NAMESPACE}/sa/{role}-eastgate" in names


@pytest.mark.parametrize("role", ["client", "server"])
def test_kubelet_finds_it_ready(pairs: Pairs, role: str) -> None:
    (pod,) = pairs.pods(f"{role}-eastgate")
    (sidecar,) = (one for one in pod["status"]["initContainerStatuses"] if one["name"] == PROXY)
    assert sidecar["ready"]
    assert sidecar["started"]
    assert sidecar["restartCount"] == 0


def test_ports_for_probes_and_metrics_serve_those_alone(pairs: Pairs) -> None:
    (pod,) = pairs.pods("server-eastgate")
    address = pod["status"]["podIP"]

    def status(port: int, path: str) -> str:
        script = "import sys, urllib.request as u, urllib.error as e\ntry: print(u.urlopen(sys.argv[1]).status)\n"
        script += "except e.HTTPError as error: print(error.code)"
        words = ("python3", "-c", script, f"http://{address}:{port}{path}")
        return pairs.kubectl.exec(NAMESPACE, f"deploy/client-{BARE}", f"client-{BARE}", *words).strip()

    pages = ((15021, "/healthz/ready"), (15090, "/stats/prometheus"), (15021, "/config_dump"), (15090, "/quitquitquit"))
    assert [status(*page) for page in pages] == ["200", "200", "404", "404"]


def test_clients_of_a_drained_server_go_elsewhere(pairs: Pairs) -> None:
    """As the article types it, in the pod."""
    wait_for("both answer", lambda: set(pairs.answered("eastgate", "servers", 10).answers) == set(PROXIES))
    for server, other in (PROXIES, PROXIES[::-1]):
        assert pairs.admin(f"server-{server}", "/drain_listeners", "POST") == "OK\n"
        try:
            wait_for(
                f"{server} takes no connection", lambda s=server: pairs.answered("eastgate", f"server-{s}", 1).failed
            )
            seen = pairs.answered("eastgate", "servers", COUNT)
            assert seen.answers == {other: COUNT}, seen.errors
            (pod,) = pairs.pods(f"server-{server}")
            assert ready(pod), "a drained pod is still Ready"
        finally:
            pairs.restart(f"server-{server}")
        wait_for(f"{server} is back", lambda s=server: not pairs.answered("eastgate", f"server-{s}", 2).failed)


def ready(pod: dict) -> bool:
    return any(one["type"] == "Ready" and one["status"] == "True" for one in pod["status"]["conditions"])


def gone(kubectl: Kubectl, name: str) -> bool:
    return not kubectl("-n", NAMESPACE, "get", "pod", name, "--ignore-not-found").strip()


def test_deletion_keeps_a_stream_until_the_grace_time_ends(pairs: Pairs) -> None:
    """Until then the application goes on; its sidecar must not be gone before it."""
    (old,) = pairs.pods("server-eastgate")
    name = old["metadata"]["name"]
    with Hold(pairs.kubectl, pairs.client("eastgate"), "server-eastgate") as stream:
        begin = time.monotonic()
        pairs.kubectl("-n", NAMESPACE, "delete", "pod", name, "--wait=false")
        wait_for("the pod is gone", lambda: gone(pairs.kubectl, name), seconds=120)
        took = time.monotonic() - begin
        seen = stream.stop()
    pairs.kubectl.wait_rolled_out(NAMESPACE, "server-eastgate")
    assert took < GRACE_S + 15
    assert seen.seconds > GRACE_S - 2, seen
    assert seen.ended, "the stream outlived its server"


def test_an_agent_that_is_gone_takes_its_proxy_along(pairs: Pairs) -> None:
    """kubelet starts both again; no proxy of before is left on the ports."""
    (pod,) = pairs.pods("client-eastgate")
    name = pod["metadata"]["name"]

    def restarts() -> int:
        (now,) = pairs.pods("client-eastgate")
        (one,) = (one for one in now["status"]["initContainerStatuses"] if one["name"] == PROXY)
        return int(one["restartCount"]) if one["ready"] else -1

    before = restarts()
    # The container ends while the command runs.
    with contextlib.suppress(LabError):
        pairs.kubectl.exec(NAMESPACE, name, PROXY, "curl", "-s", "-X", "POST", "http://127.0.0.1:15020/quitquitquit")
    wait_for("started again", lambda: restarts() == before + 1, seconds=60)
    wait_for("serves again", lambda: not pairs.answered("eastgate", "server-stock", 2).failed, seconds=60)
