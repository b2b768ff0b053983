"""Resources as JSON text for dumps, by a child process: complete, and off the loop."""

import asyncio
import sys
from collections import deque
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing, suppress
from itertools import islice

from eastgate.proxy.log import Log

from .frames import LENGTH_BYTES, framed

# Questions on their way to the child, so that neither side waits for the other's pipe.
AHEAD = 32
# The first answer takes the half second that the child needs to start.
ANSWER_S = 20.0
# One dump at a time: the others wait rather than start as many processes.
_one = asyncio.Lock()

Resource = tuple[str, bytes]
"""type URL and bytes"""


async def texts(resources: Iterable[Resource]) -> AsyncGenerator[bytes, None]:
    """JSON text of each resource in order, indented for its place.

    Without the child, which may not start or be killed when memory runs out, it is what eastgate itself reads.
    """
    async with _one:
        try:
            child = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "eastgate.proxy.admin.message_json"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                # A signal to the proxy's process group is not meant for it: it ends when its stdin does.
                start_new_session=True,
            )
        except OSError as error:
            _complain(error)
            for type_url, raw in resources:
                yield fallback(type_url, raw)
            return
        try:
            async with aclosing(_answers(child, resources)) as answers:
                async for text in answers:
                    yield text
        finally:
            with suppress(ProcessLookupError):
                child.kill()
            await child.wait()


async def _answers(child: asyncio.subprocess.Process, resources: Iterable[Resource]) -> AsyncGenerator[bytes, None]:
    assert child.stdin is not None
    assert child.stdout is not None
    left = iter(resources)
    asked: deque[Resource] = deque()
    alive = True
    while True:
        for type_url, raw in islice(left, AHEAD - len(asked)):
            asked.append((type_url, raw))
            # A pipe that the child has closed must not be written to; that it is gone shows when it is read from.
            if alive and not child.stdin.is_closing():
                child.stdin.write(framed(type_url.encode() + b"\0" + raw))
        if not asked:
            return
        resource = asked.popleft()
        if alive:
            try:
                async with asyncio.timeout(ANSWER_S):
                    header = await child.stdout.readexactly(LENGTH_BYTES)
                    text = await child.stdout.readexactly(int.from_bytes(header, "big"))
            except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
                alive = False
                _complain(error)
        yield text if alive else fallback(*resource)


def fallback(type_url: str, raw: bytes) -> bytes:
    # Not with this module: what the child imports takes a while, and a proxy hardly ever needs it.
    from .message_json import answer

    return answer(None, type_url, raw)


def _complain(error: Exception) -> None:
    Log("admin").warning("config_dump shows only what eastgate reads", reason=repr(error))
