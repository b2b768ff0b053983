"""The port for probes and metrics serves its paths without their queries, and nothing else."""

import asyncio

import h11
import pytest
from eastgate.proxy.admin.http_server import Request, Response
from eastgate.proxy.admin.status import StatusServer
from eastgate.proxy.errors import EastgateError


async def ask(address: tuple[str, int], method: str, target: str) -> tuple[int, str]:
    reader, writer = await asyncio.open_connection(*address)
    http = h11.Connection(h11.CLIENT)
    writer.write(
        http.send(h11.Request(method=method, target=target, headers=[("Host", "10.1.2.3"), ("Connection", "close")]))
    )
    writer.write(http.send(h11.EndOfMessage()))
    http.receive_data(await reader.read())
    writer.close()
    head, body = http.next_event(), http.next_event()
    assert isinstance(head, h11.Response)
    return head.status_code, body.data.decode() if isinstance(body, h11.Data) else ""


async def test_pages_get_no_query_and_others_are_not_there() -> None:
    asked: list[Request] = []

    def page(request: Request) -> Response:
        asked.append(request)
        return Response("LIVE\n")

    server = StatusServer(("127.0.0.1", 0), {"/ready": page}, flag="--status")
    address = await server.start()
    try:
        assert await ask(address, "GET", "/ready?filter=(a*)*b") == (200, "LIVE\n")
        assert asked == [Request("GET", "/ready")]
        assert (await ask(address, "GET", "/config_dump"))[0] == 404
        assert (await ask(address, "POST", "/ready"))[0] == 405
    finally:
        await server.close()


async def test_a_taken_port_is_one_sentence() -> None:
    first = StatusServer(("127.0.0.1", 0), {}, flag="--metrics")
    address = await first.start()
    try:
        with pytest.raises(EastgateError, match=r"--metrics 127.0.0.1:\d+: cannot listen"):
            await StatusServer(address, {}, flag="--metrics").start()
    finally:
        await first.close()
