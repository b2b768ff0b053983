"""Any bytes whatever, and headers made from addresses, cut and damaged."""

from ipaddress import IPv4Address, IPv6Address

from eastgate.fastpath.match.proxy_protocol import ParsedProxyHeader, parse
from hypothesis import given, settings
from hypothesis import strategies as st

from .prefixes import check_prefixes

LIMIT = 16 + 0xFFFF
SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
STARTS = (b"PROXY ", b"PROXY TCP4 ", b"PROXY TCP6 ::", b"PROXY UNKNOWN", SIGNATURE, SIGNATURE + b"\x21\x11\x00", b"")
EXAMPLES = settings(max_examples=300, deadline=None)
ports = st.integers(0, 65535)
IPV4, IPV6 = (
    st.ip_addresses(v=version).filter(
        lambda address: not (address.is_unspecified or address.is_multicast or address.packed == b"\xff" * 4)
    )
    for version in (4, 6)
)
ends = st.one_of(st.tuples(st.just(4), IPV4, ports, IPV4, ports), st.tuples(st.just(6), IPV6, ports, IPV6, ports))
Ends = tuple[int, IPv4Address | IPv6Address, int, IPv4Address | IPv6Address, int]


def v1(end: Ends) -> bytes:
    family, source, source_port, destination, destination_port = end
    return f"PROXY TCP{family} {source} {destination} {source_port} {destination_port}\r\n".encode()


def v2(end: Ends, extra: bytes) -> bytes:
    """`extra`: the value of a TLV, if there is any."""
    family, source, source_port, destination, destination_port = end
    payload = source.packed + destination.packed + source_port.to_bytes(2, "big") + destination_port.to_bytes(2, "big")
    payload += b"\xe0" + len(extra).to_bytes(2, "big") + extra if extra else b""
    return SIGNATURE + bytes([0x21, 0x11 if family == 4 else 0x21]) + len(payload).to_bytes(2, "big") + payload


@EXAMPLES
@given(ends, st.binary(max_size=40), st.binary(max_size=10))
def test_addresses_come_out_as_they_went_in(end, extra, rest):
    for header in (v1(end), v2(end, extra)):
        parsed = check_prefixes(parse, header + rest, limit=LIMIT)
        assert (parsed.status, parsed.header_length) == ("complete", len(header))
        assert parsed.source is not None
        assert parsed.destination is not None
        # Text forms of IPv6 differ; the addresses do not.
        address = IPv4Address if end[0] == 4 else IPv6Address
        assert (address(parsed.source[0]), parsed.source[1]) == end[1:3]
        assert (address(parsed.destination[0]), parsed.destination[1]) == end[3:]


@EXAMPLES
@given(st.sampled_from(STARTS), st.binary(max_size=150))
def test_any_bytes(start, data):
    parsed = check_prefixes(parse, start + data, limit=LIMIT)
    if parsed.status == "malformed":
        assert parsed == ParsedProxyHeader("malformed", 0, 0, None, None)
    elif parsed.status == "complete":
        assert parsed.header_length <= len(start + data)


@EXAMPLES
@given(ends, st.binary(max_size=20), st.booleans(), st.data())
def test_header_with_bytes_replaced(end, extra, is_text, data):
    header = bytearray(v1(end) if is_text else v2(end, extra))
    for at, value in data.draw(st.lists(st.tuples(st.integers(0, len(header) - 1), st.integers(0, 255)), max_size=3)):
        header[at] = value
    check_prefixes(parse, bytes(header), limit=LIMIT)


@EXAMPLES
@given(st.text(alphabet="PROXY TCP46UNKW0123456789.:af\r\n", max_size=110))
def test_any_text_of_the_grammar(text):
    check_prefixes(parse, b"PROXY " + text.encode(), limit=LIMIT)
