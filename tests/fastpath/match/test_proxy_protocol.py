import socket

import pytest
from eastgate.fastpath.match.proxy_protocol import ParsedProxyHeader, parse

LARGEST = 16 + 0xFFFF
SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
LONGEST_IPV6 = "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"
LONGEST_V1 = f"PROXY TCP6 {LONGEST_IPV6} {LONGEST_IPV6} 65535 65535\r\n".encode()


def v2(payload: bytes = b"", *, command: int = 0x21, family: int = 0x11) -> bytes:
    return SIGNATURE + bytes([command, family]) + len(payload).to_bytes(2, "big") + payload


def ipv4(source: str, source_port: int, destination: str, destination_port: int) -> bytes:
    ports = source_port.to_bytes(2, "big") + destination_port.to_bytes(2, "big")
    return socket.inet_aton(source) + socket.inet_aton(destination) + ports


def ipv6(source: str, source_port: int, destination: str, destination_port: int) -> bytes:
    ports = source_port.to_bytes(2, "big") + destination_port.to_bytes(2, "big")
    return socket.inet_pton(socket.AF_INET6, source) + socket.inet_pton(socket.AF_INET6, destination) + ports


def tlv(size: int) -> bytes:
    return b"\xe0" + size.to_bytes(2, "big") + bytes(size)


def final(data: bytes) -> tuple[int, ParsedProxyHeader]:
    """Length of the shortest prefix that is decided, and the decision; every shorter one must ask for more."""
    for length in range(len(data) + 1):
        parsed = parse(data[:length])
        if parsed.status != "need_more":
            return length, parsed
        assert length < parsed.needed <= LARGEST
    raise AssertionError("never decided")


COMPLETE = {
    "v1 IPv4": (b"PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n", ("192.0.2.1", 56324), ("198.51.100.7", 443)),
    "v1 IPv6": (b"PROXY TCP6 2001:db8::1 ::FFFF:1.2.3.4 0 65535\r\n", ("2001:db8::1", 0), ("::ffff:1.2.3.4", 65535)),
    "v1 longest": (LONGEST_V1, (LONGEST_IPV6, 65535), (LONGEST_IPV6, 65535)),
    "v1 unknown": (b"PROXY UNKNOWN\r\n", None, None),
    "v1 unknown with more": (b"PROXY UNKNOWN ffff::1 \x00 \xff \n 1\r\n", None, None),
    "v1 leading zeros": (b"PROXY TCP4 1.2.3.4 5.6.7.8 00 0002\r\n", ("1.2.3.4", 0), ("5.6.7.8", 2)),
    "v2 IPv4": (v2(ipv4("192.0.2.1", 1, "10.0.0.2", 15443)), ("192.0.2.1", 1), ("10.0.0.2", 15443)),
    "v2 IPv6": (v2(ipv6("2001:db8::1", 2, "::1", 3), family=0x21), ("2001:db8::1", 2), ("::1", 3)),
    "v2 IPv4 with TLVs": (v2(ipv4("1.2.3.4", 1, "5.6.7.8", 2) + b"\x03\x00\x04abcd"), ("1.2.3.4", 1), ("5.6.7.8", 2)),
    "v2 IPv6 with TLVs": (v2(ipv6("::1", 1, "::2", 2) + b"\x04\x00\x00", family=0x21), ("::1", 1), ("::2", 2)),
    "v2 local": (v2(command=0x20, family=0), None, None),
    "v2 local, family not looked at": (v2(ipv4("1.2.3.4", 1, "5.6.7.8", 2), command=0x20, family=0xFF), None, None),
    "v2 local, TLVs not looked at": (v2(ipv4("0.0.0.0", 0, "0.0.0.0", 0) + b"\x04\xff", command=0x20), None, None),
    "v2 datagram": (v2(ipv4("1.2.3.4", 1, "5.6.7.8", 2), family=0x12), ("1.2.3.4", 1), ("5.6.7.8", 2)),
    "v2 IPv6 datagram": (v2(ipv6("::1", 1, "::2", 2), family=0x22), ("::1", 1), ("::2", 2)),
    "v2 two TLVs": (v2(ipv4("1.2.3.4", 1, "5.6.7.8", 2) + tlv(5) + tlv(0)), ("1.2.3.4", 1), ("5.6.7.8", 2)),
}
# Longer than a prefix of each length is worth.
LARGE = {
    "v2 with 5000 bytes of TLVs": v2(ipv4("1.2.3.4", 1, "5.6.7.8", 2) + tlv(4997)),
    "v2 largest": v2(ipv4("1.2.3.4", 1, "5.6.7.8", 2) + tlv(0xFFFF - 12 - 3)),
    "v2 largest IPv6": v2(ipv6("::1", 1, "::2", 2) + tlv(9) * 100 + tlv(0xFFFF - 36 - 1200 - 3), family=0x21),
    "v2 largest local": v2(bytes(0xFFFF), family=0, command=0x20),
}


@pytest.mark.parametrize("kind", COMPLETE)
def test_header_is_read_when_its_last_byte_is_there(kind):
    data, source, destination = COMPLETE[kind]
    length, parsed = final(data)
    assert length == len(data)
    assert parsed == ParsedProxyHeader("complete", 0, len(data), source, destination)
    # What follows belongs to the connection.
    assert parse(data + b"\x16\x03\x01\r\n") == parsed


def test_line_of_107_bytes_is_the_longest():
    # 11 + 39 + 1 + 39 + 1 + 5 + 1 + 5 + 2
    assert len(LONGEST_V1) == 104
    filled = b"PROXY UNKNOWN " + b"x" * (107 - 14 - 2) + b"\r\n"
    assert (len(filled), parse(filled).status) == (107, "complete")
    assert parse(b"PROXY UNKNOWN " + b"x" * (107 - 14 - 1) + b"\r\n").status == "malformed"
    assert parse(b"PROXY UNKNOWN " + b"x" * (107 - 14)).status == "malformed"
    assert parse(b"PROXY UNKNOWN " + b"x" * (106 - 14)).needed == 107


def test_needed_bytes_of_a_line():
    line = b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n"
    assert [parse(line[:length]).needed for length in range(14)] == [15] * 14
    assert [parse(line[:length]).needed for length in range(14, 31)] == list(range(16, 33))
    # Behind CR only LF can follow.
    assert parse(line[:31]).needed == 32 == len(line)


def test_needed_bytes_of_a_binary_header():
    header = COMPLETE["v2 IPv6"][0]
    assert [parse(header[:length]).needed for length in range(1, 16)] == [16] * 15
    assert {parse(header[:length]).needed for length in range(16, 52)} == {52}


@pytest.mark.parametrize(
    ("data", "length"),
    [
        (b"\x16\x03\x01", 1),
        (b"GET / HTTP/1.1\r\n", 1),
        (b"PROXY\t", 6),
        (b"PROXY  TCP4", 7),
        (b"PROXY TCP5 ", 10),
        (b"PROXY UDP4 ", 8),
        (b"PROXY UNKNOWNx", 14),
        (b"PROXY UNKNOWN\n", 14),
        (b"PROXY UNKNOWN\rx", 15),
        (b"\r\n\r\n\x00\r\nQUIX\n", 11),
        (b"\n", 1),
    ],
)
def test_what_begins_no_header_is_malformed_at_once(data, length):
    assert final(data)[0] == length
    assert final(data)[1].status == "malformed"


@pytest.mark.parametrize(
    "fields",
    [
        b"TCP4 1.2.3.4 5.6.7.8 1\r\n",
        b"TCP4 1.2.3.4 5.6.7.8 1 2 \r\n",
        b"TCP4 1.2.3.4 5.6.7.8 1 2 3\r\n",
        b"TCP4 1.2.3.4  5.6.7.8 1 2\r\n",
        b"TCP4 1.2.3.4 5.6.7.8 1 2\n",
        b"TCP4 1.2.3.4 5.6.7.8 1 2\r\r\n",
        b"TCP4 1.2.3 5.6.7.8 1 2\r\n",
        b"TCP4 1.2.3.4.5 5.6.7.8 1 2\r\n",
        b"TCP4 1.2.3.256 5.6.7.8 1 2\r\n",
        b"TCP4 01.2.3.4 5.6.7.8 1 2\r\n",
        b"TCP4 0x1.2.3.4 5.6.7.8 1 2\r\n",
        b"TCP4 ::1 ::2 1 2\r\n",
        b"TCP4  5.6.7.8 1 2\r\n",
        b"TCP4 a.example 5.6.7.8 1 2\r\n",
        b"TCP6 1.2.3.4 5.6.7.8 1 2\r\n",
        b"TCP6 ::1::2 ::2 1 2\r\n",
        b"TCP6 ::g ::2 1 2\r\n",
        b"TCP6 fe80::1%eth0 ::2 1 2\r\n",
        b"TCP6 [::1] ::2 1 2\r\n",
        b"TCP6 " + b"1" * 40 + b" ::2 1 2\r\n",
        b"TCP4 1.2.3.4 5.6.7.8 65536 2\r\n",
        b"TCP4 1.2.3.4 5.6.7.8 1 65536\r\n",
        b"TCP4 0.0.0.0 5.6.7.8 1 2\r\n",
        b"TCP4 1.2.3.4 255.255.255.255 1 2\r\n",
        b"TCP4 224.0.0.1 5.6.7.8 1 2\r\n",
        b"TCP6 ::1 :: 1 2\r\n",
        b"TCP6 ff02::1 ::2 1 2\r\n",
        b"TCP4 1.2.3.4 5.6.7.8 -1 2\r\n",
        b"TCP4 1.2.3.4 5.6.7.8 +1 2\r\n",
        b"TCP4 1.2.3.4 5.6.7.8  2\r\n",
        b"TCP4 1.2.3.4 5.6.7.8 1 \r\n",
        b"TCP4 1.2.3.4\x00 5.6.7.8 1 2\r\n",
        b"tcp4 1.2.3.4 5.6.7.8 1 2\r\n",
        b"TCP4\r\n",
        b"\r\n",
    ],
)
def test_malformed_lines(fields):
    parsed = final(b"PROXY " + fields)[1]
    assert parsed == ParsedProxyHeader("malformed", 0, 0, None, None)


@pytest.mark.parametrize("command", [0x00, 0x01, 0x11, 0x22, 0x2F, 0x31, 0x12])
def test_other_versions_and_commands_are_malformed_at_their_byte(command):
    length, parsed = final(v2(ipv4("1.2.3.4", 1, "5.6.7.8", 2), command=command))
    assert (length, parsed.status) == (13, "malformed")


# Reserved ones, and as in Envoy those of no address of a host: unspecified and Unix.
@pytest.mark.parametrize("family", [0x13, 0x1F, 0x41, 0x40, 0xF0, 0x00, 0x01, 0x10, 0x20, 0x31, 0x32])
def test_other_families_are_malformed_at_their_byte(family):
    length, parsed = final(v2(ipv4("1.2.3.4", 1, "5.6.7.8", 2), family=family))
    assert (length, parsed.status) == (14, "malformed")


@pytest.mark.parametrize(("family", "size"), [(0x11, 0), (0x11, 11), (0x21, 0), (0x21, 12), (0x21, 35)])
def test_addresses_that_do_not_fit_into_the_header_are_malformed_at_its_length(family, size):
    length, parsed = final(v2(bytes(size), family=family))
    assert (length, parsed.status) == (16, "malformed")


@pytest.mark.parametrize(
    ("source", "destination"),
    [
        ("0.0.0.0", "1.2.3.4"),
        ("1.2.3.4", "0.0.0.0"),
        ("255.255.255.255", "1.2.3.4"),
        ("1.2.3.4", "239.255.255.255"),
        ("::", "::1"),
        ("::1", "ff00::"),
    ],
)
def test_addresses_of_no_host_are_malformed_when_they_are_here(source, destination):
    six = ":" in source
    addresses = ipv6(source, 1, destination, 2) if six else ipv4(source, 1, destination, 2)
    length, parsed = final(v2(addresses + tlv(9), family=0x21 if six else 0x11))
    assert (length, parsed) == (16 + len(addresses), ParsedProxyHeader("malformed", 0, 0, None, None))


# Bytes of TLVs, and how many of them show that they do not end with the header.
@pytest.mark.parametrize(
    ("tlvs", "shown"),
    [
        (b"\x04", 0),
        (b"\x04\x00", 0),
        (b"\x04\x00\x02a", 3),
        (tlv(2) + b"\x04", 3),
        (tlv(2) + b"\x04\xff\xff" + bytes(9), 8),
    ],
)
def test_tlvs_that_do_not_end_with_the_header_are_malformed(tlvs, shown):
    length, parsed = final(v2(ipv4("1.2.3.4", 1, "5.6.7.8", 2) + tlvs))
    assert (length, parsed.status) == (28 + shown, "malformed")


@pytest.mark.parametrize("kind", LARGE)
def test_headers_are_as_long_as_they_can_say(kind):
    data = LARGE[kind]
    assert parse(data + b"rest").header_length == len(data)
    assert {parse(data[:length]).needed for length in (16, 27, 28, 31, 60, len(data) - 1)} == {len(data)}


LINE, BINARY = COMPLETE["v1 IPv4"][0], COMPLETE["v2 IPv4 with TLVs"][0]


@pytest.mark.parametrize(("version", "taken", "refused"), [(1, LINE, BINARY), (2, BINARY, LINE)])
def test_a_version_that_is_not_taken_is_malformed_at_its_first_byte(version, taken, refused):
    assert parse(taken, versions=[version]).status == "complete"
    assert parse(refused[:1], versions=[version]).status == "malformed"
    assert parse(refused[:1], versions=[version], optional=True).status == "absent"


@pytest.mark.parametrize("versions", [(1,), (2,), (1, 2)])
def test_an_optional_header_is_absent_when_a_byte_shows_it(versions):
    absent = ParsedProxyHeader("absent", 0, 0, None, None)
    said = [(line, 1) for line in (b"GET ", b"\x16\x03\x01", b"proxy TCP4")]
    said += [(b"PING\r\n", 2), (b"PROXY\r", 6)] if 1 in versions else [(b"PING\r\n", 1)]
    said += [(b"\r\n\r\n\x00\r\nQUIX", 11), (b"\r\nabc", 3)] if 2 in versions else [(b"\r\nabc", 1)]
    assert parse(b"", versions=versions, optional=True).needed == 1
    for data, shown in said:
        for length in range(1, shown):
            parsed = parse(data[:length], versions=versions, optional=True)
            assert (parsed.status, parsed.needed) == ("need_more", length + 1)
        assert parse(data[:shown], versions=versions, optional=True) == absent
        assert parse(data, versions=versions, optional=True) == absent


def test_an_optional_header_that_was_begun_must_be_one():
    assert parse(b"PROXY ", optional=True).needed == 15
    assert parse(SIGNATURE, optional=True).needed == 16
    assert parse(b"PROXY x", optional=True).status == "malformed"
    assert parse(SIGNATURE + b"\x31", optional=True).status == "malformed"
    assert parse(LINE, optional=True) == parse(LINE)
    assert parse(BINARY, optional=True) == parse(BINARY)


@pytest.mark.parametrize("versions", [(), (0,), (3,), (1, 2, 3)])
def test_there_are_two_versions(versions):
    with pytest.raises(ValueError, match="PROXY protocol"):
        parse(LINE, versions=versions)


def test_parse_takes_bytes_only():
    with pytest.raises(TypeError):
        parse("PROXY UNKNOWN\r\n")
    with pytest.raises(TypeError):
        parse(None)
