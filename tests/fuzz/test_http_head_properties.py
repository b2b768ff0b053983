"""HTTP heads whole, byte by byte and damaged: one answer, that of the slow model."""

from pathlib import Path

import pytest
from eastgate.fastpath.match.http_head import inspect_bytes, parse
from hypothesis import given, settings
from hypothesis import strategies as st

from ..oracle import http_head
from .prefixes import check_prefixes

FOLDER = Path(__file__).parent / "corpus" / "http_head"
CORPUS = {path.name: path.read_bytes() for path in sorted(FOLDER.iterdir())}
LIMIT = http_head.LIMIT

words = st.sampled_from(
    [
        *(b"GET", b"CONNECT", b"PRI", b"get", b"P", b"*", b"/", b"/a?b", b"http://", b"a.example", b":80", b"@", b"@@"),
        *(b" ", b"  ", b"\t", b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"\0", b"\x01", b"\x80", b"\x0c", b"#"),
        *(b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"http/1.1", b"HTTP/", b"Host", b"hOST", b":", b"Host: a\r\n"),
        *(b"SM\r\n\r\n", http_head.PREFACE, b"x-y: z\r\n", b" folded\r\n"),
    ]
)


def check(data: bytes, *, every: bool = True) -> None:
    """Both questions agree with the model at whichever prefix, and with themselves at all."""
    lengths = None if every else range(0, len(data), 97)
    check_prefixes(parse, data, limit=LIMIT, lengths=lengths)
    check_prefixes(inspect_bytes, data, limit=LIMIT, lengths=lengths)
    for length in range(len(data) + 1) if lengths is None else lengths:
        shown = data[:length]
        found = parse(shown)
        assert (found.status, found.protocol, found.authority) == http_head.head(shown), shown
        inspected = inspect_bytes(shown)
        expected = http_head.protocol(shown[:LIMIT])
        if expected == "need_more":
            assert inspected.status == ("oversize" if length >= LIMIT else "need_more"), shown
        else:
            assert (inspected.protocol, inspected.status) == (expected, "complete" if expected else "not_http"), shown


@pytest.mark.parametrize("name", CORPUS)
def test_request_of_the_corpus(name):
    expected = name.rpartition(".")[0].rpartition("-")[2]
    found = parse(CORPUS[name])
    assert (found.protocol.replace("/", "") or found.status) == expected
    check(CORPUS[name], every=len(CORPUS[name]) < 2000)


@pytest.mark.parametrize("name", [name for name in CORPUS if len(CORPUS[name]) < 500])
def test_corpus_with_each_byte_changed_or_left_out(name):
    data = CORPUS[name]
    for at in range(len(data)):
        for changed in (
            data[:at] + data[at + 1 :],
            *(data[:at] + bytes([new]) + data[at + 1 :] for new in b"\0\n :/x"),
        ):
            found = parse(changed)
            assert (found.status, found.protocol, found.authority) == http_head.head(changed), changed


@settings(max_examples=1500, deadline=None)
@given(st.lists(words, max_size=14).map(b"".join))
def test_words_of_http(data):
    check(data)


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes(data):
    check(data)


@settings(max_examples=30, deadline=None)
@given(st.integers(LIMIT - 40, LIMIT + 40), st.sampled_from([b"GET /", b"GET / HTTP/1.1\r\nA: ", b"a"]), words)
def test_around_the_limit(length, start, end):
    check(start + b"a" * (length - len(start)) + end, every=False)
