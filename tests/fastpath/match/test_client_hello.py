import ssl

import pytest
from eastgate.fastpath.match.client_hello import ParsedHello, parse, spin

from .hellos import (
    LIMIT,
    PADDING,
    alpn_extension,
    extension,
    handshake,
    hello,
    hello_body,
    in_records,
    message_of,
    number,
    real_hello,
    record,
    server_name_extension,
    vector,
)

ISTIO = ("istio-peer-exchange", "istio")
SERVICE = "outbound_.80_._.reviews.default.svc.cluster.local"


def final(data: bytes) -> tuple[int, ParsedHello]:
    """Length of the shortest prefix that is decided, and the decision; every shorter one must ask for more."""
    for length in range(len(data) + 1):
        parsed = parse(data[:length])
        if parsed.status != "need_more":
            return length, parsed
        assert length < parsed.needed <= LIMIT
    raise AssertionError("never decided")


REAL = {
    "name and Istio's ALPN": (real_hello(SERVICE, ISTIO), SERVICE, ISTIO),
    "name only": (real_hello("www.example.com"), "www.example.com", ()),
    "ALPN only": (real_hello(None, ("h2", "http/1.1")), "", ("h2", "http/1.1")),
    "neither": (real_hello(None), "", ()),
    "TLS 1.2": (real_hello(SERVICE, ISTIO, newest=ssl.TLSVersion.TLSv1_2), SERVICE, ISTIO),
    # 30 x 121 bytes of ALPN: a hello of more than 4 KiB, within what ALPN_BYTES and ALPN_CAPACITY keep only in part.
    "large": (real_hello(SERVICE, [f"{n:0120d}" for n in range(34)]), SERVICE, tuple(f"{n:0120d}" for n in range(8))),
}


@pytest.mark.parametrize("kind", REAL)
def test_real_hello_is_read(kind):
    data, server_name, protocols = REAL[kind]
    parsed = parse(data)
    assert parsed.status == "complete"
    assert parsed.server_name == server_name
    assert parsed.application_protocols == protocols
    assert parsed.version == 0x0303


def test_large_hello_is_large():
    assert len(REAL["large"][0]) > 4096


@pytest.mark.parametrize("kind", ["name and Istio's ALPN", "neither", "large"])
def test_every_prefix_of_a_real_hello_asks_for_more_and_the_whole_is_the_first_answer(kind):
    data, server_name, _ = REAL[kind]
    length, parsed = final(data)
    assert length == len(data)
    assert parsed.server_name == server_name


def test_needed_is_the_end_of_a_hello_in_one_record():
    data = REAL["name only"][0]
    assert [parse(data[:length]).needed for length in range(5)] == [5] * 5
    # From 5 bytes on the shortest hello is asked for (9 + 41), once the message length is here the end of this one.
    assert [parse(data[:length]).needed for length in range(5, 9)] == [50] * 4
    assert {parse(data[:length]).needed for length in range(9, len(data))} == {len(data)}


def test_split_at_every_place_over_two_records():
    message = message_of(REAL["name and Istio's ALPN"][0])
    for cut in range(1, len(message)):
        data = in_records(message, [cut])
        parsed = parse(data)
        assert (parsed.status, parsed.server_name, parsed.application_protocols) == ("complete", SERVICE, ISTIO)
        for seen in (cut + 4, cut + 5, cut + 7, cut + 11, len(data)):
            length = min(seen, len(data) - 1)
            partial = parse(data[:length])
            assert partial.status == "need_more"
            assert length < partial.needed <= len(data)


def test_one_byte_in_each_record():
    message = message_of(REAL["name and Istio's ALPN"][0])
    data = in_records(message, range(1, len(message)))
    length, parsed = final(data)
    assert length == len(data)
    assert parsed.server_name == SERVICE


def test_a_client_that_sends_tiny_records_is_looked_at_a_few_times_only():
    message = message_of(REAL["large"][0])[:2700]
    message = message[:1] + number(2696, 3) + message[4:]
    data = in_records(message, range(1, len(message)))
    looks, length = 0, 1
    while (parsed := parse(data[:length])).status == "need_more" and parsed.needed <= len(data):
        looks += 1
        length = parsed.needed
    # 2700 records; each look leaves 5 in 6 bytes of the message missing: log(2700) / log(6/5) = 43.
    assert looks < 60


def test_bytes_behind_the_hello_do_not_matter():
    data = REAL["name only"][0]
    parsed = parse(data)
    assert parse(data + record(b"early data", kind=23)) == parsed
    assert parse(data + b"\x00\xff garbage") == parsed
    # A second handshake message in the record of the hello.
    message = message_of(data)
    assert parse(record(message + b"\x0b\x00\x00\x01x")) == parsed


def test_hello_ends_before_its_record_ends():
    message = message_of(REAL["name only"][0])
    data = record(message + bytes(16384 - len(message)))
    assert parse(data[: 5 + len(message)]).status == "complete"
    assert parse(data[: 4 + len(message)]).needed == 5 + len(message)


@pytest.mark.parametrize(
    "first", [b"G", b"GET / HTTP/1.1\r\n", b"\x15\x03\x01", b"\x80\x2e\x01", b"\x16\x02", b"\x16G"]
)
def test_other_first_bytes_are_no_tls_at_once(first):
    assert parse(first).status == "not_tls"


def test_sslv2_hello_is_no_tls():
    assert parse(b"\x80\x2e\x01\x03\x01\x00\x15\x00\x00\x00\x10").status == "not_tls"


@pytest.mark.parametrize("version", [0x0301, 0x0302, 0x0303, 0x0304])
def test_all_versions_of_tls_are_read(version):
    assert parse(hello(version=version)).status == "complete"
    assert parse(hello(version=version)).version == version


@pytest.mark.parametrize("version", [0x0300, 0x0200, 0x0403, 0xFEFD])
def test_other_versions_are_malformed(version):
    assert parse(hello(version=version)).status == "malformed"


def test_without_extension_block_there_is_no_server_name():
    parsed = parse(hello(extension_block=False))
    assert (parsed.status, parsed.server_name, parsed.application_protocols) == ("complete", "", ())


def test_empty_extension_block():
    assert parse(hello()).status == "complete"


def test_records_in_the_middle_must_be_handshake_records():
    message = handshake(hello_body(server_name_extension(b"a.example")))
    start, rest = message[:20], message[20:]
    assert parse(record(start) + record(rest)).status == "complete"
    for kind in (20, 21, 23, 24):
        data = record(start) + record(rest, kind=kind)
        length, parsed = final(data)
        assert parsed.status == "malformed"
        assert length == 5 + 20 + 1
    length, parsed = final(record(start) + record(rest, version=0x0201))
    assert (length, parsed.status) == (5 + 20 + 2, "malformed")


def test_record_lengths():
    assert parse(b"\x16\x03\x01\x00\x00").status == "malformed"
    assert parse(b"\x16\x03\x01" + number(16385, 2)).status == "malformed"
    assert parse(b"\x16\x03\x01" + number(16384, 2)).status == "need_more"
    message = handshake(hello_body())
    assert parse(record(message[:10]) + record(b"") + record(message[10:])).status == "malformed"


def test_other_handshake_messages_are_malformed_at_their_first_byte():
    length, parsed = final(record(handshake(hello_body(), kind=2)))
    assert (length, parsed.status) == (6, "malformed")


def test_message_too_short_for_a_hello_is_malformed_at_its_length():
    assert parse(record(number(1, 1) + number(40, 3))).status == "malformed"
    assert parse(record(number(1, 1) + number(41, 3))).status == "need_more"


def test_hello_of_16_kib_of_records_is_the_most():
    fixed = len(hello(extension(PADDING, b"")))
    largest = hello(extension(PADDING, bytes(LIMIT - fixed)), server_name_extension()[:0])
    assert len(largest) == LIMIT
    assert parse(largest).status == "complete"
    assert parse(largest[:-1]).needed == LIMIT
    larger = hello(extension(PADDING, bytes(LIMIT - fixed + 1)))
    # Told by the message length, long before the bytes are there.
    assert final(larger)[0] == 9
    assert parse(larger).status == "oversize"


def test_record_headers_count_towards_the_limit():
    message = handshake(hello_body(extension(PADDING, bytes(LIMIT - 5 - 51))))
    assert len(in_records(message)) == LIMIT
    data = in_records(message, [1000])
    # Five bytes too many: known as soon as the first record shows that it is not the last.
    length, parsed = final(data)
    assert (length, parsed.status) == (9, "oversize")


def test_limit_is_found_when_a_later_record_is_cut_short():
    message = handshake(hello_body(extension(PADDING, bytes(LIMIT - 10 - 51))))
    assert parse(in_records(message, [1000])).status == "complete"
    data = in_records(message, [1000, 2000])
    length, parsed = final(data)
    assert (length, parsed.status) == (1005 + 5, "oversize")


def test_server_name_is_lower_cased():
    assert parse(hello(server_name_extension(b"WWW.Example.COM[]@_~!"))).server_name == "www.example.com[]@_~!"


@pytest.mark.parametrize("name", [b"a.example.", b"10.0.0.1", b"::1", b"outbound|80||a.b", b"a" * 253])
def test_server_names_that_are_taken_as_they_are(name):
    parsed = parse(hello(server_name_extension(name)))
    assert (parsed.status, parsed.server_name) == ("complete", name.decode())


@pytest.mark.parametrize(
    "extensions",
    [
        [server_name_extension(b"")],
        [server_name_extension(b"a" * 254)],
        [server_name_extension(b"a" * 1000)],
        [server_name_extension(b"a\x00b")],
        [server_name_extension(b"a b")],
        [server_name_extension(b"a\x1fb")],
        [server_name_extension(b"a\x7fb")],
        [server_name_extension("bücher.example".encode())],
        [server_name_extension()],
        [server_name_extension(b"a", kind=1)],
        [server_name_extension(b"a", b"b")],
        [server_name_extension(b"a", b"")],
        [server_name_extension(b"a"), server_name_extension(b"a")],
        [server_name_extension(b"a"), server_name_extension(b"b"), server_name_extension(b"c")],
    ],
)
def test_what_is_no_server_name_is_told_when_the_hello_is_complete(extensions):
    data = hello(*extensions, alpn_extension(b"istio"))
    length, parsed = final(data)
    assert (length, parsed.status, parsed.server_name) == (len(data), "bad_sni", "")
    assert parsed.application_protocols == ("istio",)


@pytest.mark.parametrize(
    "body",
    [
        b"",  # not even a list
        b"\x00",
        number(5, 2) + b"\x00\x00\x01a",  # list longer than the extension
        number(3, 2) + b"\x00\x00\x01a",  # shorter
        number(4, 2) + b"\x00\x00\x02a",  # name longer than the list
        number(2, 2) + b"\x00\x00",  # cut off in the length of the name
    ],
)
def test_malformed_server_name_extension(body):
    assert parse(hello(extension(0, body))).status == "malformed"


def test_client_order_of_protocols_is_kept():
    offered = (b"zz", b"h2", b"\x00\xff", b"a" * 255, b"h2")
    assert parse(hello(alpn_extension(*offered))).application_protocols == tuple(p.decode("latin-1") for p in offered)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x00",
        number(0, 2),  # RFC 7301: at least one
        vector(b"\x00", 2),  # an empty name
        vector(b"\x02h2\x00", 2),
        vector(b"\x03h2", 2),  # name longer than the list
        number(4, 2) + b"\x02h2",  # list longer than the extension
        number(2, 2) + b"\x02h2",  # shorter
    ],
)
def test_malformed_alpn_extension(body):
    assert parse(hello(extension(16, body))).status == "malformed"


def test_second_alpn_extension_is_malformed():
    assert parse(hello(alpn_extension(b"h2"), alpn_extension(b"istio"))).status == "malformed"


def test_protocols_past_the_capacity_are_missing_said_to_be_and_checked():
    many = [b"%d" % n for n in range(100)]
    parsed = parse(hello(alpn_extension(*many)))
    assert parsed.application_protocols == tuple(str(n) for n in range(64))
    assert parsed.protocols_incomplete
    assert not parse(hello(alpn_extension(*many[:64]))).protocols_incomplete
    # 1024 bytes in all: of five long values the last one has no room.
    long = [bytes([65 + n]) * 255 for n in range(5)]
    assert parse(hello(alpn_extension(*long))).protocols_incomplete
    assert not parse(hello(alpn_extension(*long[:4]))).protocols_incomplete
    broken = vector(b"".join(vector(p, 1) for p in many) + b"\x09x", 2)
    assert parse(hello(extension(16, broken))).status == "malformed"


@pytest.mark.parametrize(
    "fields",
    [
        {"session": bytes(33)},
        {"ciphers": b""},
        {"ciphers": b"\x13\x01\x13"},
        {"compression": b""},
    ],
)
def test_malformed_fields(fields):
    assert parse(hello(**fields, extension_block=False)).status == "malformed"
    assert parse(hello(server_name_extension(b"a"), **fields)).status == "malformed"


def test_malformed_field_is_told_before_the_rest_is_there():
    # Session length of 33 stands at 5 + 4 + 34.
    length, parsed = final(hello(server_name_extension(b"a"), session=bytes(33)))
    assert (length, parsed.status) == (5 + 4 + 34 + 1, "malformed")


def test_lengths_that_reach_past_the_message_are_malformed():
    fixed = hello_body(extension_block=False)
    for block in (
        b"\x00",
        number(1, 2),
        number(4, 2) + number(0, 2) + b"\x00",
        number(4, 2) + number(7, 2) + number(1, 2),
    ):
        assert parse(in_records(handshake(fixed + block))).status == "malformed"
    # Bytes behind the extension block.
    assert parse(in_records(handshake(fixed + number(0, 2) + b"x"))).status == "malformed"
    for position, value in ((34, 255), (35, 255), (39, 255), (41, 255)):
        broken = bytearray(hello_body())
        broken[position] = value
        assert parse(in_records(handshake(bytes(broken)))).status == "malformed"


def test_every_truncated_message_is_malformed():
    message = message_of(REAL["name and Istio's ALPN"][0])
    body = message[4:]
    # Without its extension block (which a length field in the middle announces) the message is a legal old hello.
    old = 2 + 32 + 1 + body[34]
    old += 2 + int.from_bytes(body[old : old + 2], "big")
    old += 1 + body[old]
    for length in range(len(body)):
        expected = "complete" if length == old else "malformed"
        assert parse(in_records(handshake(body[:length]))).status == expected


def test_every_flipped_bit_gives_an_answer():
    data = REAL["name and Istio's ALPN"][0]
    for position in range(len(data)):
        for bit in range(8):
            flipped = bytearray(data)
            flipped[position] ^= 1 << bit
            parsed = parse(bytes(flipped))
            if parsed.status == "need_more":
                assert len(data) < parsed.needed <= LIMIT
            elif parsed.status != "complete":
                assert parsed.needed == 0


def test_parse_takes_bytes_only():
    with pytest.raises(TypeError):
        parse("text")
    with pytest.raises(TypeError):
        parse(None)


def test_spin_counts_complete_hellos():
    assert spin(REAL["neither"][0], 3) == 3
    assert spin(b"GET /", 3) == 0
