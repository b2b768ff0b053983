"""In a namespace of its own: every kind of client at every kind of inbound port, as netfilter redirects them.

Usage: tls_matrix_scenario <eastgate|envoy> <made|permissive|strict> FOLDER. ``made``: the embedded control plane's
listener for a port of each kind under each mode; else what a real istiod sent to a sidecar under that mode. Prints one
JSON document with what came of each connection; test_tls_matrix holds both proxies' beside each other.
"""

import socket
import ssl
import sys
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from eastgate.mesh.control_plane import resources as made_for
from eastgate.mesh.mesh_file import parse
from envoy_data_plane.envoy.config.listener.v3 import FilterChain, Listener
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpConnectionManager

from ..mesh.sidecars import sidecar
from ..support import messages
from ..support.authority import Authority, Identity
from ..support.gateway_process import EASTGATE, Eastgate, Envoy, ProxyProcess
from ..support.mesh_plane import with_secrets
from ..support.netns import Steps, bring_up
from ..support.recordings import CDS, EDS, LDS, Resources, recorded
from ..support.replay_ads import ReplayThread
from ..support.secrets import AgentThread, Keyed, ca_secret, tls_secret
from .capture_scenario import INBOUND, redirect

PEER = "127.0.0.98"
MODES, KINDS = ("PERMISSIVE", "STRICT", "DISABLE"), ("tcp", "http", "auto", "greets")
RECORDED = {"permissive": ("13-stock-envoy", "PERMISSIVE"), "strict": ("11-strict-authz", "STRICT")}
RECORDED_POD, MADE_POD = "10.24.1.9", "10.1.0.1"
NAME = "outbound_.80_._.web.shop.svc.cluster.local"
TIMEOUT_S = 10.0
HOUR = timedelta(hours=1)
ROOT, OTHER = Authority("root"), Authority("other")
SERVER, CLIENT = "spiffe://cluster.local/ns/default/sa/echoserver", "spiffe://cluster.local/ns/sleep/sa/sleep"
GREETING = b"220 greeting\r\n"
REQUEST = b"GET / HTTP/1.1\r\nHost: web.shop.svc.cluster.local\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok"
PREFACE, SETTINGS = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\0\0\0\4\0\0\0\0\0"


def ports() -> dict[tuple[str, str], int]:
    """By mode and kind."""
    return {(mode, kind): 7000 + 10 * m + k for m, mode in enumerate(MODES) for k, kind in enumerate(KINDS)}


def mesh_text() -> str:
    services, levels = [], []
    for (mode, kind), port in ports().items():
        name = {"auto": "", "greets": "name: tcp-greets, "}.get(kind, f"name: {kind}, ")
        place = f"name: {kind}-{mode.lower()}, namespace: shop, selector: {{app: web}}"
        services.append(f"  - {{{place}, ports: [{{{name}port: {port}}}]}}\n")
        levels.append(f"    {port}: {{mode: {mode}}}\n")
    return (
        "kind: Mesh\noptions: {metadata_exchange: false, alpn_filter: false}\n"
        "clusters:\n  a:\n    network: na\n    workloads:\n"
        f"      - {{name: web-1, namespace: shop, address: {MADE_POD}, labels: {{app: web}}, service_account: web}}\n"
        f"services:\n{''.join(services)}---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\n"
        "metadata: {name: x, namespace: shop}\n"
        f"spec:\n  selector: {{matchLabels: {{app: web}}}}\n  portLevelMtls:\n{''.join(levels)}"
    )


def without_istio(chain: FilterChain) -> None:
    """Leave out what only Istio's build of Envoy has: nothing of it decides who is let in."""
    chain.filters = [one for one in chain.filters if not one.name.startswith("istio.")]
    last = chain.filters[-1]
    if last.name.endswith("http_connection_manager"):
        assert last.typed_config is not None
        manager = HttpConnectionManager.parse(last.typed_config.value)
        manager.http_filters = [one for one in manager.http_filters if not one.name.startswith("istio.")]
        last.typed_config = messages.pack(manager)


def inbound_of(sent: Resources) -> Resources:
    """The inbound side of a sidecar's configuration, as stock Envoy takes it."""
    inbound = Listener.parse(sent[LDS]["virtualInbound"])
    inbound.access_log = []
    for chain in inbound.filter_chains:
        without_istio(chain)
    clusters = {name: raw for name, raw in sent[CDS].items() if name.lower().startswith("inbound")}
    return {CDS: {**clusters, **messages.resources({})[CDS]}, EDS: {}, LDS: {"virtualInbound": bytes(inbound)}}


class Application:
    """Listens on these ports, and remembers the first bytes of each connection. Some of them speak first."""

    def __init__(self, stack: ExitStack, places: dict[int, bool]) -> None:
        self.first: dict[int, list[bytes]] = {port: [] for port in places}
        for port, greets in places.items():
            server = stack.enter_context(socket.create_server(("0.0.0.0", port)))
            serve = self._greet if greets else self._serve
            threading.Thread(target=self._accept, args=(server, serve), daemon=True).start()

    def _accept(self, server: socket.socket, serve: Callable[[socket.socket], None]) -> None:
        with suppress(OSError):
            while True:
                accepted, _ = server.accept()
                threading.Thread(target=serve, args=(accepted,), daemon=True).start()

    def _greet(self, accepted: socket.socket) -> None:
        with accepted, suppress(OSError):
            accepted.sendall(GREETING)

    def _serve(self, accepted: socket.socket) -> None:
        with accepted, suppress(OSError):
            data = accepted.recv(65536)
            if data:
                # Envoy connects before the handshake with its client is done.
                self.first[accepted.getsockname()[1]].append(data)
            if data.startswith(b"GET"):
                accepted.sendall(OK)
                accepted.recv(65536)
            elif data.startswith(b"PRI"):
                accepted.sendall(SETTINGS)
                accepted.recv(65536)
            elif data[:1] != b"\x16":
                accepted.sendall(b"echo " + data)


@dataclass(frozen=True)
class Client:
    """``protocols`` None: no TLS at all; empty: no ALPN."""

    protocols: tuple[str, ...] | None = None
    identity: Identity | None = None
    most: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3

    def context(self, folder: Path) -> ssl.SSLContext | None:
        if self.protocols is None:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        if self.most < ssl.TLSVersion.TLSv1_2:
            # OpenSSL offers it at level 0 only.
            context.set_ciphers("DEFAULT:@SECLEVEL=0")
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
            context.minimum_version = min(self.most, ssl.TLSVersion.TLSv1_2)
            context.maximum_version = self.most
        if self.protocols:
            context.set_alpn_protocols(list(self.protocols))
        if self.identity is not None:
            (folder / "client.pem").write_bytes(self.identity.key + self.identity.chain)
            context.load_cert_chain(folder / "client.pem")
        return context


GOOD = ROOT.issue(CLIENT)
V12, V11 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_1
FULL = ("istio-http/1.1", "istio", "http/1.1")
CLIENTS = {
    "plain": Client(),
    "own TLS": Client(()),
    "own TLS, h2": Client(("h2", "http/1.1")),
    "own TLS 1.2": Client((), most=V12),
    "own TLS 1.1": Client((), most=V11),
    **{f"mesh {one}": Client((one,), GOOD) for one in messages.ISTIO_ALPN},
    "mesh, no ALPN": Client((), GOOD),
    "mesh, as HTTP/1.1": Client(FULL, GOOD),
    "mesh, as HTTP/2": Client(("istio-h2", "istio", "h2"), GOOD),
    "mesh, TLS 1.2": Client(("istio",), GOOD, V12),
    "mesh, TLS 1.1": Client(("istio",), GOOD, V11),
    "mesh, HTTP TLS 1.2": Client(FULL, GOOD, V12),
    "another account": Client(("istio",), ROOT.issue("spiffe://cluster.local/ns/foo/sa/bar")),
    "another account, as HTTP/1.1": Client(FULL, ROOT.issue("spiffe://cluster.local/ns/foo/sa/bar")),
    **{
        f"{what}{how}": Client(offer, identity, version)
        for what, identity in {
            "wrong CA": OTHER.issue(CLIENT),
            "expired": ROOT.issue(CLIENT, starts=-3 * HOUR, ends=-HOUR),
            "no certificate": None,
            "another trust domain": ROOT.issue("spiffe://other/ns/sleep/sa/sleep"),
            "a host name for an identity": ROOT.issue("client.example"),
        }.items()
        for how, offer, version in (
            (", as TCP", ("istio",), ssl.TLSVersion.TLSv1_3),
            (", as HTTP/1.1", FULL, V12),
        )
    },
}
SPEAKS = {"HTTP": REQUEST, "other": b"hello\r\n\r\n", "nothing": b""}


def answer(tls: socket.socket, said: bytes) -> str:
    """What was answered, up to where it is the same whoever answers."""
    if isinstance(tls, ssl.SSLSocket) and tls.selected_alpn_protocol() == "h2":
        said = PREFACE + SETTINGS
    if said:
        tls.sendall(said)
    got = tls.recv(65536)
    if got[3:4] == SETTINGS[3:4] and said.startswith(PREFACE):
        return "SETTINGS"
    return got.split(b"\r\n")[0].decode("latin-1")


def seen(address: tuple[str, int], context: ssl.SSLContext | None, said: bytes, first: list[bytes]) -> list[str]:
    """The answer, the protocol of the handshake, and what the application was sent first."""
    before, protocol, answered = len(first), "-", ""
    with suppress(OSError):
        tls = socket.create_connection(address, TIMEOUT_S, source_address=(PEER, 0))
        if context is not None:
            tls = context.wrap_socket(tls, server_hostname=NAME)
        with tls:
            if isinstance(tls, ssl.SSLSocket):
                protocol = tls.selected_alpn_protocol() or "none"
            answered = answer(tls, said)
    got = first[before:]
    kind = "nothing" if not got else "tls" if got[0][:1] == b"\x16" else "text"
    # Whether a client of TLS 1.3 thinks that its handshake is done when it is refused is a matter of time.
    # What Envoy answers of HTTP/2 is answered by the application behind eastgate.
    return [answered, protocol if answered else "-", "-" if answered == "SETTINGS" else kind]


def of_place(
    application: Application, place: str, address: tuple[str, int], contexts: dict[str, ssl.SSLContext | None]
) -> dict[str, list[str]]:
    """What came of each client, by what it says first."""
    found = {}
    for name, context in contexts.items():
        for what, said in SPEAKS.items():
            # Who waits for a greeting is answered where one is made. In plain text, a proxy that inspects waits too.
            if (not said) == ("greets" in place) and (said or context is not None or "DISABLE" in place):
                cell = seen(address, context, said, application.first[address[1]])
                found[f"{place} | {name} | {what}"] = cell
    return found


def cells(application: Application, places: dict[str, tuple[str, int]], folder: Path) -> dict[str, list[str]]:
    """All places at once."""
    contexts = {name: client.context(folder) for name, client in CLIENTS.items()}
    with ThreadPoolExecutor(len(places)) as pool:
        found = pool.map(lambda one: of_place(application, *one, contexts), places.items())
        return {name: cell for one in found for name, cell in one.items()}


def started(kind: str, discovery: str, agent: Path) -> ProxyProcess:
    if kind == "envoy":
        return Envoy(discovery, change=with_secrets(agent))
    command = [EASTGATE, "sidecar", "--discovery", discovery, "--admin", "127.0.0.1:0", "--drain-time", "0"]
    node = "sidecar~10.1.0.1~web-1.shop~shop.svc.cluster.local"
    one = Eastgate.__new__(Eastgate)
    ProxyProcess.__init__(one, [*command, "--node-id", node, "--sds-socket", str(agent)])
    return one


def configuration(which: str) -> tuple[Resources, dict[str, tuple[str, int]]]:
    """What is sent, and where its ports are."""
    if which in RECORDED:
        stage, mode = RECORDED[which]
        return inbound_of(recorded(stage, "gke-sidecar-echo")), {f"{mode} recorded": (RECORDED_POD, 8080)}
    mesh = parse(mesh_text(), "mesh.yaml").mesh
    sent: Any = made_for(mesh, sidecar(mesh))
    return inbound_of(sent), {f"{mode} {kind}": (MADE_POD, port) for (mode, kind), port in ports().items()}


def main() -> None:
    kind, which, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    bring_up("10.0.0.1")
    redirect("-s", PEER, "-d", "10.0.0.0/8", "-j", "REDIRECT", "--to-ports", str(INBOUND))
    sent, places = configuration(which)
    own = ROOT.issue(SERVER)
    socket_path = folder / "sds"
    secrets = {
        "default": tls_secret("default", Keyed(own.chain, own.key)), "ROOTCA": ca_secret("ROOTCA", ROOT.pem)
    }  # fmt: skip
    steps = Steps()
    with ExitStack() as stack:
        application = Application(stack, {port: "greets" in place for place, (_, port) in places.items()})
        stack.callback(AgentThread(str(socket_path), secrets).close)
        server = stack.enter_context(ReplayThread(sent))
        proxy = stack.enter_context(started(kind, server.address, socket_path))
        proxy.wait_ready()
        proxy.bound_address("virtualInbound")
        steps.take("nacks", lambda: [str(one) for one in server.nacks])
        steps.take("cells", cells, application, places, folder)
    steps.print()


if __name__ == "__main__":
    main()
