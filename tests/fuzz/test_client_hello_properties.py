"""Any bytes whatever, bytes that are nearly a hello, and real hellos of other clients."""

from pathlib import Path

import pytest
from eastgate.fastpath.match.client_hello import ParsedHello, parse
from hypothesis import given, settings
from hypothesis import strategies as st

from ..fastpath.match.hellos import (
    LIMIT,
    alpn_extension,
    extension,
    handshake,
    hello_body,
    in_records,
    message_of,
    record,
    server_name_extension,
)
from .prefixes import check_prefixes

CORPUS = {
    path.stem: path.read_bytes() for path in sorted((Path(__file__).parent / "corpus/client_hello").glob("*.bin"))
}
SERVICE = "outbound_.80_._.reviews.default.svc.cluster.local"
EXPECTED = {
    "curl-http1-tls12": ("www.example.com", ["http/1.1"]),
    "curl-http2-http1": ("www.example.com", ["h2", "http/1.1"]),
    "curl-no-alpn-ip": ("", []),
    "go-istio": (SERVICE, ["istio-peer-exchange", "istio"]),
    "openssl-istio": (SERVICE, ["istio-peer-exchange", "istio"]),
    "openssl-istio-upper-case": (SERVICE, ["istio"]),
    # The first nine fit into ALPN_BYTES.
    "openssl-many-protocols": (SERVICE, [f"protocol-{n:03}-" + "x" * 100 for n in range(9)]),
    "openssl-noservername": ("", []),
    "openssl-records-of-512": (SERVICE, ["istio"] + [f"protocol-{n:03}-" + "x" * 100 for n in range(9)]),
    "openssl-tls10": ("old.example", []),
    "openssl-tls12-istio": (SERVICE, ["istio"]),
    "python-ip": ("", []),
}

STARTS = (b"\x16\x03\x01", b"\x16\x03\x01\x00\xc8\x01\x00", b"\x16\x03\x01\x40\x00\x01\x00\x3f")
EXAMPLES = settings(max_examples=300, deadline=None)
extensions = st.lists(
    st.one_of(
        st.lists(st.binary(max_size=300), max_size=3).map(lambda names: server_name_extension(*names)),
        st.from_regex(rb"[A-Za-z0-9_.-]{1,60}", fullmatch=True).map(server_name_extension),
        st.lists(st.binary(max_size=40), max_size=70).map(lambda protocols: alpn_extension(*protocols)),
        st.builds(extension, st.sampled_from((0, 10, 16, 21, 43, 0x0A0A)), st.binary(max_size=80)),
    ),
    max_size=5,
)
bodies = st.builds(
    lambda parts, version, session, ciphers, block: hello_body(
        *parts, version=version, session=session, ciphers=ciphers, extension_block=block
    ),
    extensions,
    st.sampled_from((0x0300, 0x0301, 0x0303, 0x0304)),
    st.binary(max_size=33),
    st.binary(max_size=9),
    st.booleans(),
)


@st.composite
def flights(draw: st.DrawFn) -> bytes:
    """A hello, perhaps cut into records, damaged in a few places, and followed by something."""
    message = handshake(draw(bodies))
    cuts = draw(st.lists(st.integers(1, len(message) - 1), max_size=6, unique=True))
    data = bytearray(in_records(message, cuts) + draw(st.binary(max_size=12)))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(data) - 1))
        match draw(st.sampled_from(("replace", "insert", "delete"))):
            case "replace":
                data[at] = draw(st.integers(0, 255))
            case "insert":
                data[at:at] = draw(st.binary(min_size=1, max_size=4))
            case _:
                del data[at : at + draw(st.integers(1, 4))]
                data = data or bytearray(1)
    return bytes(data)


class Fields:
    """Big-endian fields out of bytes; ValueError when there are not enough."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def take(self, count: int) -> bytes:
        if count > len(self.data):
            raise ValueError("cut off")
        taken, self.data = self.data[:count], self.data[count:]
        return taken

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def vector(self, size: int) -> bytes:
        return self.take(self.number(size))


def message_in(data: bytes) -> bytes:
    """The first handshake message, records joined."""
    records, message = Fields(data), b""
    while len(message) < 4 or len(message) < 4 + int.from_bytes(message[1:4], "big"):
        kind, major, _ = records.take(3)
        size = records.number(2)
        if kind != 22 or major != 3 or not 1 <= size <= 16384:
            raise ValueError("record")
        # The record that holds the end of the message need not be complete.
        message += records.take(min(size, len(records.data)) or 1)
    return message[: 4 + int.from_bytes(message[1:4], "big")]


def reference(data: bytes) -> tuple[str, tuple[str, ...]] | None:
    """Server name ("!" when it is none) and protocols of a well-formed hello, else None. Slow and obvious."""
    try:
        message = Fields(message_in(data))
        if message.number(1) != 1:
            return None
        body = Fields(message.vector(3))
        major, minor = body.take(2)
        body.take(32)
        session, ciphers, compression = body.vector(1), body.vector(2), body.vector(1)
        if major != 3 or minor == 0 or len(session) > 32 or not ciphers or len(ciphers) % 2 or not compression:
            return None
        block = Fields(body.vector(2) if body.data else b"")
        if body.data:
            return None
        named, name, negotiated = 0, "", None
        while block.data:
            kind, value = block.number(2), Fields(block.vector(2))
            if kind == 0:
                named += 1
                # A second server name is never looked into.
                if named == 1:
                    listed, names = Fields(value.vector(2)), []
                    if value.data:
                        return None
                    while listed.data:
                        names.append((listed.number(1), listed.vector(2)))
                    name = host_name(names)
            elif kind == 16:
                if negotiated is not None:
                    return None
                listed, negotiated = Fields(value.vector(2)), []
                if value.data or not listed.data:
                    return None
                while listed.data:
                    negotiated.append(listed.vector(1))
                if b"" in negotiated:
                    return None
        return ("!" if named > 1 else name), kept(negotiated or [])
    except ValueError:
        return None


def host_name(names: list[tuple[int, bytes]]) -> str:
    if len(names) != 1 or names[0][0] != 0:
        return "!"
    name = names[0][1]
    if not 1 <= len(name) <= 253 or not all(0x21 <= byte <= 0x7E for byte in name):
        return "!"
    return name.decode().lower()


def kept(protocols: list[bytes]) -> tuple[str, ...]:
    """What PROTOCOL_CAPACITY (64) and PROTOCOL_BYTES (1024) keep."""
    found: list[bytes] = []
    for protocol in protocols:
        if len(found) < 64 and sum(map(len, found)) + len(protocol) <= 1024:
            found.append(protocol)
    return tuple(protocol.decode("latin-1") for protocol in found)


def agrees(parsed: ParsedHello, data: bytes) -> bool:
    expected = reference(data[:LIMIT])
    if expected is None:
        return parsed.status not in ("complete", "bad_sni")
    if expected[0] == "!":
        return parsed.status == "bad_sni" and parsed.application_protocols == expected[1]
    return parsed.status == "complete" and (parsed.server_name, parsed.application_protocols) == expected


def test_corpus_is_complete():
    assert set(CORPUS) == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_hello_of_a_real_client(name):
    parsed = check_prefixes(parse, CORPUS[name], limit=LIMIT)
    assert (parsed.status, parsed.server_name, list(parsed.application_protocols)) == ("complete", *EXPECTED[name])
    assert agrees(parsed, CORPUS[name])


def test_a_real_hello_lies_in_several_records():
    data = CORPUS["openssl-records-of-512"]
    assert len(message_of(data)) + 3 * 5 == len(data)


@EXAMPLES
@given(st.binary(max_size=200))
def test_any_bytes(data):
    assert agrees(check_prefixes(parse, data, limit=LIMIT), data)


@EXAMPLES
@given(st.binary(max_size=200), st.sampled_from(STARTS))
def test_any_bytes_that_begin_like_a_hello(data, start):
    assert agrees(check_prefixes(parse, start + data, limit=LIMIT), start + data)


@EXAMPLES
@given(flights())
def test_nearly_a_hello(data):
    parsed = check_prefixes(parse, data, limit=LIMIT, lengths=range(0, len(data), 1 + len(data) // 300))
    assert agrees(parsed, data)


@EXAMPLES
@given(bodies, st.data())
def test_records_do_not_change_the_answer(body, data):
    message = handshake(body)
    cuts = data.draw(st.lists(st.integers(1, len(message) - 1), max_size=20, unique=True))
    whole = parse(in_records(message))
    assert parse(in_records(message, cuts)) == whole
    assert parse(in_records(message, cuts) + record(b"more", kind=23)) == whole


@EXAMPLES
@given(st.sampled_from(sorted(CORPUS)), st.data())
def test_real_hello_with_bytes_replaced(name, data):
    broken = bytearray(CORPUS[name])
    for at, value in data.draw(st.lists(st.tuples(st.integers(0, len(broken) - 1), st.integers(0, 255)), max_size=4)):
        broken[at] = value
    parsed = check_prefixes(parse, bytes(broken), limit=LIMIT, lengths=range(0, len(broken), 1 + len(broken) // 200))
    assert agrees(parsed, bytes(broken))
