"""The HTTP side of admin: framing, keep-alive, limits and strangers' bytes, over real sockets on loopback."""

import asyncio
import errno
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress

import pytest
from eastgate.proxy.admin import http_server
from eastgate.proxy.admin.http_server import HttpServer, Request, Response
from eastgate.proxy.errors import UnavailableError


class Page:
    """A server whose page tells what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Request] = []
        self.server = HttpServer(self.answer)
        self.address = ("", 0)

    async def answer(self, request: Request) -> Response:
        self.asked.append(request)
        if request.path == "/broken":
            raise KeyError("nothing")
        if request.path == "/chunks":
            return Response(chunks=self.chunks())
        return Response(f"{request.method} {request.path} {request.query}\n")

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        for part in (b"one ", b"two ", b"three"):
            await asyncio.sleep(0)
            yield part

    async def talk(self, *pieces: bytes) -> bytes:
        """Everything that comes back for these bytes until the server closes."""
        reader, writer = await asyncio.open_connection(*self.address)
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        async with asyncio.timeout(10):
            answer = await reader.read()
        writer.close()
        return answer


@pytest.fixture
async def page() -> AsyncIterator[Page]:
    made = Page()
    made.address = await made.server.start("127.0.0.1", 0)
    yield made
    await made.server.close()


def ask(target: str, *headers: str, method: str = "GET") -> bytes:
    return "\r\n".join((f"{method} {target} HTTP/1.1", "Host: localhost", *headers, "", "")).encode()


async def test_request_arrives_undecoded_and_in_any_number_of_pieces(page: Page) -> None:
    question = ask("/stats?filter=^(a|b)%5C.c+$", "X-One: 1", "Connection: close")
    answer = await page.talk(*(question[i : i + 1] for i in range(len(question))))
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"\r\n\r\nGET /stats filter=^(a|b)%5C.c+$\n")
    assert page.asked[0].headers["x-one"] == "1"


async def test_requests_share_a_connection_pipelined_or_not(page: Page) -> None:
    answer = await page.talk(ask("/1") + ask("/2"), ask("/3", "Connection: close"))
    assert answer.count(b"HTTP/1.1 200 ") == 3
    assert [request.path for request in page.asked] == ["/1", "/2", "/3"]


async def test_http_1_0_is_closed_after_one_answer(page: Page) -> None:
    answer = await page.talk(b"GET /old HTTP/1.0\r\n\r\n")
    assert answer.endswith(b"GET /old \n")


async def test_head_has_the_length_and_no_body(page: Page) -> None:
    answer = await page.talk(ask("/h", "Connection: close", method="HEAD"))
    assert b"Content-Length: 9\r\n" in answer
    assert answer.endswith(b"\r\n\r\n")


async def test_chunks_are_framed(page: Page) -> None:
    answer = await page.talk(ask("/chunks", "Connection: close"))
    assert b"Transfer-Encoding: chunked" in answer
    assert answer.endswith(b"\r\n\r\n4\r\none \r\n4\r\ntwo \r\n5\r\nthree\r\n0\r\n\r\n")
    assert (await page.talk(b"GET /chunks HTTP/1.0\r\n\r\n")).endswith(b"\r\n\r\none two three")


async def test_body_is_dropped_and_the_next_request_found(page: Page) -> None:
    body = ask("/1", "Content-Length: 5", method="POST") + b"GET /"
    answer = await page.talk(body + ask("/2", "Connection: close"))
    assert answer.count(b"HTTP/1.1 200 ") == 2
    assert [request.path for request in page.asked] == ["/1", "/2"]


async def test_expectation_is_answered_before_the_body(page: Page) -> None:
    head = ask("/1", "Expect: 100-continue", "Content-Length: 2", "Connection: close", method="POST")
    reader, writer = await asyncio.open_connection(*page.address)
    writer.write(head)
    assert (await reader.readline()).startswith(b"HTTP/1.1 100")
    writer.write(b"ab")
    assert b"HTTP/1.1 200" in await reader.read()
    writer.close()


@pytest.mark.parametrize(
    ("question", "status"),
    [
        (b"\x16\x03\x01\x00\xff\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),  # no Host
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", b"400"),
        (ask("/", "X: " + "y" * (1 << 17)), b"431"),
        (ask("/", f"Content-Length: {1 << 21}", method="POST") + bytes(1 << 21), b"413"),
    ],
)
async def test_what_is_no_request_is_refused_and_closed(page: Page, question: bytes, status: bytes) -> None:
    try:
        answer = await page.talk(question)
    except ConnectionResetError:
        # The server closes while the client still sends.
        assert status in (b"413", b"431")
    else:
        assert answer.startswith(b"HTTP/1.1 " + status)
    assert page.asked == []


async def test_error_of_a_page_is_500_and_logged(page: Page, caplog: pytest.LogCaptureFixture) -> None:
    answer = await page.talk(ask("/broken"), ask("/next", "Connection: close"))
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert b"HTTP/1.1 200 " in answer
    (record,) = caplog.records
    fields = record.__dict__["fields"]
    assert (fields["part"], fields["about"], fields["cause"]) == ("admin", "/broken", "KeyError: 'nothing'")


async def test_silent_client_is_closed(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "IDLE_S", 0.05)
    assert (await page.talk(ask("/1"))).count(b"HTTP/1.1 200 ") == 1
    monkeypatch.setattr(http_server, "HEAD_S", 0.05)
    with suppress(ConnectionResetError):
        assert await page.talk(b"GET / HTTP/1.1\r\n") == b""


async def test_request_that_was_begun_does_not_get_the_time_of_a_silence(
    page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_server, "HEAD_S", 0.05)
    answer = await page.talk(ask("/1") + b"GET /2 HT")
    assert answer.count(b"HTTP/1.1 ") == 1


async def test_beyond_the_limit_the_longest_silent_goes_and_the_newest_is_answered(page: Page) -> None:
    server = HttpServer(page.answer, max_connections=2)
    page.address = await server.start("127.0.0.1", 0)
    never, saying_nothing = await asyncio.open_connection(*page.address)
    # Its silence is younger than the other's.
    once, keeping = await asyncio.open_connection(*page.address)
    keeping.write(ask("/first"))
    await once.readuntil(b"/first \n")
    assert (await page.talk(ask("/1", "Connection: close"))).startswith(b"HTTP/1.1 200 ")
    assert await ended(never)
    begun, writing = await asyncio.open_connection(*page.address)
    writing.write(ask("/second", "X: 1")[:-4])
    assert (await page.talk(ask("/2", "Connection: close"))).startswith(b"HTTP/1.1 200 ")
    assert await ended(once)
    writing.write(b"\r\n\r\n")
    assert (await begun.readline()).startswith(b"HTTP/1.1 200 ")
    assert server.evicted == 2
    await server.close()
    for writer in (saying_nothing, keeping, writing):
        writer.close()


async def ended(reader: asyncio.StreamReader) -> bool:
    """Once the server has closed or reset the connection."""
    with suppress(ConnectionResetError):
        return await reader.read() == b""
    return True


def filled(monkeypatch: pytest.MonkeyPatch, page: Page) -> asyncio.Event:
    """Have /chunks never end; set when its generator was closed."""
    closed = asyncio.Event()

    async def endless() -> AsyncGenerator[bytes, None]:
        try:
            while True:
                yield bytes(65536)
        finally:
            closed.set()

    monkeypatch.setattr(page, "chunks", endless)
    return closed


async def test_client_that_reads_nothing_is_dropped_with_what_was_made_for_it(
    page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_server, "TRANSFER_S", 0.05)
    monkeypatch.setattr(http_server, "BYTES_PER_S", 1 << 30)
    closed = filled(monkeypatch, page)
    _, writer = await asyncio.open_connection(*page.address)
    writer.write(ask("/chunks"))
    async with asyncio.timeout(10):
        await closed.wait()
    writer.close()


async def test_of_many_large_answers_the_one_that_nobody_reads_makes_room(
    page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_server, "MAX_LARGE", 1)
    monkeypatch.setattr(http_server, "STALLED_S", 0.0)
    closed = filled(monkeypatch, page)
    _, unread = await asyncio.open_connection(*page.address)
    unread.write(ask("/chunks"))
    reader, writer = await asyncio.open_connection(*page.address)
    writer.write(ask("/chunks"))
    assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
    async with asyncio.timeout(10):
        await closed.wait()
    # While all are being read, the next has to come again.
    monkeypatch.setattr(http_server, "STALLED_S", 3600.0)
    answer = await page.talk(ask("/chunks", "Connection: close"))
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"Retry-After: 1" in answer
    for one in (unread, writer):
        one.close()


async def test_answer_that_cannot_be_made_is_one_line(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken() -> AsyncGenerator[bytes, None]:
        raise UnavailableError("the renderer is gone")
        yield b""

    monkeypatch.setattr(page, "chunks", broken)
    answer = await page.talk(ask("/chunks"), ask("/next", "Connection: close"))
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert b"\r\n\r\nthe renderer is gone\nHTTP/1.1 200 " in answer


async def test_answer_that_breaks_off_shows_that_it_is_not_whole(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken() -> AsyncGenerator[bytes, None]:
        yield b"half"
        raise UnavailableError("the renderer is gone")

    monkeypatch.setattr(page, "chunks", broken)
    reader, writer = await asyncio.open_connection(*page.address)
    writer.write(ask("/chunks"))
    with suppress(ConnectionResetError):
        assert not (await reader.read()).endswith(b"0\r\n\r\n")
    writer.close()


async def test_close_ends_open_connections(page: Page) -> None:
    reader, writer = await asyncio.open_connection(*page.address)
    writer.write(ask("/first"))
    await reader.readuntil(b"/first \n")
    await page.server.close()
    assert await reader.read() == b""
    writer.close()


async def test_addresses_and_names_are_listened_at(page: Page) -> None:
    for host in ("::1", "localhost"):
        server = HttpServer(page.answer)
        page.address = await server.start(host, 0)
        assert page.address[0] in {"::1", "127.0.0.1"}
        assert (await page.talk(ask("/1", "Connection: close"))).startswith(b"HTTP/1.1 200 ")
        with pytest.raises(OSError) as refused:
            await HttpServer(page.answer).start(*page.address)
        assert refused.value.errno == errno.EADDRINUSE
        await server.close()
