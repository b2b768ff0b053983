"""Resources as JSON text for dumps, by a process of its own: complete, and off the loop.

The process is started and ended by launcher.py, which the proxy starts before it opens a socket. All dumps share one,
each with a few questions on their way to it, so that none waits for the reader of another.
"""

import asyncio
import socket
import subprocess
import sys
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import cast

from eastgate.proxy.errors import UnavailableError
from eastgate.proxy.log import Log

from .frames import LENGTH_BYTES, framed

# Questions and their bytes of one dump on their way, so that the process need not wait for the proxy.
AHEAD = 32
AHEAD_BYTES = 1 << 18
# Between two answers; the first one waits for the half second that the process needs to start.
ANSWER_S = 20.0
# How long the process waits for the next dump before it is ended, with its 90 MB.
LINGER_S = 5.0
CLOSE_S = 5.0
LAUNCHER = Path(__file__).with_name("launcher.py")

Resource = tuple[str, bytes]
"""type URL and bytes"""

Render = Callable[[Iterable[Resource]], AsyncGenerator[bytes, None]]
"""JSON text of each resource in order, indented for its place"""


class RendererGoneError(UnavailableError):
    """The process that renders dumps ended in the middle of one."""

    def __init__(self) -> None:
        super().__init__("config_dump: the process that renders it was killed (out of memory?); ask again")


class Renderer:
    """Owner of the launcher. Make it before any socket is opened, use it on one loop, close it."""

    def __init__(self) -> None:
        self._log = Log("admin")
        self._session: _Session | None = None
        self._starting = asyncio.Lock()
        self._dumps = 0
        self._linger: asyncio.TimerHandle | None = None
        self._launcher: subprocess.Popen[bytes] | None = None
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.setblocking(False)
        command = [sys.executable, "-P", "-m", "eastgate.proxy.admin.message_json"]
        with theirs:
            try:
                self._launcher = subprocess.Popen(
                    [sys.executable, "-I", "-S", str(LAUNCHER), str(theirs.fileno()), *command],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(),),
                    # A signal to the proxy's process group is not meant for it: it ends when the proxy does.
                    start_new_session=True,
                )
            except OSError as error:
                self._complain(error.strerror)

    async def texts(self, resources: Iterable[Resource]) -> AsyncGenerator[bytes, None]:
        """JSON text of each resource in order, indented for its place.

        Where the process cannot be started it is what eastgate itself reads. Raises RendererGoneError when it was
        killed; the next dump has a new one.
        """
        self._dumps += 1
        try:
            session = await self._started()
            async for text in plain(resources) if session is None else session.texts(resources):
                yield text
        finally:
            self._dumps -= 1
            if not self._dumps and self._session is not None:
                self._linger = asyncio.get_running_loop().call_later(LINGER_S, self._end)

    def close(self) -> None:
        """End both processes. A second call does nothing."""
        if self._linger is not None:
            self._linger.cancel()
        if self._session is not None:
            self._session.abort()
            self._session = None
        self._control.close()
        if self._launcher is not None:
            with suppress(subprocess.TimeoutExpired):
                self._launcher.wait(CLOSE_S)

    async def _started(self) -> "_Session | None":
        """The session with the process, a new one if there is none; None when it cannot be had."""
        async with self._starting:
            if self._linger is not None:
                self._linger.cancel()
                self._linger = None
            if self._session is None or self._session.gone:
                self._session = await self._new_session()
            return self._session

    async def _new_session(self) -> "_Session | None":
        ours, theirs = socket.socketpair()
        session = _Session(self._kill)
        with theirs:
            try:
                socket.send_fds(self._control, [b"s"], [theirs.fileno()])
            except OSError:
                ours.close()
                self._complain("its launcher is gone")
                return None
        await asyncio.get_running_loop().create_unix_connection(lambda: session, sock=ours)
        if await session.greeted:
            return session
        self._complain("its process does not start")
        return None

    def _end(self) -> None:
        self._linger = None
        if self._session is not None and not self._dumps:
            self._session.abort()
            self._session = None
            self._kill()

    def _kill(self) -> None:
        # The launcher may be gone as well.
        with suppress(OSError):
            self._control.send(b"k")

    def _complain(self, reason: str | None) -> None:
        self._log.warning("config_dump shows only what eastgate reads", reason=reason)


class _Session(asyncio.Protocol):
    """One renderer process, from its greeting to its end. Its answers come in the order of all questions."""

    def __init__(self, kill: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        self.gone = False
        self.greeted: asyncio.Future[bool] = loop.create_future()
        """Whether the process started"""
        self._call_later = loop.call_later
        self._future: Callable[[], asyncio.Future[bytes]] = loop.create_future
        self._kill = kill
        self._transport: asyncio.Transport | None = None
        self._asked: deque[asyncio.Future[bytes]] = deque()
        self._received = bytearray()
        self._deadline: asyncio.TimerHandle | None = None

    async def texts(self, resources: Iterable[Resource]) -> AsyncGenerator[bytes, None]:
        """The answers of one dump."""
        left = iter(resources)
        ahead: deque[tuple[asyncio.Future[bytes], int]] = deque()
        ahead_bytes = 0
        try:
            while True:
                while len(ahead) < AHEAD and (not ahead or ahead_bytes < AHEAD_BYTES):
                    resource = next(left, None)
                    if resource is None:
                        break
                    ahead.append((self._ask(*resource), len(resource[1])))
                    ahead_bytes += len(resource[1])
                if not ahead:
                    return
                answer, size = ahead[0]
                text = await answer
                ahead.popleft()
                ahead_bytes -= size
                yield text
        finally:
            for answer, _ in ahead:
                answer.cancel()

    def abort(self) -> None:
        """Have nothing more to do with the process, which ends by that unless it is stuck."""
        if self._transport is not None:
            self._transport.abort()
        self._fail()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's are no subclass of asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        self._expect()

    def connection_lost(self, error: Exception | None) -> None:
        self._fail()

    def data_received(self, data: bytes) -> None:
        self._received += data
        begin = 0
        while len(self._received) - begin >= LENGTH_BYTES:
            end = begin + LENGTH_BYTES + int.from_bytes(self._received[begin : begin + LENGTH_BYTES], "big")
            if len(self._received) < end:
                break
            self._answered(bytes(self._received[begin + LENGTH_BYTES : end]))
            begin = end
        del self._received[:begin]

    def _answered(self, text: bytes) -> None:
        if not self.greeted.done():
            self.greeted.set_result(True)
        elif self._asked:
            answer = self._asked.popleft()
            # Its dump may be over: then nobody wants it.
            if not answer.done():
                answer.set_result(text)
        self._expect()

    def _ask(self, type_url: str, raw: bytes) -> asyncio.Future[bytes]:
        if self.gone or self._transport is None:
            raise RendererGoneError
        answer = self._future()
        self._asked.append(answer)
        self._transport.write(framed(type_url.encode() + b"\0" + raw))
        if self._deadline is None:
            self._expect()
        return answer

    def _expect(self) -> None:
        """The next answer within ANSWER_S, if there is one to come."""
        if self._deadline is not None:
            self._deadline.cancel()
        waits = not self.gone and (self._asked or not self.greeted.done())
        self._deadline = self._call_later(ANSWER_S, self._stuck) if waits else None

    def _stuck(self) -> None:
        self._kill()
        self.abort()

    def _fail(self) -> None:
        self.gone = True
        self._expect()
        if not self.greeted.done():
            self.greeted.set_result(False)
        while self._asked:
            answer = self._asked.popleft()
            if not answer.done():
                answer.set_exception(RendererGoneError())


async def plain(resources: Iterable[Resource]) -> AsyncGenerator[bytes, None]:
    """What eastgate itself reads of each resource."""
    # Not with this module: what the process imports takes a while, and a proxy hardly ever needs it.
    from .message_json import answer

    for type_url, raw in resources:
        yield answer(None, type_url, raw)
