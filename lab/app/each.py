"""One connection to each of several places: `each.py KIND:HOST:PORT...`, kinds as load.py has them.

Prints one JSON document, what became of each: ["GKE!!!", "403", "refused"]; an answer's first word, the status of an
HTTP answer other than 200, or "refused" when the connection ended without an answer.
"""

import asyncio
import json
import sys

TIMEOUT_S = 10.0


async def ask(target: str) -> str:
    """What became of it."""
    kind, host, port = target.split(":")
    try:
        async with asyncio.timeout(TIMEOUT_S):
            reader, writer = await asyncio.open_connection(host, int(port))
            try:
                if kind == "http":
                    writer.write(f"GET / HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n".encode())
                    head, _, line = (await reader.read()).partition(b"\r\n\r\n")
                    words = head.split()
                    if len(words) > 1 and words[1] != b"200":
                        return words[1].decode(errors="replace")
                else:
                    writer.write(b"hello\n")
                    line = await reader.readline()
            finally:
                writer.close()
    except TimeoutError:
        return "silence"
    except OSError:
        return "refused"
    return line.split()[0].decode(errors="replace") if line else "refused"


async def main() -> None:
    print(json.dumps(await asyncio.gather(*map(ask, sys.argv[1:]))))


asyncio.run(main())
