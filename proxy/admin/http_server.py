"""A small HTTP/1.1 server for admin pages: h11 parses and frames, this module moves the bytes and keeps the times.

Why not a web framework: ADR 4. Knows no page and decides nothing about who may ask. Whoever holds up others goes first:
the client that has said nothing for longest when there are too many, the one that reads nothing of a large answer.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import aclosing
from dataclasses import field
from typing import Any, Protocol

import h11
from eastgate.proxy.control_errors import ControlErrors, Part
from eastgate.proxy.errors import UnavailableError
from eastgate.xds.log import Log
from eastgate.xds.record import record

# How long a client may say nothing between requests; how long its first request, or one that it has begun, may take.
IDLE_S = 75.0
HEAD_S = 10.0
# How long a client may leave an answer unread, in all, and what it has to take of a large one in each further second.
TRANSFER_S = 10.0
BYTES_PER_S = 65536
# Request line and headers. pilot-agent's longest question, a regular expression, takes some hundred bytes.
MAX_HEAD_BYTES = 65536
# Bodies are read and dropped: no page takes one.
MAX_BODY_BYTES = 1 << 20
# Connections at once. One more costs the one that has been silent for longest its place.
MAX_CONNECTIONS = 256
# Answers in pieces at once, each of which holds what it is made of. One more costs a place the one that nobody has
# read from for longest, if that is at least so long; else it has to come again.
MAX_LARGE = 16
STALLED_S = 1.0
BACKLOG = 1024
READ_BYTES = 65536
# What the kernel keeps of an answer for a client that does not read. It takes twice as much.
SEND_BUFFER_BYTES = 65536

TEXT = "text/plain; charset=utf-8"
JSON = "application/json; charset=utf-8"

_log = Log("admin")


class Chunks(Protocol):
    """Pieces of an answer as they come. ``aclose`` is called in any case, also when nothing was asked for."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...
    def __anext__(self) -> Coroutine[object, object, bytes]: ...
    def aclose(self) -> Coroutine[object, object, None]: ...


@record
class Request:
    """What was asked. ``headers``: names in lower case, the last one of a name wins. ``query`` is raw, without '?'."""

    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


@record
class Response:
    """What is answered: ``text``, or ``chunks`` as they come, for what takes long to make. ``shared``: what they come
    from is limited elsewhere, and does not count among large answers.
    """

    text: str = ""
    status: int = 200
    content_type: str = TEXT
    headers: Mapping[str, str] = field(default_factory=dict)
    chunks: Chunks | None = None
    shared: bool = False


Handler = Callable[[Request], Awaitable[Response]]


class HttpServer:
    """Serves one handler on one address. Owned by the loop that called ``start``."""

    def __init__(
        self, handler: Handler, errors: ControlErrors | None = None, *, max_connections: int = MAX_CONNECTIONS
    ) -> None:
        self.evicted = 0
        """Connections that were closed to make room for others."""
        self.accepted = 0
        """All connections, so far."""
        self._handler = handler
        self.errors = errors if errors is not None else ControlErrors()
        self._max_connections = max_connections
        self._server: asyncio.Server | None = None
        self._connections: dict[_Connection, asyncio.Task[None]] = {}
        # Those that owe us a request, the longest waiting first; those that are given a large answer.
        self._silent: dict[_Connection, None] = {}
        self._large: dict[_Connection, None] = {}

    async def start(self, host: str, port: int) -> tuple[str, int]:
        """Listen; return the bound address. Raises OSError when it cannot be bound."""
        place: dict[str, Any] = {"host": host, "port": port}
        if (family := _family_of(host)) is not None:
            # Nobody has to be asked for it: the loop would begin threads for that, and keep them.
            place = {"sock": socket.create_server((host, port), family=family, backlog=BACKLOG)}
        self._server = await asyncio.start_server(self._accepted, **place, limit=READ_BYTES, backlog=BACKLOG)
        for listening in self._server.sockets:
            # Accepted sockets inherit it.
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        bound = self._server.sockets[0].getsockname()
        return bound[0], bound[1]

    @property
    def active(self) -> int:
        """Open connections."""
        return len(self._connections)

    def stop_listening(self) -> None:
        """Take no further connection; those that are open go on. A second call does nothing."""
        server, self._server = self._server, None
        if server is not None:
            server.close()

    async def close(self) -> None:
        """Stop listening and cut what is open. A second call does nothing."""
        self.stop_listening()
        connections = tuple(self._connections.values())
        for task in connections:
            task.cancel()
        if connections:
            await asyncio.wait(connections)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connection = _Connection(self, reader, writer)
        self.accepted += 1
        if len(self._connections) >= self._max_connections:
            self._evict(next(iter(self._silent), None) or max(self._connections, key=_Connection.unread_s))
        self._connections[connection] = task
        try:
            with self.errors.guard(Part.ADMIN) as edge:
                await self._serve(connection, writer.transport)
            if edge.error is not None:
                writer.transport.abort()
        finally:
            self._forget(connection)
            writer.close()

    @staticmethod
    async def _serve(connection: "_Connection", transport: asyncio.WriteTransport) -> None:
        try:
            await connection.serve()
        except (OSError, TimeoutError):
            # The client went away, or was too slow: its own affair. What it has not read is not kept for it.
            transport.abort()
        except UnavailableError as error:
            # Too late for a status: the client sees that the answer is not whole.
            _log.warning("admin answer was cut off", reason=str(error))
            transport.abort()
        except asyncio.CancelledError:
            # Only close() and _evict() cancel; let through, the stream protocol would report it as an error.
            transport.abort()

    def _evict(self, connection: "_Connection") -> None:
        self.evicted += 1
        task = self._connections[connection]
        self._forget(connection)
        task.cancel()

    def _forget(self, connection: "_Connection") -> None:
        self._connections.pop(connection, None)
        self._silent.pop(connection, None)
        self._large.pop(connection, None)

    # For connections.

    async def answer_to(self, request: Request) -> Response:
        """What the handler says; an error of its own is a 500 and a line in the log."""
        with self.errors.guard(Part.ADMIN, request.path):
            try:
                return await self._handler(request)
            except UnavailableError as error:
                return Response(f"{error}\n", status=503)
        return Response("Internal error, see the log\n", status=500)

    def listens(self, connection: "_Connection") -> None:
        """The connection waits for a request from now on."""
        if connection in self._connections:
            self._silent[connection] = None

    def asked(self, connection: "_Connection") -> None:
        """Its request came."""
        self._silent.pop(connection, None)

    def begins(self, connection: "_Connection") -> bool:
        """Whether a large answer may begin now; it has a place then until `ends`."""
        if len(self._large) >= MAX_LARGE:
            slowest = max(self._large, key=_Connection.unread_s)
            if slowest.unread_s() < STALLED_S:
                return False
            self._evict(slowest)
        self._large[connection] = None
        return True

    def ends(self, connection: "_Connection") -> None:
        """The large answer is over."""
        self._large.pop(connection, None)


class _Connection:
    """One client's connection, from its first byte to its last."""

    def __init__(self, server: HttpServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._server = server
        self._reader = reader
        self._writer = writer
        # What was answered has left us: nothing waits in this process for a client that does not read.
        writer.transport.set_write_buffer_limits(high=0)
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES)
        self._clock = asyncio.get_running_loop().time
        self._unread_since: float | None = None
        # Of one answer: seconds that the client left it unread, and bytes that it has taken.
        self._waited_s = 0.0
        self._taken = 0

    def unread_s(self) -> float:
        """For how long the client has not taken what was sent to it."""
        return 0.0 if self._unread_since is None else self._clock() - self._unread_since

    async def serve(self) -> None:
        """Answer requests until one side has had enough."""
        patience_s = HEAD_S
        while True:
            self._server.listens(self)
            try:
                async with asyncio.timeout(patience_s) as deadline:
                    request = await self._request(deadline)
            except h11.RemoteProtocolError as error:
                if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
                    await self._respond(Response(f"{error}\n", status=error.error_status_hint))
                return
            if request is None:
                return
            self._server.asked(self)
            await self._respond(await self._server.answer_to(request), with_body=request.method != "HEAD")
            if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
                return
            self._http.start_next_cycle()
            # Its next request may have begun behind the last.
            patience_s = HEAD_S if self._http.trailing_data[0] else IDLE_S

    async def _request(self, deadline: asyncio.Timeout) -> Request | None:
        """The next request, its body read and dropped; None when the client ended the connection."""
        head = await self._event(deadline)
        if not isinstance(head, h11.Request):
            return None
        dropped = 0
        while isinstance(event := await self._event(deadline), h11.Data):
            dropped += len(event.data)
            if dropped > MAX_BODY_BYTES:
                raise h11.RemoteProtocolError("no page takes a body", error_status_hint=413)
        path, _, query = head.target.decode("ascii").partition("?")
        headers = {name.decode("ascii"): value.decode("latin-1") for name, value in head.headers}
        return Request(head.method.decode("ascii"), path, query, headers)

    async def _event(self, deadline: asyncio.Timeout) -> object:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            if self._http.they_are_waiting_for_100_continue:
                await self._send(h11.InformationalResponse(status_code=100, headers=[]))
            self._http.receive_data(await self._reader.read(READ_BYTES))
            # A request that has begun does not get the time of a silence.
            begun_s = self._clock() + HEAD_S
            if (when := deadline.when()) is not None and when > begun_s:
                deadline.reschedule(begun_s)
        return event

    async def _respond(self, response: Response, *, with_body: bool = True) -> None:
        self._waited_s, self._taken = 0.0, 0
        if response.chunks is None:
            await self._send_head(response, length=len(body := response.text.encode()))
            if with_body:
                await self._send(h11.Data(data=body))
            await self._send(h11.EndOfMessage())
            return
        # Closed at once when the client goes: it may hold a process.
        async with aclosing(response.chunks) as chunks:
            if not with_body:
                await self._send_head(response)
            elif response.shared or self._server.begins(self):
                try:
                    await self._stream(response, chunks)
                finally:
                    self._server.ends(self)
            else:
                busy = f"{MAX_LARGE} large answers are being read; ask again\n"
                await self._respond(Response(busy, status=503, headers={"Retry-After": "1"}))
                return
        if self._http.our_state is h11.SEND_BODY:
            await self._send(h11.EndOfMessage())

    async def _stream(self, response: Response, chunks: Chunks) -> None:
        # An answer that cannot be made is told while there is still a status to tell it with.
        first, failure = b"", "Internal error, see the log"
        with self._server.errors.guard(Part.ADMIN):
            try:
                first, failure = await anext(chunks, b""), ""
            except UnavailableError as error:
                failure = str(error)
        if failure:
            await self._respond(Response(f"{failure}\n", status=500))
            return
        await self._send_head(response)
        await self._send(h11.Data(data=first))
        async for chunk in chunks:
            await self._send(h11.Data(data=chunk))

    async def _send_head(self, response: Response, *, length: int | None = None) -> None:
        headers = [("Content-Type", response.content_type), ("X-Content-Type-Options", "nosniff")]
        headers += response.headers.items()
        if length is not None:
            headers.append(("Content-Length", str(length)))
        await self._send(h11.Response(status_code=response.status, headers=headers))

    async def _send(self, event: h11.Event) -> None:
        if data := self._http.send(event):
            self._writer.write(data)
            begun_s = self._unread_since = self._clock()
            async with asyncio.timeout(TRANSFER_S + self._taken / BYTES_PER_S - self._waited_s):
                await self._writer.drain()
            self._unread_since = None
            self._waited_s += self._clock() - begun_s
            self._taken += len(data)


def _family_of(host: str) -> int | None:
    """Of an IP address; None for a name."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.inet_pton(family, host)
    except OSError:
        return None
    return family
