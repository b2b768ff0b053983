"""A TCP connection that begins in a pod: a small program there, run through kubectl, passes the bytes on.

It runs beside the proxy, in its container, whose traffic Istio's redirection leaves alone: what is said comes as the
proxy itself would say it. TLS is spoken here; the pod needs no more than one of a few programs.
"""

import socket
import subprocess
from collections.abc import Callable
from contextlib import suppress
from tempfile import TemporaryFile
from typing import IO

from .kubectl import ForbiddenError, Kubectl, KubectlError, in_namespace
from .pods import NoPodError, Pod
from .probe import CannotConnectError

# It fails where there is no connection, and ends well when the connection does, however that ended.
PYTHON = """\
import os, select, socket, sys
try:
    peer = socket.create_connection((sys.argv[1], int(sys.argv[2])), float(sys.argv[3]))
except OSError as error:
    sys.exit("%s" % (error.strerror or error))
peer.settimeout(None)
try:
    while True:
        ready = select.select([0, peer], [], [])[0]
        if peer in ready:
            data = peer.recv(65536)
            if not data:
                break
            os.write(1, data)
        if 0 in ready:
            data = os.read(0, 65536)
            if not data:
                break
            peer.sendall(data)
except OSError:
    pass
"""
BASH = 'exec 3<>"/dev/tcp/$0/$1" || exit 1; cat <&3 & exec cat >&3'
# A program, how it is asked whether it is there, and how it is run with host, port and seconds.
RELAYS: tuple[tuple[tuple[str, ...], Callable[[str, int, float], tuple[str, ...]]], ...] = (
    (("python3", "-c", ""), lambda host, port, wait: ("python3", "-c", PYTHON, host, str(port), str(wait))),
    (("bash", "-c", "cat < /dev/null"), lambda host, port, _: ("bash", "-c", BASH, host, str(port))),
    (("nc", "-h"), lambda host, port, wait: ("nc", "-w", str(max(1, round(wait))), host, str(port))),
)
NAMES = ", ".join(asked[0] for asked, _ in RELAYS)
# What a container runtime says of a program that is not there.
MISSING = ("executable file not found", "no such file or directory")
END_S = 2.0


class PodSocket(socket.socket):
    """This side of it. Who closes it ends the program in the pod."""

    def begin(self, process: "subprocess.Popen[bytes]", said: IO[bytes]) -> None:
        self._process, self._said, self._received = process, said, False

    def recv(self, size: int, flags: int = 0) -> bytes:
        try:
            data = super().recv(size, flags)
        except ConnectionResetError:
            # The program ended before it had read everything: the connection ended first.
            data = b""
        if not data and not self._received:
            self._check()
        self._received = self._received or bool(data)
        return data

    def _check(self) -> None:
        """Raises CannotConnectError where the program ended because there is no connection."""
        with suppress(subprocess.TimeoutExpired):
            if self._process.wait(END_S):
                self._said.seek(0)
                lines = [one for one in self._said.read().decode(errors="replace").splitlines() if one.strip()]
                told = [one for one in lines if not one.startswith("command terminated with exit code")]
                raise CannotConnectError(told[-1].strip() if told else f"exit code {self._process.returncode}")

    def close(self) -> None:
        super().close()
        if hasattr(self, "_process"):
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(END_S)
            self._said.close()


class PodConnector:
    """Connects as a pod does. ``start`` finds the program. Raises InsightError."""

    def __init__(self, kubectl: Kubectl, pod: Pod) -> None:
        self._kubectl, self._pod = kubectl, pod
        self._run = self._found()

    def _words(self, *words: str, keep: bool = False) -> tuple[str, ...]:
        place = (*in_namespace(self._pod.namespace), "-c", self._pod.container)
        return ("exec", *(("-i",) if keep else ()), self._pod.name, *place, "--", *words)

    def _found(self) -> Callable[[str, int, float], tuple[str, ...]]:
        for asked, run in RELAYS:
            try:
                self._kubectl.text(*self._words(*asked))
            except KubectlError as error:
                if any(text in str(error).lower() for text in MISSING):
                    continue
                # nc has told how it is used, and calls that a failure.
                if isinstance(error, ForbiddenError) or asked[0] != "nc":
                    raise type(error)(f"--from {self._pod.text}: {error}") from None
            return run
        raise NoPodError(
            f"--from {self._pod.text}: container {self._pod.container} has none of {NAMES}, one of which would connect"
            " (a distroless image?)"
        )

    def __call__(self, address: tuple[str, int], timeout_s: float) -> socket.socket:
        """A socket whose other end is in the pod. Raises OSError."""
        ours, theirs = socket.socketpair()
        connection = PodSocket(fileno=ours.detach())
        connection.settimeout(timeout_s)
        said = TemporaryFile()  # noqa: SIM115 - the socket closes it
        try:
            with theirs:
                process = subprocess.Popen(
                    self._kubectl.command(*self._words(*self._run(*address, timeout_s), keep=True)),
                    stdin=theirs.fileno(),
                    stdout=theirs.fileno(),
                    stderr=said,
                )
        except OSError:
            said.close()
            connection.close()
            raise
        connection.begin(process, said)
        return connection
