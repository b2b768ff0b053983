"""In a namespace of its own: what a real istiod sent drives a gateway, and real clients go through it.

Usage: recorded_scenario <eastgate|envoy> <gke|anthos>. Prints one JSON document with what was seen; the tests judge it.
"""

import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from envoy_data_plane.envoy.config.core.v3 import HealthStatus

from ..support import messages
from ..support.gateway_process import ProxyProcess, start
from ..support.hellos import client_hello, in_records, padded, proxy_v1, proxy_v2
from ..support.messages import At
from ..support.netns import Steps, bring_up
from ..support.recordings import (
    CDS,
    EDS,
    LDS,
    Resources,
    push_series,
    recorded,
    recorded_clusters,
    recorded_node,
    stages,
)
from ..support.replay_ads import ReplayThread
from ..support.tls_echo import Endpoint, PlainPeer, Reader, TestCa, TlsPeer, connect, pattern, sha256
from ..support.waiting import until

ADDRESSES = {
    "gke": {"gateway": "10.100.10.6", "echo": ("10.24.1.9", "10.24.2.10"), "httpbin": "10.24.2.48"},
    "anthos": {"gateway": "172.16.10.152", "echo": ("10.10.2.59", "10.10.3.80"), "httpbin": "10.10.3.248"},
}
HOST = "echo-svc.default.svc.cluster.local"
GOOD = f"outbound_.80_._.{HOST}"
TCP = "outbound_.80_._.echo-tcp.default.svc.cluster.local"
PLAIN = "outbound_.80_._.httpbin-svc.sleep.svc.cluster.local"
PORT, PROXY_PORT, QUICK_PORT = 15443, 15444, 15445
LISTENER = f"listener.0.0.0.0_{PORT}."
CONNECTIONS = 40
MB = 1 << 20


class Scenario:
    """One gateway with its control plane and its endpoints; every method is a step that returns what it saw."""

    def __init__(self, kind: str, cluster: str, folder: Path) -> None:
        self.kind, self.cluster = kind, cluster
        self.role = f"{cluster}-gateway"
        self.gateway_address = ADDRESSES[cluster]["gateway"]
        self.address = (self.gateway_address, PORT)
        self.ca = TestCa()
        self.root = self.ca.write_root(folder / "root.pem")
        self.endpoints = [
            Endpoint((host, 8080), self.ca.server_context(host, ("istio", "istio-http/1.1")))
            for host in ADDRESSES[cluster]["echo"]
        ]
        self.plain = Endpoint((ADDRESSES[cluster]["httpbin"], 80), None)
        self.server = ReplayThread(self.served("1-default"))
        # A node that reconnects says what it is now: stage 2 is where the nodes got their region.
        self.proxy: ProxyProcess = start(kind, self.server.address, node=recorded_node("2-failover", self.role))
        self.proxy.wait_ready()
        self.lasting = self.tls(TCP)
        self.lasting_reader = Reader(self.lasting)

    def served(self, stage: str) -> Resources:
        """A recorded stage: exact bytes for eastgate, without Istio's own extensions for stock Envoy."""
        found = recorded(stage, self.role)
        return messages.for_stock_envoy(found) if self.kind == "envoy" else found

    def tls(self, server_name: str, *, alpn: tuple[str, ...] = ("istio",)) -> TlsPeer:
        """Through the gateway to an endpoint that the test's CA vouches for."""
        return TlsPeer(connect(self.address), self.ca.client_context(alpn), server_name=server_name)

    def raw(self, server_name: str, hello: bytes = b"") -> tuple[PlainPeer, bytes]:
        """Through the gateway to the plain endpoint, with the hello that it was asked for by."""
        hello = hello or client_hello(server_name)
        peer = PlainPeer(connect(self.address))
        peer.send(hello)
        return peer, hello

    def who(self, server_name: str) -> str:
        """Which endpoint answers, or how the connection ended."""
        try:
            peer = self.tls(server_name)
        except ConnectionResetError:
            return "RST"
        except OSError as error:
            return f"{type(error).__name__}: {error}"
        try:
            peer.send(b"WHO\n")
            name = Reader(peer).line().decode().split()[0]
            # Nobody between the client and the endpoint has ended the TLS.
            return name if name.startswith(f"{peer.address_in_certificate}:") else f"{name} is not its certificate"
        finally:
            peer.close()

    def lasting_answers(self) -> bool:
        """Whether the connection that was opened first still reaches its endpoint."""
        self.lasting.send(b"WHO\n")
        return self.lasting_reader.line().decode().startswith(ADDRESSES[self.cluster]["echo"])

    def node(self) -> dict[str, Any]:
        """What the control plane heard of the gateway."""
        return self.server.server.nodes[0].to_dict()

    def stage(self, name: str) -> dict[str, Any]:
        """Who answers for each service once the stage was pushed."""
        self.server.push(self.served(name))
        seen = {}
        for server_name, cluster in recorded_clusters(name, self.role).items():
            if server_name == PLAIN:
                continue
            count = CONNECTIONS if cluster.healthy else 1
            seen[server_name] = dict(Counter(self.who(server_name) for _ in range(count)))
        return {"answers": seen, "lasting": self.lasting_answers()}

    def series(self) -> list[dict[str, Any]]:
        """The recorded pushes one by one, partial ones included."""
        # Nothing else on the stream has been recorded than what follows: back to the first of it.
        self.server.push(self.served("1-default"))
        seen = []
        for push in push_series(self.role):
            # Whatever else Envoy would refuse is left out in the same way as from a stage.
            some: Resources = {CDS: {}, EDS: {}, LDS: {}, push.type_url: push.resources}
            if self.kind == "envoy":
                some = messages.for_stock_envoy(some)
            # Envoy does not acknowledge clusters before their endpoints have come (again); istiod sends both at once.
            wait = self.kind != "envoy" or push.type_url != CDS
            self.server.push_some(push.type_url, some[push.type_url], wait=wait)
            seen.append(
                {
                    "stage": push.stage,
                    "type": push.type_url.rpartition(".")[2],
                    "lasting": self.lasting_answers(),
                    "answer": self.who(GOOD),
                }
            )
        return seen

    def settle(self) -> None:
        """The configuration for everything that follows: stage 2, and two listeners that no recording holds."""
        served = self.served("2-failover")
        chains = [messages.chain(GOOD), messages.chain(PLAIN)]
        for extra in (
            messages.listener(chains, name="proxied", host="0.0.0.0", port=PROXY_PORT, proxy_protocol=True),
            messages.listener(chains, name="quick", host="0.0.0.0", port=QUICK_PORT, hello_timeout_s=1),
        ):
            served[LDS][messages.resource_name(extra)] = extra
        self.server.push(served)
        for port in (PROXY_PORT, QUICK_PORT):
            until(lambda port=port: listens((self.gateway_address, port)), f"port {port} listens")

    def probes(self) -> dict[str, str]:
        """Every client of the recorded probe of real Envoy, by the recording's names, and a few more."""
        good = client_hello(GOOD)
        # Patched in place: the TLS library would lower-case the name itself.
        upper = good.replace(GOOD.encode(), GOOD.upper().encode())
        cases: dict[str, list[bytes]] = {
            "right SNI, alpn istio": [good],
            "right SNI, alpn istio-peer-exchange,istio": [client_hello(GOOD, ("istio-peer-exchange", "istio"))],
            "right SNI, alpn istio-http/1.1": [client_hello(GOOD, ("istio-http/1.1",))],
            "right SNI, alpn h2,istio": [client_hello(GOOD, ("h2", "istio"))],
            "right SNI in upper case, alpn istio": [upper],
            "right SNI, no alpn": [client_hello(GOOD, ())],
            "right SNI, alpn h2": [client_hello(GOOD, ("h2",))],
            "right SNI, alpn ISTIO": [client_hello(GOOD, ("ISTIO",))],
            "unknown host, alpn istio": [client_hello("outbound_.80_._.nobody.default.svc.cluster.local")],
            "plain host name as SNI, alpn istio": [client_hello(HOST)],
            "right SNI with port 81": [client_hello(GOOD.replace(".80_", ".81_"))],
            "no SNI, alpn istio": [client_hello(None)],
            "plain HTTP request": [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"],
            "hello over 4 KiB": [padded(good, 5000)],
            "hello of 16 KiB": [padded(good, 16384)],
            "hello in records of 100 bytes": [in_records(good, 100)],
            "hello over 4 KiB in records of 1,000 bytes": [in_records(padded(good, 5000), 1000)],
            "outbound| form of the name": [client_hello(f"outbound|80||{HOST}")],
            "right SNI, alpn http/1.1": [client_hello(GOOD, ("http/1.1",))],
            "service without endpoints": [client_hello("outbound_.443_._.kubernetes.default.svc.cluster.local")],
        }
        seen = {name: probe(self.address, pieces)[0] for name, pieces in cases.items()}
        seen["half a hello, then FIN"] = probe(self.address, [good[:60]], fin=True)[0]
        seen["hello byte by byte"] = probe(self.address, [good[i : i + 1] for i in range(len(good))], gap_s=0.001)[0]
        seen["hello in two pieces, 1 s between"] = probe(self.address, [good[:100], good[100:]], gap_s=1.0)[0]
        seen["FIN without a byte"] = probe(self.address, [], fin=True)[0]
        return seen

    def hello_too_large(self) -> str:
        """What becomes of a hello that is longer than any limit; Envoy's own limit differs from ours."""
        return probe(self.address, [in_records(padded(client_hello(GOOD), 17_000), 8_000)])[0]

    def counted(self, step: Any) -> dict[str, Any]:
        """A step, and by how much the listener's counters moved meanwhile."""
        before = self.proxy.stats(LISTENER)
        seen = step()
        # The last connections of the step may still be on their way out.
        until(lambda: self.proxy.stat(f"{LISTENER}downstream_pre_cx_active") == 0, "no connection is being sniffed")
        after = self.proxy.stats(LISTENER)
        moved = {name: value - before.get(name, 0) for name, value in after.items() if value != before.get(name, 0)}
        return {"seen": seen, "moved": moved}

    def quick_timeouts(self) -> dict[str, list[Any]]:
        """Silent clients of a listener whose hello timeout is 1 s."""
        address = (self.gateway_address, QUICK_PORT)
        return {
            "nothing at all": probe(address, [], wait_s=6),
            "one byte 0x16, then nothing": probe(address, [b"\x16"], wait_s=6),
            "half a hello, then nothing": probe(address, [client_hello(GOOD)[:60]], wait_s=6),
            "a hello in time": probe(address, [client_hello(GOOD)], wait_s=6),
        }

    def proxy_headers(self) -> dict[str, str]:
        """Clients of a listener that demands a PROXY header. The plain endpoint tells whether the hello came alone."""
        address = (self.gateway_address, PROXY_PORT)
        source, destination = ("192.0.2.7", 40000), ("192.0.2.1", 15443)
        good = client_hello(PLAIN)
        seen = {}
        for name, header in {
            "v1": proxy_v1(source, destination),
            "v1 over IPv6": proxy_v1(("2001:db8::7", 40000), ("2001:db8::1", 15443)),
            "v2": proxy_v2(source, destination),
            "v2 over IPv6": proxy_v2(("2001:db8::7", 40000), ("2001:db8::1", 15443)),
            "v2 with a TLV": proxy_v2(source, destination, tlvs=b"\x04\x00\x03abc"),
            "v2 LOCAL": b"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00",
        }.items():
            peer = PlainPeer(connect(address, timeout_s=5))
            peer.send(header + good + b"WHO\n")
            try:
                digest = Reader(peer).line().decode().partition(" ")[2]
            except ConnectionResetError:
                digest = "RST"
            seen[name] = "passed" if digest == sha256(good) else digest or "FIN"
            peer.close()
        seen["v1 byte by byte"] = probe(
            address, [bytes([byte]) for byte in proxy_v1(source, destination) + client_hello(GOOD)], gap_s=0.0005
        )[0]
        seen["none"] = probe(address, [client_hello(GOOD)])[0]
        seen["v1 of another protocol"] = probe(address, [b"PROXY UDP4 1.2.3.4 1.2.3.4 1 2\r\n" + client_hello(GOOD)])[0]
        return seen

    def openssl(self) -> dict[str, bool]:
        """1 byte and 1 MB each way through `openssl s_client`, byte for byte."""
        seen = {"installed": shutil.which("openssl") is not None}
        for name, count in (("1 byte", 1), ("1 MB", MB)):
            data = pattern(count)
            up = self._s_client(b"SINK %d\n" % count + data, 64)
            seen[f"{name} up"] = up.decode() == sha256(data)
            seen[f"{name} down"] = self._s_client(b"SOURCE %d\n" % count, count) == data
        return seen

    def _s_client(self, command: bytes, answer_bytes: int) -> bytes:
        client = subprocess.Popen(
            [
                *("openssl", "s_client", "-quiet", "-connect", f"{self.gateway_address}:{PORT}"),
                *("-servername", GOOD, "-alpn", "istio", "-CAfile", str(self.root), "-verify_return_error"),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        with client:
            assert client.stdin is not None
            assert client.stdout is not None
            client.stdin.write(command)
            client.stdin.flush()
            answer = client.stdout.read(answer_bytes)
            client.kill()
        return answer

    def transfer(self, count: int) -> dict[str, bool]:
        """So many bytes each way in one TLS connection, with the ALPN that the client asked for."""
        data = pattern(count)
        peer = self.tls(GOOD, alpn=("istio-http/1.1",))
        reader = Reader(peer)
        peer.send(b"SINK %d\n" % count)
        peer.send(data)
        up = reader.line().decode() == sha256(data)
        peer.send(b"SOURCE %d\n" % count)
        down = reader.digest(count) == sha256(data)
        alpn = peer.alpn
        peer.close()
        return {"up": up, "down": down, "alpn": alpn == "istio-http/1.1"}

    def echo(self, count: int) -> bool:
        """Both directions at once: the client sends while it receives."""
        data = pattern(count)
        peer, _ = self.raw(PLAIN)

        def send() -> None:
            peer.send(b"ECHO\n" + data)
            peer.end()

        sender = threading.Thread(target=send)
        sender.start()
        digest = Reader(peer).digest()
        sender.join()
        peer.close()
        return digest == sha256(data)

    def half_closes(self, count: int) -> dict[str, bool]:
        """One side ends while the other goes on: FIN alone, and close_notify with FIN."""
        data, seen = pattern(count), {}
        for name, peer in (("TCP", self.raw(PLAIN)[0]), ("TLS", self.tls(GOOD))):
            peer.send(b"DIGEST\n" + data)
            peer.end()
            reader = Reader(peer)
            seen[f"{name}, client first"] = reader.line().decode() == sha256(data) and reader.some() == b""
            peer.close()
        for name, peer in (("TCP", self.raw(PLAIN)[0]), ("TLS", self.tls(GOOD))):
            peer.send(b"SPEAK %d\n" % count)
            received = Reader(peer).digest() == sha256(data)
            after = b"after your end" + name.encode()
            peer.send(after)
            peer.end()
            wanted = sha256(after)
            until(
                lambda wanted=wanted: any(one.digests[wanted] for one in [*self.endpoints, self.plain]),
                f"{name}: what follows the endpoint's end arrives",
            )
            seen[f"{name}, endpoint first"] = received
            peer.close()
        return seen

    def hello_arrives_unmodified(self) -> dict[str, bool]:
        """The endpoint sees the client's own hello, also one that is long or in many records."""
        seen = {}
        for name, hello in {
            "short": client_hello(PLAIN),
            "5 kB": padded(client_hello(PLAIN), 5000),
            "16 kB": padded(client_hello(PLAIN), 16384),
            "records of 50 bytes": in_records(client_hello(PLAIN), 50),
        }.items():
            peer, _ = self.raw(PLAIN, hello)
            peer.send(b"WHO\n")
            seen[name] = Reader(peer).line().decode().partition(" ")[2] == sha256(hello)
            peer.close()
        return seen

    def endpoint_resets(self) -> str:
        """What the client sees of an endpoint that resets the connection."""
        peer, _ = self.raw(PLAIN)
        peer.send(b"RESET\n")
        reader = Reader(peer)
        try:
            first = reader.exactly(1)
            return f"{first.decode()} then {reader.some().decode() or 'FIN'}"
        except ConnectionResetError:
            return "RST"

    def no_way_out(self) -> dict[str, dict[str, Any]]:
        """Right SNI, but no endpoint takes it: all UNHEALTHY, none at all, nobody listens there."""
        served, seen = dict(self.server.resources), {}
        echo = [(host, 8080) for host in ADDRESSES[self.cluster]["echo"]]
        stat = f"cluster.{GOOD};."
        for name, endpoints in {
            "all UNHEALTHY": [At(one, health=HealthStatus.UNHEALTHY) for one in echo],
            "none": [],
            "refused": [At((host, 9)) for host, _ in echo],
        }.items():
            before = self.proxy.stats(stat)
            self.server.push({**served, EDS: {**served[EDS], GOOD: messages.assignment(GOOD, endpoints)}})
            result = probe(self.address, [client_hello(GOOD)])[0]
            after = self.proxy.stats(stat)
            counters = ("upstream_cx_none_healthy", "upstream_cx_connect_fail", "upstream_cx_total")
            seen[name] = {"result": result} | {each: after.get(each, 0) - before.get(each, 0) for each in counters}
        self.server.push(served)
        seen["back again"] = {"result": probe(self.address, [client_hello(GOOD)])[0]}
        return seen

    def dump(self) -> dict[str, dict[str, Any]]:
        """Clusters, endpoints and listeners of /config_dump, by name."""
        seen: dict[str, dict[str, Any]] = {"cluster": {}, "endpoint_config": {}, "listener": {}}
        for section in self.proxy.json("/config_dump?include_eds")["configs"]:
            for field in ("dynamic_active_clusters", "dynamic_endpoint_configs", "dynamic_listeners"):
                for item in section.get(field, ()):
                    for kind, found in seen.items():
                        shown = item.get("active_state", item).get(kind)
                        if shown is not None:
                            found[shown.get("name") or shown["cluster_name"]] = shown
        return seen

    def end(self) -> dict[str, Any]:
        self.lasting.close()
        nacks = [f"{nack.type_url}: {nack.reason}" for nack in self.server.nacks]
        code = self.proxy.stop()
        self.server.close()
        return {"exit": code, "nacks": nacks}


def probe(
    address: tuple[str, int], pieces: list[bytes], *, wait_s: float = 3.0, gap_s: float = 0.0, fin: bool = False
) -> list[Any]:
    """Send the pieces; what comes back first (a TLS record, FIN, RST or nothing), and after how many seconds."""
    with connect(address, timeout_s=wait_s) as peer:
        begin = time.monotonic()
        try:
            for index, piece in enumerate(pieces):
                if index:
                    # A slow client is the case itself, not a wait for something.
                    time.sleep(gap_s)
                peer.sendall(piece)
            if fin:
                peer.shutdown(socket.SHUT_WR)
            data = peer.recv(4096)
            result = "bytes" if data[:1] == b"\x16" else "FIN" if not data else f"unexpected {data[:6].hex()}"
        except TimeoutError:
            result = "nothing"
        except (ConnectionResetError, BrokenPipeError):
            result = "RST"
        return [result, round(time.monotonic() - begin, 3)]


def listens(address: tuple[str, int]) -> bool:
    try:
        connect(address).close()
    except ConnectionRefusedError:
        return False
    except ConnectionResetError:
        # It came while the socket was being closed.
        return True
    return True


class Background:
    """A probe that takes as long as it takes, beside the other steps."""

    def __init__(self, address: tuple[str, int], pieces: list[bytes]) -> None:
        self._result: list[Any] = []
        self._thread = threading.Thread(target=self._run, args=(address, pieces))
        self._thread.start()

    def result(self) -> list[Any]:
        self._thread.join()
        return self._result

    def _run(self, address: tuple[str, int], pieces: list[bytes]) -> None:
        self._result = probe(address, pieces, wait_s=20)


def main() -> None:
    kind, cluster = sys.argv[1:]
    bring_up("10.0.0.1", "172.16.0.1")
    steps = Steps()
    with tempfile.TemporaryDirectory() as folder:
        scenario = Scenario(kind, cluster, Path(folder))
        steps.take("node", scenario.node)
        for stage in stages():
            steps.take(stage, scenario.stage, stage)
        if cluster == "anthos":
            steps.take("series", scenario.series)
        steps.take("settle", scenario.settle)
        # From here to their end no push touches the listener, so that the 15 s are those of one listener.
        silent = Background(scenario.address, [])
        started = Background(scenario.address, [b"\x16"])
        steps.take("openssl", scenario.openssl)
        steps.take("transfer", scenario.transfer, 100 * MB)
        steps.take("echo", scenario.echo, 100 * MB)
        steps.take("half closes", scenario.half_closes, 100 * MB)
        steps.take("unmodified", scenario.hello_arrives_unmodified)
        steps.take("endpoint resets", scenario.endpoint_resets)
        steps.take("quick timeouts", scenario.quick_timeouts)
        steps.take("proxy headers", scenario.proxy_headers)
        steps.take("nothing at all", silent.result)
        steps.take("one byte 0x16, then nothing", started.result)
        steps.take("probes", scenario.counted, scenario.probes)
        steps.take("hello too large", scenario.hello_too_large)
        steps.take("dump", scenario.dump)
        steps.take("no way out", scenario.no_way_out)
        steps.take("lasting", scenario.lasting_answers)
        steps.take("end", scenario.end)
    steps.print()


if __name__ == "__main__":
    main()
