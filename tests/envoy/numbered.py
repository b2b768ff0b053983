"""Endpoints that answer with their own number, and clients that count: processes of their own, since both are busy.

`python -m tests.envoy.numbered serve` prints its port and ends with stdin; `connect` reads a job and prints counts,
both as JSON. Endpoint number n is 127.1.(n >> 8).(n & 255), all on one port. The same endpoints swallow datagrams,
which the kernel counts.
"""

import json
import select
import socket
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).parents[2]
TOGETHER = 12
REFUSED = -1
JOB_S = 3600
TIMEOUT = struct.pack("ll", 20, 0)

Counts = list[Counter[int]]


def host_of(number: int) -> str:
    """Where an endpoint is."""
    return f"127.1.{number >> 8}.{number & 255}"


def number_of(address: str) -> int:
    """The endpoint at host:port, or at a host."""
    parts = address.partition(":")[0].split(".")
    return int(parts[2]) << 8 | int(parts[3])


def serve() -> None:
    """Two bytes to everybody who connects; then wait for the end of what they send."""
    listening = socket.create_server(("0.0.0.0", 0), backlog=4096)
    listening.setblocking(False)
    print(listening.getsockname()[1], flush=True)
    poll = select.epoll()
    poll.register(listening, select.EPOLLIN)
    poll.register(sys.stdin, select.EPOLLIN)
    peers: dict[int, socket.socket] = {}
    while True:
        for number, _ in poll.poll():
            if number == sys.stdin.fileno():
                return
            if number != listening.fileno():
                peer = peers.pop(number)
                # Closed with something unread, the connection would be reset.
                with peer, suppress(ConnectionError):
                    while peer.recv(65536):
                        pass
                continue
            with suppress(BlockingIOError):
                while True:
                    peer, _ = listening.accept()
                    with suppress(ConnectionError):
                        peer.send(socket.inet_aton(peer.getsockname()[0])[2:])
                    peers[peer.fileno()] = peer
                    poll.register(peer, select.EPOLLRDHUP)


def _start(what: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "tests.envoy.numbered", what]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


class NumberedEndpoints:
    """The process of all endpoints."""

    def __init__(self) -> None:
        self._process = _start("serve")
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def close(self) -> None:
        self._process.communicate(timeout=10)


def _open(port: int, hello: bytes) -> socket.socket:
    peer = socket.socket()
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, TIMEOUT)
    peer.connect(("127.0.0.1", port))
    with suppress(ConnectionError):
        peer.send(hello)
    return peer


def _answer(peer: socket.socket) -> int:
    try:
        data = peer.recv(2)
    except ConnectionError:
        return REFUSED
    return int.from_bytes(data, "big") if len(data) == 2 else REFUSED


def _end(peers: Sequence[socket.socket]) -> None:
    """Until the proxy has ended them too: it then counts them no longer as active."""
    for peer in peers:
        with suppress(OSError):
            peer.shutdown(socket.SHUT_WR)
    for peer in peers:
        with peer, suppress(ConnectionError):
            peer.recv(2)


def _connect(port: int, hellos: Sequence[bytes], rounds: int, hold: int) -> Counts:
    """`rounds` connections per hello; `hold` of each are open together. Several hellos in turn."""
    found: Counts = []
    for first in range(0, len(hellos), TOGETHER):
        group = hellos[first : first + TOGETHER]
        counts: Counts = [Counter() for _ in group]
        held: list[socket.socket] = []
        for number in range(rounds):
            peers = [_open(port, hello) for hello in group]
            for count, peer in zip(counts, peers, strict=True):
                count[_answer(peer)] += 1
            held += peers
            if number % hold == hold - 1 or number == rounds - 1:
                _end(held)
                held = []
        found += counts
    return found


def connect(ports: Sequence[int], hellos: Sequence[bytes], rounds: int, *, hold: int = 1) -> list[Counts]:
    """Connections to each of `ports`, at the same time; per port and hello, which endpoints answered how often."""
    running = [_start("connect") for _ in ports]
    for port, one in zip(ports, running, strict=True):
        assert one.stdin is not None
        json.dump(
            {"port": port, "hellos": [hello.hex() for hello in hellos], "rounds": rounds, "hold": hold}, one.stdin
        )
        one.stdin.close()
        one.stdin = None
    answers = [json.loads(one.communicate(timeout=JOB_S)[0]) for one in running]
    return [[Counter({int(k): v for k, v in counts.items()}) for counts in found] for found in answers]


def udp_sockets() -> Iterator[tuple[tuple[str, int], int]]:
    """Where each is bound, and for how many datagrams there was no room."""
    for line in Path("/proc/net/udp").read_text().splitlines()[1:]:
        fields = line.split()
        host, _, port = fields[1].partition(":")
        yield (socket.inet_ntoa(bytes.fromhex(host)[::-1]), int(port, 16)), int(fields[-1])


class DatagramEndpoints:
    """Some of the endpoints as sockets that nobody reads: once full, the kernel counts what it drops."""

    def __init__(self, numbers: Iterable[int], port: int) -> None:
        self._sockets: list[socket.socket] = []
        for number in sorted(set(numbers)):
            one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            one.bind((host_of(number), port))
            self._sockets.append(one)
        self._names = {one.getsockname(): number_of(one.getsockname()[0]) for one in self._sockets}
        # The first ones wait in the buffer and are not counted: fill it.
        for one in self._sockets:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
            for _ in range(64):
                one.sendto(b"x", one.getsockname())
        self._before = self._dropped()

    def _dropped(self) -> Counter[int]:
        return Counter({self._names[at]: dropped for at, dropped in udp_sockets() if at in self._names})

    def arrived(self) -> Counter[int]:
        """Datagrams per endpoint."""
        return self._dropped() - self._before

    def close(self) -> None:
        for one in self._sockets:
            one.close()


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve()
    else:
        job = json.load(sys.stdin)
        hellos_sent = [bytes.fromhex(one) for one in job["hellos"]]
        json.dump(_connect(job["port"], hellos_sent, job["rounds"], job["hold"]), sys.stdout)
