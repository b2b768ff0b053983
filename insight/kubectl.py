"""The user's own kubectl: run once for an answer, or kept for a forwarded port. Knows nothing of proxies."""

import json
import os
import re
import selectors
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryFile
from typing import IO, Any

from eastgate.xds.record import record

from .errors import UnreachableError

ANSWER_S = 60.0
FORWARD_S = 20.0
# What port-forward says as soon as connections to it are taken.
FORWARDING = re.compile(rb"Forwarding from 127\.0\.0\.1:(\d+) ")
END_S = 5.0
# What keeps a port forwarded ends when we do, however that happens: a signal that Python does not handle, or one that
# nobody can. It is asked for in the process itself, since a signal between fork and exec is no place for Python.
UNTIL_WE_END = """\
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGTERM)
if os.getppid() == int(sys.argv[1]):
    try:
        os.execvp(sys.argv[2], sys.argv[2:])
    except OSError as error:
        sys.exit(error.strerror)
"""


class KubectlError(UnreachableError):
    """What kubectl said, in one line."""


class ForbiddenError(KubectlError):
    """The user may not do this in that cluster."""


@record
class Kubectl:
    """A program with what chooses the cluster. ``context`` and ``kubeconfig`` are empty for kubectl's own choice."""

    program: str = "kubectl"
    context: str = ""
    kubeconfig: str = ""

    def command(self, *words: str) -> list[str]:
        """The whole command line."""
        chosen = []
        if self.kubeconfig:
            chosen += ["--kubeconfig", self.kubeconfig]
        if self.context:
            chosen += ["--context", self.context]
        return [self.program, *chosen, *words]

    def text(self, *words: str) -> str:
        """Standard output of one run. Raises KubectlError."""
        try:
            done = subprocess.run(
                self.command(*words), check=False, capture_output=True, stdin=subprocess.DEVNULL, timeout=ANSWER_S
            )
        except subprocess.TimeoutExpired:
            raise KubectlError(f"{self.program} {words[0]}: no answer within {ANSWER_S:.0f} s") from None
        except OSError as error:
            raise self._not_run(error) from None
        if done.returncode:
            raise self.failure(done.stderr, done.returncode)
        return done.stdout.decode(errors="replace")

    def json(self, *words: str) -> Any:
        """The same as JSON. Raises KubectlError."""
        try:
            return json.loads(self.text(*words, "-o", "json"))
        except ValueError:
            raise KubectlError(f"{self.program} {' '.join(words)}: the answer is not JSON") from None

    @contextmanager
    def forwarded(self, pod: str, namespace: str, port: int) -> Iterator[int]:
        """A port of this machine that leads to one in the pod, while the context lasts. Raises KubectlError."""
        words = ["port-forward", f"pod/{pod}", f":{port}", "--address", "127.0.0.1"]
        with TemporaryFile() as said:
            try:
                process = subprocess.Popen(
                    self._until_we_end(*in_namespace(namespace), *words),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=said,
                )
            except OSError as error:
                raise self._not_run(error) from None
            try:
                yield self._local_port(process, said)
            finally:
                _end(process)

    def _until_we_end(self, *words: str) -> list[str]:
        """A command that ends with the thread that begins it, and so with us. Raises OSError without a kubectl."""
        if shutil.which(self.program) is None:
            raise FileNotFoundError(self.program)
        return [sys.executable, "-I", "-S", "-c", UNTIL_WE_END, str(os.getpid()), *self.command(*words)]

    def _local_port(self, process: subprocess.Popen[bytes], said: IO[bytes]) -> int:
        assert process.stdout is not None
        try:
            local = _forwarding_port(process.stdout)
            if local is not None:
                return local
            process.wait(END_S)
        except (TimeoutError, subprocess.TimeoutExpired):
            raise KubectlError(f"{self.program} port-forward: not ready within {FORWARD_S:.0f} s") from None
        said.seek(0)
        raise self.failure(said.read(), process.returncode)

    def failure(self, said: bytes, code: int) -> KubectlError:
        """The error for what kubectl wrote: its last line is the reason, those before it are attempts.

        Of a program that it ran in a container, the program's last line.
        """
        lines = [line.strip() for line in said.decode(errors="replace").splitlines() if line.strip()]
        if len(lines) > 1 and lines[-1].startswith("command terminated with exit code"):
            lines.pop()
        reason = lines[-1] if lines else f"exit code {code}"
        kind = ForbiddenError if "forbidden" in reason.lower() else KubectlError
        return kind(f"{self.program}: {reason}")

    def _not_run(self, error: OSError) -> KubectlError:
        cause = "not found on PATH" if isinstance(error, FileNotFoundError) else error.strerror
        return KubectlError(f"{self.program}: {cause} (pods are reached through your own kubectl)")


def in_namespace(namespace: str) -> tuple[str, ...]:
    """What chooses a namespace; nothing for the one of the context."""
    return ("--namespace", namespace) if namespace else ()


def _forwarding_port(output: IO[bytes]) -> int | None:
    """The port that port-forward names; None where it ended. Raises TimeoutError."""
    end, text = time.monotonic() + FORWARD_S, b""
    with selectors.DefaultSelector() as selector:
        selector.register(output, selectors.EVENT_READ)
        while (left := end - time.monotonic()) > 0:
            if not selector.select(left):
                continue
            piece = os.read(output.fileno(), 4096)
            if not piece:
                return None
            text += piece
            if found := FORWARDING.search(text):
                return int(found[1])
    raise TimeoutError


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()
