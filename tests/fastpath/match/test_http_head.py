import pytest
from eastgate.fastpath.match.http_head import inspect_bytes, parse, protocols_of

LIMIT = 16384
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def answer(data: bytes) -> str:
    """Protocol, or the status where there is none."""
    found = inspect_bytes(data)
    return found.protocol or found.status


def host(lines: str, *, line: str = "GET / HTTP/1.1") -> str:
    """Host of a whole request head, or the status where there is none."""
    found = parse(f"{line}\r\n{lines}".encode("latin-1"))
    return found.status if found.status != "complete" else found.authority


# ---- protocol


@pytest.mark.parametrize(
    ("data", "protocol"),
    [
        (b"GET / HTTP/1.1\r\n", "http/1.1"),
        (b"GET / HTTP/1.1\n", "http/1.1"),
        (b"GET / HTTP/1.1\r\nHost: a", "http/1.1"),
        (b"GET / HTTP/1.0\r\n", "http/1.0"),
        (b"GET / HTTP/0.9\r\n", "http/1.0"),
        (b"GET /\r\n", "http/1.0"),
        (b"GET / HTTP/2.0\r\n", "http/1.0"),
        (b"BREW /pot HTTP/1.1\r\n", "http/1.1"),
        (b"OPTIONS * HTTP/1.1\r\n", "http/1.1"),
        (b"CONNECT a.example:443 HTTP/1.1\r\n", "http/1.1"),
        (b"GET http://a.example/b HTTP/1.1\r\n", "http/1.1"),
        (b"GET  /  HTTP/1.1 \r\n", "http/1.1"),
        (PREFACE, "h2c"),
        (PREFACE + b"\0\0\0\4", "h2c"),
        (b"PRI * HTTP/1.1\r\n", "http/1.1"),
        (b"PRIX / HTTP/1.1\r\n", "http/1.1"),
        (PREFACE[:-2] + b"x\n", "http/1.0"),
        (b"\r\nGET / HTTP/1.1\r\n", "not_http"),
        (b" GET / HTTP/1.1\r\n", "not_http"),
        (b"GET / HTTP/1.1 x\r\n", "not_http"),
        (b"GET / http/1.1\r\n", "not_http"),
        (b"GET / HTTP/1.10\r\n", "not_http"),
        (b"GET a HTTP/1.1\r\n", "not_http"),
        (b"GET /\x80 HTTP/1.1\r\n", "not_http"),
        (b"GET\r\n", "not_http"),
        (b"EHLO mail.example\r\n", "not_http"),
        (b"EHLO /\r\n", "http/1.0"),
        (b"\x16\x03\x01", "not_http"),
        (b"\0", "not_http"),
        (b"G@", "not_http"),
    ],
)
def test_protocol(data, protocol):
    assert answer(data) == protocol


@pytest.mark.parametrize("data", [b"", b"G", b"GET / HTTP/1.1\r", b"PRI", PREFACE[:23], b"x" * 1000, b"GET /\x80"])
def test_what_may_become_a_line_waits_for_a_byte(data):
    found = inspect_bytes(data)
    assert (found.status, found.needed) == ("need_more", len(data) + 1)


def test_a_line_that_never_ends_waits_within_bounds():
    assert inspect_bytes(b"GET /" + b"a" * (LIMIT - 6)).status == "need_more"
    assert inspect_bytes(b"GET /" + b"a" * (LIMIT - 5)).status == "oversize"
    # What lies behind the limit is not looked at.
    assert inspect_bytes(b"GET /" + b"a" * LIMIT + b" HTTP/1.1\r\n").status == "oversize"
    assert inspect_bytes(b"GET /" + b"a" * (LIMIT - 16) + b" HTTP/1.1\n").protocol == "http/1.1"


@pytest.mark.parametrize("protocol", ["http/1.0", "http/1.1", "h2c"])
def test_protocols_stand_for_themselves(protocol):
    assert protocols_of(protocol) == (protocol,)


# ---- host


@pytest.mark.parametrize(
    ("lines", "authority"),
    [
        ("Host: a.example\r\n", "a.example"),
        ("hOsT:A.Example:8080\r\n", "a.example:8080"),
        ("Accept: */*\r\nHost: \t a.example \t\r\n", "a.example"),
        ("Host: [fd00::1]:80\n", "[fd00::1]:80"),
        ("Hosts: b\r\nX-Host: c\r\nHost: a\r\n", "a"),
        ("X:\r\nHost: a\r\n", "a"),
        # What comes behind is not read.
        ("Host: a\r\nHost: b\r\n folded", "a"),
        ("Host: a b\r\n", "malformed"),
        ("Host: a/b\r\n", "malformed"),
        ("Host: \xe4\r\n", "malformed"),
        ("Host : a\r\n", "malformed"),
        (" Host: a\r\n", "malformed"),
        ("Accept: b\r\n Host: a\r\n", "malformed"),
        ("Accept: b\r\n\tfolded\r\nHost: a\r\n", "malformed"),
        ("Accept\r\nHost: a\r\n", "malformed"),
        (": b\r\nHost: a\r\n", "malformed"),
        ("Host: " + "a" * 271 + "\r\n", "a" * 271),
        ("Host: " + "a" * 272 + "\r\n", "malformed"),
        ("Host:\r\n", ""),
        ("Host: \r\nHost: a\r\n", ""),
        ("Accept: b\r\n\r\nHost: a\r\n", "no_authority"),
        ("\r\n", "no_authority"),
        ("\n", "no_authority"),
        ("Host: a", "need_more"),
        ("Host: a\r", "need_more"),
        ("", "need_more"),
    ],
)
def test_host_line(lines, authority):
    assert host(lines) == authority


@pytest.mark.parametrize(
    ("line", "authority"),
    [
        ("GET http://A.example/x HTTP/1.1", "a.example"),
        ("GET https://a.example:8443?x HTTP/1.1", "a.example:8443"),
        ("GET http://a.example HTTP/1.1", "a.example"),
        ("GET http:///x HTTP/1.1", "no_authority"),
        ("CONNECT a.example:443 HTTP/1.1", "a.example:443"),
        ("CONNECT a.example:443/x HTTP/1.1", "malformed"),
        ("CONNECT http://a.example HTTP/1.1", "malformed"),
        ("CONNECT /x HTTP/1.1", "b"),
        ("OPTIONS * HTTP/1.1", "b"),
        ("OPTIONS *x HTTP/1.1", "malformed"),
        ("GET * HTTP/1.1", "malformed"),
        ("CONNECT * HTTP/1.1", "malformed"),
        ("GET /x#y HTTP/1.1", "malformed"),
        ("GET http://a/#y HTTP/1.1", "malformed"),
        ("GET /http://a HTTP/1.1", "b"),
        ("GET / HTTP/1.0", "b"),
        ("GET b HTTP/1.1", "not_http"),
    ],
)
def test_host_of_the_request_line_comes_before_the_host_line(line, authority):
    assert host("Host: b\r\n", line=line) == authority


def test_preface_says_no_host_and_does_not_wait_for_one():
    found = parse(PREFACE)
    assert (found.status, found.protocol, found.authority) == ("complete", "h2c", "")


def test_host_must_come_within_the_limit():
    line = b"GET / HTTP/1.1\r\n"
    assert parse(line + b"A: " + b"a" * (LIMIT - len(line) - 4)).status == "need_more"
    assert parse(line + b"A: " + b"a" * (LIMIT - len(line) - 3)).status == "oversize"
    filler = b"A: " + b"a" * (LIMIT - len(line) - 5 - 9) + b"\r\n"
    assert len(line + filler) == LIMIT - 9
    assert parse(line + filler + b"Host: a\r\n").authority == "a"
    assert parse(line + b"B" + filler + b"Host: a\r\n").status == "oversize"
