"""The article's service in a pod: `echo.py GREETING NAME` answers HTTP on 8080, and plain TCP on 9090 line by line."""

import asyncio
import sys


async def http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One answer per request; the connection stays open unless the client wants it closed."""
    body = f"{sys.argv[1]} {sys.argv[2]}\n".encode()
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            close = b"connection: close" in head or b"http/1.0" in head.split(b"\r\n", 1)[0]
            connection = b"close" if close else b"keep-alive"
            head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: %b\r\nContent-Length: %d\r\n\r\n"
            writer.write(head % (connection, len(body)) + body)
            await writer.drain()
            if close:
                break
    except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        pass
    finally:
        writer.close()


async def tcp(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Greeting and name for each line, until the client ends."""
    try:
        while await reader.readline():
            writer.write(f"{sys.argv[1]} {sys.argv[2]}\n".encode())
            await writer.drain()
    except (OSError, ValueError):
        pass
    finally:
        writer.close()


async def main() -> None:
    servers = [await asyncio.start_server(http, port=8080), await asyncio.start_server(tcp, port=9090)]
    await asyncio.gather(*(server.serve_forever() for server in servers))


asyncio.run(main())
