"""Programs that a proxy starts while gRPC runs in it, under uvloop: none may die between fork and exec."""

import subprocess
import sys

PROGRAM = """
import eastgate.proxy
import asyncio
import grpc, uvloop

async def serve(requests, context):
    async for request in requests:
        yield request

async def main():
    server = grpc.aio.server()
    handler = grpc.stream_stream_rpc_method_handler(serve)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("a.Service", {"Echo": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    codes = []
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.stream_stream("/a.Service/Echo")()
        for _ in range(100):
            await call.write(b"request")
            await call.read()
            child = await asyncio.create_subprocess_exec("/bin/true", start_new_session=True)
            codes.append(await child.wait())
        call.cancel()
    await server.stop(0)
    print(sorted(set(codes)))

uvloop.run(main())
"""


def test_no_child_dies_in_a_fork_handler() -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-c", PROGRAM], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout == "[0]\n", done.stderr
