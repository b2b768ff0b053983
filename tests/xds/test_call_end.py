import asyncio
from collections.abc import AsyncIterator

import grpc
from eastgate.xds.call_end import CallEnd
from grpc import aio

METHOD = "/refusing.Service/Call"
CALLS = 30


async def refuse(_: AsyncIterator[bytes], context: aio.ServicerContext) -> AsyncIterator[bytes]:
    await context.abort(grpc.StatusCode.UNAUTHENTICATED, "authentication failure")
    yield b""


async def test_servers_status_is_kept_when_a_write_meets_the_end() -> None:
    server = aio.server()
    _, service, method = METHOD.split("/")
    handlers = {method: grpc.stream_stream_rpc_method_handler(refuse)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    ends = set()
    try:
        for _ in range(CALLS):
            async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                call = channel.stream_stream(METHOD)()
                end = CallEnd(call)
                try:
                    while True:
                        await call.write(b"request")
                except (aio.AioRpcError, asyncio.InvalidStateError):
                    ends.add(await end.text())
    finally:
        await server.stop(0)
    assert ends == {"UNAUTHENTICATED authentication failure"}
