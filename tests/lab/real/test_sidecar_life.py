"""The life of a pod with an eastgate sidecar: start order, rolling restart, rotation of certificates, the end.

EASTGATE_LAB_LONG=1 (`make lab-test-long`): rotations for ten minutes, and rolling restarts of pods that exit on zero.
"""

import json
import os
import time

import pytest

from lab.errors import LabError
from lab.settings import PROXIES
from lab.shell import wait_for
from lab.traffic import Answers, Client, Hold, Load

from .pairs import NAMESPACE, PROXY, SLEEPING, Pairs, deployed, echo, pod
from .rules import Object

LONG = bool(os.environ.get("EASTGATE_LAB_LONG"))
PER_SECOND = 20.0
# pilot-agent asks for a new certificate when half of the time is over.
SHORT_LIVED = {"SECRET_TTL": "30s"}
ROTATIONS, ROTATING_S = 2, 600.0 if LONG else 0.0
# After a drain the agent waits as long before it looks for connections; and how long it waits without this setting.
LEAST_DRAIN_S, USUAL_DRAIN_S = 2, 5
EXIT_ON_ZERO = {"EXIT_ON_ZERO_ACTIVE_CONNECTIONS": "true", "MINIMUM_DRAIN_DURATION": f"{LEAST_DRAIN_S}s"}
NOT_NATIVE = {"sidecar.istio.io/nativeSidecar": "false"}


@pytest.mark.parametrize("server", PROXIES)
def test_a_pod_dials_itself_and_its_peer(pairs: Pairs, server: str) -> None:
    """By its own service, its own address and the peer's service; nothing goes round in circles."""
    (other,) = (one for one in PROXIES if one != server)
    address = pairs.pods(f"server-{server}")[0]["status"]["podIP"]
    client = Client(NAMESPACE, f"server-{server}")
    targets = (f"tcp:server-{server}:80", f"tcp:{address}:9090", f"tcp:server-{other}:80")
    assert client.each(pairs.kubectl, *targets) == [server, server, other]


def restarted_under_load(pairs: Pairs, server: str, client: str = "eastgate") -> None:
    """Its only pod makes way for another one; no connection of the client beside that proxy fails meanwhile."""
    (old,) = pairs.pods(server)
    with Load(pairs.kubectl, f"{server}.{NAMESPACE}", PER_SECOND, pairs.client(client), kind="tcp") as load:
        pairs.restart(server)
        words = ("wait", "--for=delete", f"pod/{old['metadata']['name']}", "--timeout=120s")
        pairs.kubectl("-n", NAMESPACE, *words)
        seen = load.stop()
    assert seen.failed == 0, seen.errors
    assert seen.total > PER_SECOND * 3


def test_a_rolling_restart_under_load_loses_no_connection(pairs: Pairs) -> None:
    restarted_under_load(pairs, "server-eastgate")


def serials(pairs: Pairs, name: str) -> set[str]:
    """Of the certificates that the sidecar of this Deployment shows its peers."""
    if not (said := pairs.admin(name, "/certs")):
        raise LabError(f"{name} said nothing")
    known = json.loads(said)["certificates"]
    return {str(chain["serial_number"]) for one in known for chain in one.get("cert_chain", ())}


@pytest.mark.timeout(300 + ROTATING_S)
def test_a_rotation_cuts_no_connection(pairs: Pairs) -> None:
    """Certificates that live for half a minute: both ends get new ones, again and again, while a connection is used."""
    ends = ("short-client", "short-server")
    config = {"proxyMetadata": SHORT_LIVED}
    with deployed(
        pairs,
        pod(ends[0], "eastgate", SLEEPING, "other", **config),
        pod(ends[1], "eastgate", echo("short"), "other", **config),
    ):
        with Hold(pairs.kubectl, Client(NAMESPACE, ends[0]), ends[1], per_second=PER_SECOND) as stream:
            begin, rotations = time.monotonic(), 0
            while rotations < ROTATIONS or time.monotonic() - begin < ROTATING_S:
                rotations += 1
                known = {name: serials(pairs, name) for name in ends}
                for name in ends:
                    wait_for(f"{name} has another certificate", lambda n=name, k=known: not serials(pairs, n) & k[n])
            seen = stream.stop()
        assert not seen.ended, seen
        assert seen.answers > PER_SECOND * max(10.0, 0.9 * ROTATING_S)
        # And new connections are made with the new ones.
        assert Client(NAMESPACE, ends[0]).each(pairs.kubectl, f"tcp:{ends[1]}:80") == ["short"]


def not_native(deployment: Object) -> Object:
    """With its sidecar as an ordinary container."""
    deployment["spec"]["template"]["metadata"]["annotations"].update(NOT_NATIVE)
    return deployment


def runs(pairs: Pairs, name: str) -> bool:
    """Whether the sidecar of this pod runs. The pod's status tells it only when all containers have ended."""
    try:
        pairs.kubectl.exec(NAMESPACE, name, PROXY, "true")
    except LabError:
        return False
    return True


def test_an_application_that_is_held_starts_after_its_proxy(pairs: Pairs) -> None:
    """An ordinary container with a hook that waits for port 15021: the first connection of the application works."""
    script = "import subprocess as s, time; s.run(['python3', '/app/load.py', 'tcp', 'server-stock', '80', '1'])"
    container = {**SLEEPING, "args": ["-c", f"{script}; time.sleep(1e9)"]}
    held = not_native(pod("held", "eastgate", container, "other", holdApplicationUntilProxyStarts=True))
    with deployed(pairs, held):
        said: list[str] = []

        def told() -> bool:
            said[:] = pairs.kubectl("-n", NAMESPACE, "logs", "deploy/held", "-c", "held").splitlines()
            return bool(said)

        wait_for("its first connection", told, seconds=30)
        assert Answers.parse(said[0]).answers == {"stock": 1}, said


def test_a_proxy_that_exits_on_zero_waits_for_its_connections(pairs: Pairs) -> None:
    """pilot-agent drains it and looks for connections; as long as there is one it goes on, then it ends."""
    server = not_native(pod("zero", "eastgate", echo("zero"), "other", proxyMetadata=EXIT_ON_ZERO))
    server["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = 60
    with deployed(pairs, server):
        (old,) = pairs.pods("zero")
        name = old["metadata"]["name"]
        with Hold(pairs.kubectl, pairs.client("eastgate"), "zero") as stream:
            began = time.monotonic()
            pairs.kubectl("-n", NAMESPACE, "delete", "pod", name, "--wait=false")
            wait_for(
                "longer than an agent waits without the setting",
                lambda: time.monotonic() - began > USUAL_DRAIN_S + LEAST_DRAIN_S + 3,
            )
            assert runs(pairs, name)
            seen = stream.stop()
        assert not seen.ended, seen
        wait_for("the proxy ends", lambda: not runs(pairs, name), seconds=30)
        pairs.kubectl("-n", NAMESPACE, "delete", "pod", name, "--force", "--grace-period=0", "--ignore-not-found")


@pytest.mark.skipif(not LONG, reason="half a minute each: make lab-test-long")
@pytest.mark.parametrize("client", PROXIES)
def test_a_rolling_restart_of_pods_that_exit_on_zero_loses_no_connection(pairs: Pairs, client: str) -> None:
    """An ordinary container, which gets its SIGTERM together with the application."""
    server = not_native(pod("rolling", "eastgate", echo("rolling"), "other", proxyMetadata=EXIT_ON_ZERO))
    with deployed(pairs, server):
        wait_for("it answers", lambda: not pairs.answered(client, "rolling", 2).failed)
        restarted_under_load(pairs, "rolling", client)
