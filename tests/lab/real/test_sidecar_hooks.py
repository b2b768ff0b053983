"""What kubelet runs in a pod goes through eastgate as through stock Envoy: init containers, hooks, rewritten probes.

Nothing but mutual TLS is allowed to the pods, so a probe comes through only as injection rewrites it, and what a hook
or an init container asks answers only through its sidecar.
"""

import json
from collections.abc import Iterator

import pytest

from lab.objects import image
from lab.settings import PROXIES
from lab.shell import wait_for
from lab.traffic import Answers

from .pairs import NAMESPACE, PROXY, Pairs, deployed, pod
from .rules import Object

# Serves a folder; whether it is ready is whether this file is there.
READY = "/tmp/www/ready"
SERVES = f"mkdir -p /tmp/www && touch {READY} && exec python3 -m http.server 8080 --directory /tmp/www"
PORTS = [{"name": "http", "port": 8080, "targetPort": 8080}]
EVERY_S = {"periodSeconds": 1, "timeoutSeconds": 2}


def asks(server: str, then: str = "") -> list[str]:
    """A command that asks the server beside that proxy once, and tells it where the container's log is."""
    return ["sh", "-c", f"python3 /app/load.py tcp server-{server} 80 1 > /proc/1/fd/1 2>&1{then}"]


def hooked(proxy: str) -> Object:
    """A server whose pod asks the other kind before its container, at its start and at its end."""
    (other,) = (one for one in PROXIES if one != proxy)
    container = {
        "image": image("app"),
        "command": ["sh", "-c", SERVES],
        "startupProbe": {"exec": {"command": ["test", "-e", READY]}, **EVERY_S, "failureThreshold": 30},
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8080}, **EVERY_S, "failureThreshold": 1},
        "livenessProbe": {"tcpSocket": {"port": 8080}, **EVERY_S, "failureThreshold": 5},
        "lifecycle": {
            "postStart": {"exec": {"command": asks(other)}},
            "preStop": {"exec": {"command": asks(other, "; sleep 3")}},
        },
    }
    one = pod(f"hooked-{proxy}", proxy, container, "other")
    one["spec"]["template"]["spec"]["initContainers"] = [
        {"name": "first", "image": image("app"), "imagePullPolicy": "Never", "command": asks(other)}
    ]
    return one


@pytest.fixture(scope="module")
def with_hooks(pairs: Pairs) -> Iterator[Pairs]:
    with deployed(pairs, *map(hooked, PROXIES), ports=PORTS):
        yield pairs


def the_pod(pairs: Pairs, proxy: str) -> Object:
    (one,) = pairs.pods(f"hooked-{proxy}")
    return one


def told(pairs: Pairs, name: str, container: str) -> list[Answers]:
    """What its load generators said in the log of this container."""
    lines = pairs.kubectl("-n", NAMESPACE, "logs", name, "-c", container).splitlines()
    return [Answers.parse(line) for line in lines if line.startswith('{"answers"')]


@pytest.mark.parametrize("proxy", PROXIES)
def test_an_init_container_and_a_start_hook_reach_the_mesh(with_hooks: Pairs, proxy: str) -> None:
    """The sidecar is a native one: it runs before them."""
    one = the_pod(with_hooks, proxy)
    assert PROXY in {init["name"] for init in one["spec"]["initContainers"]}
    (other,) = (kind for kind in PROXIES if kind != proxy)
    for container in ("first", f"hooked-{proxy}"):
        said = told(with_hooks, one["metadata"]["name"], container)
        assert [answers.answers for answers in said] == [{other: 1}], said


@pytest.mark.parametrize("proxy", PROXIES)
def test_probes_that_injection_rewrote_say_what_the_application_says(with_hooks: Pairs, proxy: str) -> None:
    def ready() -> bool:
        conditions = {each["type"]: each["status"] for each in the_pod(with_hooks, proxy)["status"]["conditions"]}
        return conditions["Ready"] == "True"

    name = f"hooked-{proxy}"
    (container,) = (each for each in the_pod(with_hooks, proxy)["spec"]["containers"] if each["name"] == name)
    for probe, kind in (("readinessProbe", "readyz"), ("livenessProbe", "livez")):
        assert container[probe]["httpGet"]["path"] == f"/app-health/{name}/{kind}", json.dumps(container[probe])
    wait_for(f"{name} is ready", ready)
    with_hooks.kubectl.exec(NAMESPACE, f"deploy/{name}", name, "rm", READY)
    wait_for(f"{name} is not ready", lambda: not ready())
    with_hooks.kubectl.exec(NAMESPACE, f"deploy/{name}", name, "touch", READY)
    wait_for(f"{name} is ready again", ready)
    containers = the_pod(with_hooks, proxy)["status"]["containerStatuses"]
    assert [each["restartCount"] for each in containers if each["name"] == name] == [0]


@pytest.mark.parametrize("proxy", PROXIES)
def test_a_stop_hook_still_reaches_the_mesh(with_hooks: Pairs, proxy: str) -> None:
    """The sidecar outlives the containers of its pod."""
    name = the_pod(with_hooks, proxy)["metadata"]["name"]
    before = len(told(with_hooks, name, f"hooked-{proxy}"))
    (other,) = (kind for kind in PROXIES if kind != proxy)
    with_hooks.kubectl("-n", NAMESPACE, "delete", "pod", name, "--wait=false")
    said: list[Answers] = []

    def hook_has_run() -> bool:
        said[:] = told(with_hooks, name, f"hooked-{proxy}")[before:]
        return bool(said)

    wait_for("the hook has run", hook_has_run, seconds=30)
    assert [answers.answers for answers in said] == [{other: 1}], said
