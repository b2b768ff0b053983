"""A sidecar whose certificate comes late: not ready at 15021 until then, and nobody's connection fails.

The CA is away while the sidecar starts, istiod's configuration is not: pilot-agent asks a Service of its own for the
certificate, by a name that istiod has too. It takes half a minute: EASTGATE_LAB_LONG=1 (`make lab-test-long`).
"""

import json
import os
import time
from collections.abc import Iterator

import pytest

from lab import objects
from lab.errors import LabError
from lab.istio import NAMESPACE as ISTIO
from lab.settings import PROXIES
from lab.shell import wait_for
from lab.traffic import Load

from .pairs import NAMESPACE, PROXY, Pairs, echo, pod
from .rules import Object

CA, CA_PORT = "istio-pilot", 15012
LATE_S = 10.0
PER_SECOND = 10.0
NAMES = [f"late-{proxy}" for proxy in PROXIES]


def ca_service(selector: dict[str, str] | None) -> Object:
    """Of istiod's CA; without a selector nobody answers there."""
    one = objects.service(CA, ISTIO, "", [{"name": "tcp-ca", "port": CA_PORT, "targetPort": CA_PORT}])
    one["spec"]["selector"] = selector
    return one


def late(name: str, proxy: str) -> Object:
    """One more server behind the service of both."""
    config = {"proxyMetadata": {"CA_ADDR": f"{CA}.{ISTIO}.svc:{CA_PORT}"}}
    one = pod(name, proxy, echo(name), "other", **config)
    one["spec"]["template"]["metadata"]["labels"]["role"] = "server"
    return one


@pytest.fixture
def starting(pairs: Pairs) -> Iterator[Pairs]:
    """A pod of each proxy on its way up, the CA away."""
    pairs.kubectl.apply(ca_service(None))
    pairs.kubectl.apply(*(late(name, proxy) for name, proxy in zip(NAMES, PROXIES, strict=True)))
    yield pairs
    pairs.kubectl.delete(NAMESPACE, "deployment", *NAMES)
    pairs.kubectl.delete(ISTIO, "service", CA)


def status(pairs: Pairs, name: str) -> str:
    """What its port 15021 says to a pod that asks; 000 while nothing listens."""
    (one,) = pairs.pods(name)
    if not (address := one["status"].get("podIP")):
        return "000"
    url = f"http://{address}:15021/healthz/ready"
    script = f'curl -s -o /dev/null -m 5 -w "%{{http_code}}" {url} || true'
    return pairs.kubectl.exec(NAMESPACE, "deploy/client-bare", "client-bare", "sh", "-c", script)


def state(pairs: Pairs, name: str) -> str:
    try:
        return str(json.loads(pairs.admin(name, "/server_info"))["state"])
    except (LabError, ValueError):
        return ""


def refusals(pairs: Pairs, name: str) -> list[Object]:
    return list(json.loads(pairs.admin(name, "/refusals"))["refusals"])


@pytest.mark.skipif(not os.environ.get("EASTGATE_LAB_LONG"), reason="half a minute: make lab-test-long")
def test_without_its_certificate_it_is_not_ready_and_nobodys_connection_fails(starting: Pairs) -> None:
    loads = [
        Load(starting.kubectl, f"servers.{NAMESPACE}", PER_SECOND, starting.client(client), kind="tcp")
        for client in PROXIES
    ]
    with loads[0], loads[1]:
        for name in NAMES:
            wait_for(f"{name} initializes", lambda n=name: "INITIALIZING" in state(starting, n), seconds=60)
        wait_for("late-eastgate listens", lambda: status(starting, "late-eastgate") != "000", seconds=60)
        begin = time.monotonic()
        seen = {name: set[str]() for name in NAMES}
        while time.monotonic() - begin < LATE_S:
            for name in NAMES:
                seen[name].add(status(starting, name))
        # Envoy does not listen there before.
        assert seen == {"late-eastgate": {"503"}, "late-stock": {"000"}}
        for name in NAMES:
            assert "INITIALIZING" in state(starting, name)
        # It comes.
        starting.kubectl.apply(ca_service({"app": "istiod"}))
        for name in NAMES:
            wait_for(f"{name} is ready", lambda n=name: status(starting, n) == "200", seconds=120)
            starting.kubectl.wait_rolled_out(NAMESPACE, name)
        for client in PROXIES:
            wait_for(
                f"{client} is answered by both",
                lambda c=client: set(NAMES) <= set(starting.answered(c, "servers", 20).answers),
                seconds=60,
            )
        answers = [load.stop() for load in loads]
    for one in answers:
        assert one.failed == 0, one.errors
        assert one.total > LATE_S * PER_SECOND
    assert refusals(starting, "late-eastgate") == []
    assert [one["restartCount"] for name in NAMES for one in sidecar(starting, name)] == [0, 0]


def sidecar(pairs: Pairs, name: str) -> list[Object]:
    (one,) = pairs.pods(name)
    return [status for status in one["status"]["initContainerStatuses"] if status["name"] == PROXY]
