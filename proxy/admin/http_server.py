"""A small HTTP/1.1 server for admin pages: h11 parses and frames, this module moves the bytes and keeps the times.

Why not a web framework: ADR 4. Knows no page and decides nothing about who may ask.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field

import h11

# How long a client may say nothing between requests, and take to send one or to accept an answer.
IDLE_S = 75.0
TRANSFER_S = 30.0
# Request line and headers. pilot-agent's longest question, a regular expression, takes some hundred bytes.
MAX_HEAD_BYTES = 65536
# Bodies are read and dropped: no page takes one.
MAX_BODY_BYTES = 1 << 20
# Beyond these a client waits for nothing: its connection is closed at once.
MAX_CONNECTIONS = 256
READ_BYTES = 65536

TEXT = "text/plain; charset=utf-8"
JSON = "application/json; charset=utf-8"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked. ``headers``: names in lower case, the last one of a name wins. ``query`` is raw, without '?'."""

    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Response:
    """What is answered: ``text``, or ``chunks`` as they come, for what takes long to make."""

    text: str = ""
    status: int = 200
    content_type: str = TEXT
    headers: Mapping[str, str] = field(default_factory=dict)
    chunks: AsyncGenerator[bytes, None] | None = None


Handler = Callable[[Request], Awaitable[Response]]


class HttpServer:
    """Serves one handler on one address. Owned by the loop that called ``start``."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self, host: str, port: int) -> tuple[str, int]:
        """Listen; return the bound address. Raises OSError when it cannot be bound."""
        self._server = await asyncio.start_server(self._accepted, host, port, limit=READ_BYTES)
        bound = self._server.sockets[0].getsockname()
        return bound[0], bound[1]

    async def close(self) -> None:
        """Stop listening and cut what is open. A second call does nothing."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
        connections = tuple(self._connections)
        for task in connections:
            task.cancel()
        if connections:
            await asyncio.wait(connections)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            if len(self._connections) < MAX_CONNECTIONS:
                self._connections.add(task)
                await _Connection(self._handler, reader, writer).serve()
        except (OSError, TimeoutError):
            # The client went away, or was too slow: its own affair.
            pass
        except asyncio.CancelledError:
            # Only close() cancels; let through, the stream protocol would report it as an error.
            pass
        except Exception:
            logger.exception("admin_error")
        finally:
            self._connections.discard(task)
            writer.close()


class _Connection:
    """One client's connection, from its first byte to its last."""

    def __init__(self, handler: Handler, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._handler = handler
        self._reader = reader
        self._writer = writer
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES)

    async def serve(self) -> None:
        """Answer requests until one side has had enough."""
        while True:
            try:
                async with asyncio.timeout(IDLE_S):
                    request = await self._request()
            except h11.RemoteProtocolError as error:
                if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
                    await self._respond(Response(f"{error}\n", status=error.error_status_hint))
                return
            if request is None:
                return
            await self._respond(await self._answer_to(request), with_body=request.method != "HEAD")
            if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
                return
            self._http.start_next_cycle()

    async def _request(self) -> Request | None:
        """The next request, its body read and dropped; None when the client ended the connection."""
        head = await self._event()
        if not isinstance(head, h11.Request):
            return None
        dropped = 0
        while isinstance(event := await self._event(), h11.Data):
            dropped += len(event.data)
            if dropped > MAX_BODY_BYTES:
                raise h11.RemoteProtocolError("no page takes a body", error_status_hint=413)
        path, _, query = head.target.decode("ascii").partition("?")
        headers = {name.decode("ascii"): value.decode("latin-1") for name, value in head.headers}
        return Request(head.method.decode("ascii"), path, query, headers)

    async def _event(self) -> object:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            if self._http.they_are_waiting_for_100_continue:
                await self._send(h11.InformationalResponse(status_code=100, headers=[]))
            self._http.receive_data(await self._reader.read(READ_BYTES))
        return event

    async def _answer_to(self, request: Request) -> Response:
        try:
            return await self._handler(request)
        except Exception:
            logger.exception("admin_error path=%s", request.path)
            return Response("Internal error, see the log\n", status=500)

    async def _respond(self, response: Response, *, with_body: bool = True) -> None:
        headers = [("Content-Type", response.content_type), ("X-Content-Type-Options", "nosniff")]
        headers += response.headers.items()
        body = response.text.encode()
        if response.chunks is None:
            headers.append(("Content-Length", str(len(body))))
        await self._send(h11.Response(status_code=response.status, headers=headers))
        if with_body and response.chunks is None:
            await self._send(h11.Data(data=body))
        elif with_body and response.chunks is not None:
            # Closed at once when the client goes: it may hold a process.
            async with aclosing(response.chunks) as chunks:
                async for chunk in chunks:
                    await self._send(h11.Data(data=chunk))
        await self._send(h11.EndOfMessage())

    async def _send(self, event: h11.Event) -> None:
        if data := self._http.send(event):
            self._writer.write(data)
            async with asyncio.timeout(TRANSFER_S):
                await self._writer.drain()
