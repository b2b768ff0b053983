"""`eastgate-envoy` as pilot-agent runs it: its bootstrap and argv, its sockets, its questions, its ways to end it."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from eastgate.xds.message import encode, read

from ..fastpath.test_parent import alive
from ..support import messages
from ..support.pilot_agent import ACTIVE, ARGUMENTS, ENVOY, SIDECAR, STATE, UPDATES, InEnvoysPlace, Pod, rendered
from ..support.recordings import CDS, LDS
from ..support.secrets import SPIFFE, ca_secret, keyed, tls_secret
from ..support.waiting import until
from ..xds.test_secret_refs import WORKLOAD
from ..xds.test_secret_refs import socket as transport_socket

NAME = messages.sni("echo")
READY, METRICS = "0.0.0.0_15021", "0.0.0.0_15090"
INBOUND, OUTBOUND = "inbound", "outbound"


def directed(name: str, direction: str, port: int = 0) -> bytes:
    value = read("envoy.config.listener.v3.Listener", messages.resources({NAME: []})[LDS][messages.LISTENER])
    value |= {"name": name, "traffic_direction": direction}
    value["address"] = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    return encode("envoy.config.listener.v3.Listener", value)


def resources() -> dict[str, dict[str, bytes]]:
    """A cluster that needs the workload's key, and a listener of each direction."""
    found = messages.resources({NAME: []})
    cluster = read("envoy.config.cluster.v3.Cluster", found[CDS][NAME])
    cluster["transport_socket"] = transport_socket("UpstreamTlsContext", **WORKLOAD)
    return {
        **found,
        CDS: {NAME: encode("envoy.config.cluster.v3.Cluster", cluster)},
        LDS: {name: directed(name, name.upper()) for name in (INBOUND, OUTBOUND)},
    }


def secrets() -> dict[str, bytes]:
    root = keyed("root")
    return {"default": tls_secret("default", keyed(SPIFFE)), "ROOTCA": ca_secret("ROOTCA", root.certificate)}


@pytest.fixture
def pod(tmp_path: Path) -> Iterator[Pod]:
    with Pod(tmp_path, resources(), secrets()) as made:
        yield made


def raw_get(port: int, target: str, method: str = "GET") -> tuple[int, str]:
    """The answer to a request line that no client library would send: the agent's expressions come unescaped."""
    with socket.create_connection(("127.0.0.1", port), 10) as client:
        client.sendall(f"{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while part := client.recv(65536):
            answer += part
    head, _, body = answer.partition(b"\r\n\r\n")
    if b"chunked" in head:
        body = b"".join(body.split(b"\r\n")[1::2])
    return int(head.split()[1]), body.decode()


def asked(proxy: InEnvoysPlace, target: str) -> dict[str, str]:
    status, body = raw_get(urlsplit(proxy.admin).port or 0, target)
    assert status == 200, body
    return dict(line.split(": ") for line in body.splitlines())


def refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 5).close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:
        # It came while the socket was being closed.
        return False
    return False


def drained(proxy: InEnvoysPlace, query: str) -> None:
    assert proxy.get(f"/drain_listeners?{query}", method="POST") == (200, "OK\n")


def test_ready_with_the_first_secret_and_not_before(pod: Pod) -> None:
    """An SDS that answers late keeps it from being ready; nothing listens before."""
    pod.sds.agent.secrets = {"ROOTCA": pod.sds.agent.secrets["ROOTCA"]}
    with pod.proxy() as proxy:
        until(lambda: asked(proxy, UPDATES).get("listener_manager.lds.update_success") == "1", "LDS came")
        until(lambda: "ROOTCA" in pod.sds.agent.acked, "the other secret came")
        assert asked(proxy, UPDATES) == {
            "cluster_manager.cds.update_success": "1",
            "listener_manager.lds.update_success": "1",
        }
        assert asked(proxy, STATE) == {"listener_manager.workers_started": "0", "server.state": "3"}
        pod.sds.agent.secrets = secrets()
        until(lambda: asked(proxy, STATE)["server.state"] == "0", "it is live with the secret")
        assert asked(proxy, STATE) == {"listener_manager.workers_started": "1", "server.state": "0"}
        # One stream for each name, the node first and to the letter.
        assert sorted(request.resource_names for request in pod.sds.agent.requests if request.node) == [
            ["ROOTCA"],
            *[["default"]] * (len([one for one in pod.sds.agent.requests if one.node]) - 1),
        ]
        assert {request.node.id for request in pod.sds.agent.requests if request.node} == {SIDECAR}
        assert proxy.json("/server_info")["node"]["metadata"] == pod.bootstrap["node"]["metadata"]


def test_static_listeners_serve_their_paths_before_anything_came(pod: Pod) -> None:
    pod.ads.stop()
    with pod.proxy() as proxy:
        ready, metrics = proxy.static_port(READY), proxy.static_port(METRICS)
        assert raw_get(ready, "/healthz/ready")[0] == 200
        pod.pages.status = 503
        assert raw_get(ready, "/healthz/ready")[0] == 503
        assert pod.pages.asked == ["/healthz/ready"] * 2
        for path in ("/quitquitquit", "/stats/prometheus", "/", "/healthz/ready/../../quitquitquit", "/config_dump"):
            assert raw_get(ready, path)[0] == 404
        for path in ("/quitquitquit", "/healthz/ready", "/stats", "/stats/prometheus/../../quitquitquit"):
            assert raw_get(metrics, path)[0] == 404
        for path in ("/healthz/ready", "/quitquitquit"):
            assert raw_get(ready, path, "POST")[0] in (404, 405)
        assert len(pod.pages.asked) == 2
        status, text = raw_get(metrics, "/stats/prometheus?usedonly")
        assert status == 200
        assert "envoy_server_state 2" in text
        assert "# EOF" not in text
        with socket.create_connection(("127.0.0.1", ready), 5):
            name = f"listener.{READY}.downstream_cx_active"
            until(lambda: asked(proxy, ACTIVE).get(name) == "1", "it is counted under Envoy's name")


def test_istioctl_finds_the_static_part_in_dumps(pod: Pod) -> None:
    with pod.proxy() as proxy:
        proxy.wait_ready()
        sections = {one["@type"].rpartition(".")[2]: one for one in proxy.json("/config_dump")["configs"]}
        routes = sections["RoutesConfigDump"]["static_route_configs"]
        prefixes = {
            route["match"]["prefix"]
            for one in routes
            for host in one["route_config"].get("virtual_hosts", ())
            for route in host["routes"]
        }
        assert prefixes == {"/stats/prometheus", "/healthz/ready"}
        clusters = [one["cluster"]["name"] for one in sections["ClustersConfigDump"]["static_clusters"]]
        assert clusters == ["prometheus_stats", "agent", "sds-grpc", "xds-grpc"]
        assert [one["listener"]["name"] for one in sections["ListenersConfigDump"]["static_listeners"]] == [
            METRICS,
            READY,
        ]
        bootstrap = sections["BootstrapConfigDump"]["bootstrap"]
        assert bootstrap["stats_config"] == pod.bootstrap["stats_config"]
        assert bootstrap["node"]["id"] == SIDECAR


def test_plain_drain_stops_all_listeners_now(pod: Pod) -> None:
    with pod.proxy() as proxy:
        proxy.wait_ready()
        ports = [proxy.static_port(READY), proxy.static_port(METRICS)]
        ports += [proxy.bound_address(name)[1] for name in (INBOUND, OUTBOUND)]
        with socket.create_connection(("127.0.0.1", ports[0]), 5) as open_one:
            # Accepted before: it goes on.
            until(lambda: asked(proxy, ACTIVE)[f"listener.{READY}.downstream_cx_active"] == "1", "it is accepted")
            drained(proxy, "")
            assert all(refused(port) for port in ports)
            open_one.sendall(b"GET /healthz/ready HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            assert b" 200 " in open_one.recv(100)
        assert proxy.running
        drained(proxy, "graceful")
        # What comes later does not listen either.
        pod.ads.push_some(LDS, {"late": directed("late", "OUTBOUND")})
        assert asked(proxy, UPDATES)["listener_manager.lds.update_success"] == "2"
        assert all(refused(port) for port in ports)


def test_inbound_drain_leaves_the_rest(pod: Pod) -> None:
    with pod.proxy("--drain-time-s", "0") as proxy:
        proxy.wait_ready()
        inbound, outbound = (proxy.bound_address(name)[1] for name in (INBOUND, OUTBOUND))
        drained(proxy, "inboundonly&graceful")
        until(lambda: refused(inbound), "inbound is closed after the window")
        assert not refused(outbound)
        assert raw_get(proxy.static_port(READY), "/healthz/ready")[0] == 200
        pod.ads.push_some(LDS, {"late": directed("late", "INBOUND"), "other": directed("other", "OUTBOUND")})
        assert not refused(proxy.bound_address("other")[1])
        names = {one["name"] for one in proxy.json("/listeners?format=json")["listener_statuses"]}
        assert "late" not in names or not proxy.json("/listeners?format=json")


@pytest.mark.parametrize("query", ["inboundonly&graceful", "graceful", "inboundonly&graceful&skip_exit"])
def test_graceful_drain_goes_on_accepting(pod: Pod, query: str) -> None:
    with pod.proxy() as proxy:
        proxy.wait_ready()
        ports = [proxy.static_port(READY), *(proxy.bound_address(name)[1] for name in (INBOUND, OUTBOUND))]
        drained(proxy, query)
        drained(proxy, query)
        assert not any(refused(port) for port in ports)
        assert raw_get(ports[0], "/healthz/ready")[0] == 200


def test_exit_on_zero_can_be_polled(pod: Pod) -> None:
    """Case (c) of pilot-agent: the sum over listeners but its own must come to nothing."""
    own = {f"listener.{READY}.downstream_cx_active", f"listener.{METRICS}.downstream_cx_active"}

    def summed(proxy: InEnvoysPlace) -> int:
        found = asked(proxy, ACTIVE)
        assert found
        return sum(
            int(value)
            for name, value in found.items()
            if name.startswith("listener.") and "worker_" not in name and name not in own
        )

    with pod.proxy() as proxy:
        proxy.wait_ready()
        drained(proxy, "graceful")
        assert summed(proxy) == 0
        with socket.create_connection(("127.0.0.1", proxy.static_port(READY)), 5):
            until(
                lambda: (
                    f"listener.{READY}.downstream_cx_active: 1" in raw_get(urlsplit(proxy.admin).port or 0, ACTIVE)[1]
                ),
                "one",
            )
            assert summed(proxy) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_it_at_once(pod: Pod, number: signal.Signals) -> None:
    with pod.proxy() as proxy:
        proxy.wait_ready()
        for harmless in (signal.SIGHUP, signal.SIGUSR1, signal.SIGPIPE):
            proxy.signal(harmless)
        assert proxy.is_ready()
        proxy.signal(number)
        assert proxy.wait() == 0


def test_it_dies_with_its_parent_and_its_children_with_it(pod: Pod, tmp_path: Path) -> None:
    file = tmp_path / "bootstrap.json"
    file.write_text(json.dumps(pod.bootstrap))
    script = "import subprocess, sys\nprint(subprocess.Popen(sys.argv[1:]).pid, flush=True)\nsys.stdin.read()"
    command = [sys.executable, "-c", script, ENVOY, "-c", str(file), *ARGUMENTS]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        assert parent.stderr is not None
        child = int(parent.stdout.readline())
        assert "admin listening on" in parent.stderr.readline()
        grandchildren = [int(pid) for pid in Path(f"/proc/{child}/task/{child}/children").read_text().split()]
        assert grandchildren
        parent.kill()
        until(lambda: not any(alive(pid) for pid in (child, *grandchildren)), "all of them have ended")


# Every mount is read-only for what runs in it; what is connected to need not be writable.
READ_ONLY = """
mount --make-rprivate /
cut -d' ' -f2 /proc/self/mounts | sort -u | while read -r place; do
    case "$place" in
        /proc*|/sys*|/dev*) ;;
        *) mount -o remount,bind,ro "$place" ;;
    esac
done
if touch "$1/writable" 2>/dev/null; then echo "$1 can be written to" >&2; exit 3; fi
shift
exec setpriv --bounding-set=-all --inh-caps=-all --no-new-privs -- "$@"
"""


def test_it_needs_no_capability_and_nothing_to_write_to(pod: Pod, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.fail("needs root, to make a file system read-only")
    command = [ENVOY, "--config-yaml", json.dumps(pod.bootstrap), *ARGUMENTS]
    with subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", READ_ONLY, "sh", str(tmp_path), *command],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        assert line.startswith("admin listening on "), line + process.stderr.read()
        status = Path(f"/proc/{process.pid}/status").read_text()
        assert "CapEff:\t0000000000000000" in status
        port = urlsplit(line.split()[-1]).port or 0
        until(lambda: raw_get(port, "/ready")[0] == 200, "it is ready")
        process.terminate()
        assert process.wait(20) == 0


def test_the_admin_address_is_written_where_it_is_wanted(pod: Pod, tmp_path: Path) -> None:
    file = tmp_path / "address"
    with pod.proxy("--admin-address-path", str(file)) as proxy:
        until(file.exists, "the address is written")
        assert f"http://{file.read_text()}" == proxy.admin


def test_a_port_that_is_taken_ends_it_with_one_line(pod: Pod, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        value: dict[str, Any] = rendered(tmp_path, 1)
        value["static_resources"]["listeners"][1]["address"]["socket_address"]["port_value"] = taken.getsockname()[1]
        ended = subprocess.run(
            [ENVOY, "--config-yaml", json.dumps(value)], capture_output=True, text=True, timeout=60, check=False
        )
    assert ended.returncode == 1
    assert f"eastgate-envoy: static listener {READY} at 127.0.0.1:" in ended.stderr
    assert "Traceback" not in ended.stderr
