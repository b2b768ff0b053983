"""What starts the renderer: it holds a socket and standard streams, and nothing that was open beside it."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from eastgate.proxy.admin.rendering import LAUNCHER

from ...support.waiting import until


@dataclass
class Launched:
    process: subprocess.Popen[bytes]
    control: socket.socket

    def ask(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(self.control, [b"s"], [theirs.fileno()])
        ours.settimeout(10)
        return ours

    def children(self) -> list[int]:
        pid = self.process.pid
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def launched(*command: str) -> Iterator[Launched]:
    control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with control, theirs:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(LAUNCHER), str(theirs.fileno()), *command],
            stdin=subprocess.DEVNULL,
            pass_fds=(theirs.fileno(),),
        )
        theirs.close()
        yield Launched(process, control)
        control.close()
        assert process.wait(10) == 0


@pytest.fixture
def cat() -> Iterator[Launched]:
    yield from launched("/bin/cat")


@pytest.fixture
def nothing() -> Iterator[Launched]:
    yield from launched("/nowhere/at/all")


def sockets_of(pid: int) -> list[str]:
    folder = Path(f"/proc/{pid}/fd")
    return sorted(link for one in folder.iterdir() if (link := os.readlink(one)).startswith("socket:"))


def test_command_has_the_descriptor_and_no_other_socket(cat: Launched) -> None:
    with cat.ask() as peer:
        peer.sendall(b"hello")
        assert peer.recv(5) == b"hello"
        (child,) = cat.children()
        assert len(os.listdir(f"/proc/{child}/fd")) == 3
        assert len(set(sockets_of(child))) == 1
        until(lambda: len(sockets_of(cat.process.pid)) == 1, "the launcher has its own socket alone")


def test_next_question_and_any_word_end_what_was_started(cat: Launched) -> None:
    with cat.ask() as first, cat.ask() as second:
        assert first.recv(1) == b""
        second.sendall(b"a")
        assert second.recv(1) == b"a"
        assert len(cat.children()) == 1
        cat.control.send(b"k")
        assert second.recv(1) == b""
        until(lambda: not cat.children(), "the command is gone and waited for")


def test_end_of_the_proxy_ends_both(cat: Launched) -> None:
    with cat.ask() as peer:
        cat.control.close()
        assert peer.recv(1) == b""
        assert cat.process.wait(10) == 0


def test_what_cannot_be_started_is_seen_at_once(nothing: Launched) -> None:
    for _ in range(2):
        with closing(nothing.ask()) as peer:
            assert peer.recv(1) == b""
