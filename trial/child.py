"""A child process of a trial: started, watched, and gone with its parent whatever happens to that.

`python -m eastgate.trial.child PARENT MODULE ARGUMENT...` is what it runs; a MODULE with a slash is a program. Asking
for the signal in the child itself, instead of between fork and exec, keeps threads of gRPC out of it.
"""

import asyncio
import ctypes
import os
import runpy
import signal
import sys
from collections import deque
from collections.abc import Sequence

from eastgate.proxy.errors import TrialError

STOP_S = 5.0
LINES_KEPT = 40
PR_SET_PDEATHSIG = 1


def main() -> None:
    """Have the kernel end this process with its parent, then be the module."""
    parent, module = int(sys.argv[1]), sys.argv[2]
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)
    if os.sep in module:
        os.execv(module, [module, *sys.argv[3:]])
    sys.argv[:] = [module, *sys.argv[3:]]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


class Child:
    """One process. stdin and stdout are the caller's; what it says on stderr is kept for error messages."""

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self.name = name
        self.lines: deque[str] = deque(maxlen=LINES_KEPT)
        self._process = process
        self._heard = asyncio.Event()
        self._reading = asyncio.ensure_future(self._read())

    @classmethod
    async def start(cls, name: str, module: str, arguments: Sequence[str] = ()) -> "Child":
        """Run a module with this interpreter, or a program by its path; in its own session, so that Ctrl-C is ours."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            "-m",
            "eastgate.trial.child",
            str(os.getpid()),
            module,
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        return cls(name, process)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.returncode is None

    async def wait_line(self, text: str, timeout_s: float) -> str:
        """The first line on stderr that holds `text`. Raises TrialError when the process ends or the time does."""
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    for line in self.lines:
                        if text in line:
                            return line
                    if self._reading.done():
                        raise self.failure("ended before it was ready")
                    self._heard.clear()
                    await self._heard.wait()
        except TimeoutError:
            raise self.failure(f"did not say {text!r} within {timeout_s:g} s") from None

    async def ask(self, line: str, timeout_s: float) -> str:
        """Write a line to its stdin and answer the line that comes back. Raises TrialError."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(timeout_s):
                self._process.stdin.write(line.encode() + b"\n")
                await self._process.stdin.drain()
                answer = await self._process.stdout.readline()
        except (TimeoutError, ConnectionError, BrokenPipeError):
            raise self.failure("does not answer") from None
        if not answer:
            raise self.failure("ended")
        return answer.decode().strip()

    def failure(self, what: str) -> TrialError:
        """The error that says `what` and repeats the last thing the process said."""
        last = next((line for line in reversed(self.lines) if line.strip()), "it said nothing")
        return TrialError(f"{self.name}: {what}: {last.strip()}")

    async def stop(self) -> None:
        """Ask it to end, then end it."""
        if self.running:
            self._process.terminate()
            try:
                async with asyncio.timeout(STOP_S):
                    await self._process.wait()
            except TimeoutError:
                self._process.kill()
                await self._process.wait()
        await self._gone()

    async def kill(self) -> None:
        """End it at once, with no chance to say good-bye."""
        if self.running:
            self._process.kill()
            await self._process.wait()
        await self._gone()

    async def _gone(self) -> None:
        await self._reading
        # asyncio closes the transport of a process when its pipes have ended, and stdin has to be told.
        if self._process.stdin is not None:
            self._process.stdin.close()

    async def _read(self) -> None:
        assert self._process.stderr is not None
        async for line in self._process.stderr:
            self.lines.append(line.decode(errors="replace"))
            self._heard.set()
        await self._process.wait()
        self._heard.set()


if __name__ == "__main__":
    main()
