"""Ports that serve a few pages and nothing else, on whatever address: one for kubelet's probes, one for Prometheus."""

from collections.abc import Awaitable, Callable, Mapping

from eastgate.proxy.control_errors import ControlErrors
from eastgate.proxy.errors import EastgateError

from .http_server import MAX_CONNECTIONS, HttpServer, Request, Response

Page = Callable[[Request], Response | Awaitable[Response]]
METHODS = ("GET", "HEAD")


class StatusServer:
    """Serves these pages without their queries. ``start`` binds, ``close`` ends it. ``flag`` gave the address."""

    def __init__(
        self,
        address: tuple[str, int],
        pages: Mapping[str, Page],
        *,
        flag: str,
        errors: ControlErrors | None = None,
        max_connections: int = MAX_CONNECTIONS,
    ) -> None:
        self.flag = flag
        self._address = address
        self._pages = pages
        self._server = HttpServer(
            self._answer, errors if errors is not None else ControlErrors(), max_connections=max_connections
        )

    async def start(self) -> tuple[str, int]:
        """Bind and serve; return the address. Raises EastgateError when it cannot be bound."""
        host, port = self._address
        try:
            return await self._server.start(host, port)
        except OSError as error:
            raise EastgateError(f"{self.flag} {host}:{port}: cannot listen: {error.strerror}") from None

    async def close(self) -> None:
        await self._server.close()

    async def _answer(self, request: Request) -> Response:
        page = self._pages.get(request.path)
        if page is None:
            return Response("not found\n", status=404)
        if request.method not in METHODS:
            return Response("GET only\n", status=405, headers={"Allow": ", ".join(METHODS)})
        response = page(Request(request.method, request.path))
        return await response if isinstance(response, Awaitable) else response
