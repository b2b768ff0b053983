"""Serve the HTTP listeners of the bootstrap: a few paths, each handed to one address on this machine or to the admin.

GET and HEAD only, without a body: that is what probes and scrapes send. The answer is handed back as it comes. They are
no part of the engine: its limits of connections do not hold for them, as the bootstrap says of them too.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from urllib.parse import unquote

import h11
from eastgate.proxy.bootstrap_listeners import StaticListener
from eastgate.proxy.control_errors import ControlErrors
from eastgate.proxy.errors import EastgateError
from eastgate.proxy.log import Log

from .http_server import MAX_CONNECTIONS, HttpServer, Request, Response

METHODS = ("GET", "HEAD")
# kubelet waits three seconds for a probe, and an agent that serves metrics of the application may be slow.
TARGET_S = 15.0
MAX_ANSWER_BYTES = 64 << 20
READ_BYTES = 65536

Handler = Callable[[Request], Awaitable[Response]]


class StaticHttp:
    """All static listeners of one process. ``own``: HOST:PORT of this process's admin and what answers for it, so that
    a scrape does not go through a socket to ourselves.
    """

    def __init__(
        self,
        listeners: tuple[StaticListener, ...],
        own: Mapping[str, Handler],
        *,
        errors: ControlErrors | None = None,
        max_connections: int = MAX_CONNECTIONS,
    ) -> None:
        self._own = own
        self._log = Log("static")
        self._servers = tuple(
            (listener, address, HttpServer(partial(self._answer, listener), errors, max_connections=max_connections))
            for listener in listeners
            for address in listener.addresses
        )
        self._unread = tuple((listener.name, reason) for listener in listeners for reason in listener.unread)

    async def start(self) -> tuple[tuple[str, int], ...]:
        """Bind all; return the addresses. Raises EastgateError for one that cannot be bound."""
        for name, reason in self._unread:
            self._log.warning("listener", name=name, reason=reason)
        bound = []
        for listener, address, server in self._servers:
            host, _, port = address.rpartition(":")
            try:
                bound.append(await server.start(host.strip("[]"), int(port)))
            except OSError as error:
                reason = os.strerror(error.errno or 0)
                raise EastgateError(f"static listener {listener.name} at {address}: {reason}") from None
            self._log.info("listening", name=listener.name, address=bound[-1][0], port=bound[-1][1])
        return tuple(bound)

    def stop_listening(self) -> None:
        """Take no further connection; those that are open go on."""
        for _, _, server in self._servers:
            server.stop_listening()

    async def close(self) -> None:
        """Stop listening and cut what is open."""
        for _, _, server in self._servers:
            await server.close()

    def connections(self) -> dict[str, tuple[int, int]]:
        """(all so far, open now) by listener, over all its addresses."""
        found: dict[str, tuple[int, int]] = {}
        for listener, _, server in self._servers:
            total, active = found.get(listener.name, (0, 0))
            found[listener.name] = (total + server.accepted, active + server.active)
        return found

    async def _answer(self, listener: StaticListener, request: Request) -> Response:
        route = next((one for one in listener.routes if one.matches(request.path)), None)
        if route is None or is_crooked(request.path):
            return Response("", status=404)
        if request.method not in METHODS:
            return Response("GET only\n", status=405, headers={"Allow": ", ".join(METHODS)})
        if route.target in self._own:
            return await self._own[route.target](request)
        try:
            async with asyncio.timeout(TARGET_S):
                return await _fetch(route.target, request)
        except (OSError, TimeoutError, h11.RemoteProtocolError) as error:
            return Response(f"{route.target} does not answer: {error or type(error).__name__}\n", status=503)


def is_crooked(path: str) -> bool:
    """Whether a server might take this path for another one than its beginning says."""
    plain = unquote(path)
    return "%" in plain or "\\" in plain or "#" in plain or any(part in (".", "..") for part in plain.split("/"))


async def _fetch(target: str, request: Request) -> Response:
    """The answer of HOST:PORT to the same request."""
    host, _, port = target.rpartition(":")
    reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    try:
        client = h11.Connection(h11.CLIENT)
        query = f"?{request.query}" if request.query else ""
        headers = [("Host", target), ("Connection", "close")]
        headers += [(name, request.headers[name]) for name in ("accept", "user-agent") if name in request.headers]
        head = h11.Request(method=request.method, target=request.path + query, headers=headers)
        writer.write(client.send(head) + client.send(h11.EndOfMessage()))
        status, kind, body = 502, "text/plain", bytearray()
        while not isinstance(event := client.next_event(), h11.EndOfMessage | h11.ConnectionClosed):
            if event is h11.NEED_DATA:
                client.receive_data(await reader.read(READ_BYTES))
            elif isinstance(event, h11.Response):
                status = event.status_code
                kind = dict(event.headers).get(b"content-type", b"text/plain").decode("latin-1")
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > MAX_ANSWER_BYTES:
                    return Response(f"{target} answers with more than {MAX_ANSWER_BYTES} bytes\n", status=502)
        return Response(body.decode("utf-8", "replace"), status=status, content_type=kind)
    finally:
        writer.close()
