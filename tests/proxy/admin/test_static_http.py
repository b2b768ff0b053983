"""The static HTTP listeners of the bootstrap: their paths and no others, from a real HTTP server behind them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from eastgate.proxy.admin.http_server import Request, Response
from eastgate.proxy.admin.static_http import StaticHttp
from eastgate.proxy.bootstrap_listeners import StaticListener, StaticRoute
from eastgate.proxy.errors import EastgateError

from .test_status import ask

ADMIN = "127.0.0.1:15000"


class Agent(BaseHTTPRequestHandler):
    """Answers its path and a status that it is told in the query."""

    def do_GET(self) -> None:
        self.send_response(int(self.path.partition("status=")[2] or 200))
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.end_headers()
        self.wfile.write(self.path.encode())

    def log_message(self, *_: object) -> None:
        """Silent."""


@asynccontextmanager
async def serving(routes: Callable[[str], tuple[StaticRoute, ...]]) -> AsyncIterator[tuple[str, int]]:
    """The address of a static listener with routes to an agent at the address that `routes` is called with."""

    async def own(request: Request) -> Response:
        return Response(f"own {request.path}?{request.query}")

    with ThreadingHTTPServer(("127.0.0.1", 0), Agent) as agent:
        thread = Thread(target=agent.serve_forever, daemon=True)
        thread.start()
        target = f"127.0.0.1:{agent.server_address[1]}"
        static = StaticHttp((StaticListener("one", ("127.0.0.1:0",), routes(target)),), {ADMIN: own})
        ((host, port),) = await static.start()
        try:
            yield host, port
        finally:
            await static.close()
            agent.shutdown()
            thread.join()


async def test_a_path_goes_to_the_agent_with_its_query_and_status() -> None:
    async with serving(lambda agent: (StaticRoute(agent, "/healthz/ready"),)) as address:
        assert await ask(address, "GET", "/healthz/ready") == (200, "/healthz/ready")
        assert await ask(address, "GET", "/healthz/ready?status=503") == (503, "/healthz/ready?status=503")


@pytest.mark.parametrize("path", ["/", "/quitquitquit", "/stats", "/config_dump", "/healthz", "//healthz/ready"])
async def test_other_paths_are_not_there(path: str) -> None:
    async with serving(lambda agent: (StaticRoute(agent, "/healthz/ready"),)) as address:
        assert (await ask(address, "GET", path))[0] == 404


async def test_nothing_is_changed_through_it() -> None:
    async with serving(lambda agent: (StaticRoute(agent, "/healthz/ready"),)) as address:
        assert (await ask(address, "POST", "/healthz/ready"))[0] == 405


async def test_the_admin_of_this_process_answers_itself() -> None:
    async with serving(lambda _: (StaticRoute(ADMIN, "/stats/prometheus"),)) as address:
        assert await ask(address, "GET", "/stats/prometheus?usedonly") == (200, "own /stats/prometheus?usedonly")


async def test_an_agent_that_is_not_there_is_503() -> None:
    async with serving(lambda _: (StaticRoute("127.0.0.1:1", "/healthz/ready"),)) as address:
        status, text = await ask(address, "GET", "/healthz/ready")
        assert status == 503
        assert text.startswith("127.0.0.1:1 does not answer: ")


async def test_an_agent_that_speaks_no_http_is_503() -> None:
    async def babble(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"\x16\x03\x01 no HTTP\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(babble, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, serving(lambda _: (StaticRoute(f"127.0.0.1:{port}", "/healthz/ready"),)) as address:
        assert (await ask(address, "GET", "/healthz/ready"))[0] == 503


async def test_a_taken_port_is_one_sentence() -> None:
    async with serving(lambda _: ()) as (host, port):
        with pytest.raises(EastgateError, match=f"static listener two at 127.0.0.1:{port}: Address already in use"):
            await StaticHttp((StaticListener("two", (f"{host}:{port}",)),), {}).start()
