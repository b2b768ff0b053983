"""Clients and endpoints of the chaos test, in a process of their own: the other one runs out of descriptors on purpose.

    python -m tests.fastpath.chaos_load SEED SECONDS URGENT

Prints the addresses of its endpoints as JSON, reads a line with the gateway's, runs clients for as long as told and
prints what they met. URGENT is the share of clients that send an urgent byte. An endpoint answers with the digest of
what it got, and then with as many bytes again.
"""

import hashlib
import json
import random
import socket
import struct
import sys
import threading
import time
from contextlib import suppress

from .driven_engine import DEADLINE_S, client_hello

CLIENTS = 10
ENDPOINTS = 3
HELLO = client_hello()
DATA = random.Random(7).randbytes(3 << 20)
SIZES = (0, 1, 700, 16384, 40_000, 300_000, len(DATA))
URGENT = b"!"
RESET = struct.pack("ii", 1, 0)
# A queue of a limit may hold somebody for a while; who is still there then is stuck.
PATIENCE_S = 3 * DEADLINE_S


def serve(listening: socket.socket) -> None:
    while True:
        peer, _ = listening.accept()
        threading.Thread(target=answer, args=(peer,), daemon=True).start()


def answer(peer: socket.socket) -> None:
    digest, count = hashlib.blake2b(), 0
    with peer, suppress(OSError):
        peer.settimeout(PATIENCE_S)
        while piece := peer.recv(1 << 18):
            digest.update(piece)
            count += len(piece)
        peer.sendall(digest.digest() + DATA[: min(count, len(DATA))])


class Client(threading.Thread):
    """Counts what it met. ``refused``: closed before a byte came; ``wrong``: anything that may never happen."""

    def __init__(self, address: tuple[str, int], seed: int, *, urgent: float, end: float) -> None:
        super().__init__(daemon=True)
        self._address, self._random, self._urgent, self._end = address, random.Random(seed), urgent, end
        self.exact = self.cut = self.refused = 0
        self.wrong: list[str] = []

    def run(self) -> None:
        while time.monotonic() < self._end:
            size = self._random.choice(SIZES)
            try:
                with socket.create_connection(self._address, timeout=PATIENCE_S) as peer:
                    if self._random.random() < 0.2:
                        self._give_up(peer, size)
                    else:
                        self._ask(peer, size)
            except (OSError, AssertionError) as error:
                self.wrong.append(f"{size} bytes: {error!r}")

    def _give_up(self, peer: socket.socket, size: int) -> None:
        with suppress(OSError):
            peer.sendall(HELLO[: self._random.choice((0, 5, len(HELLO)))] + DATA[: min(size, 65536)])
        if self._random.random() < 0.7:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.cut += 1

    def _ask(self, peer: socket.socket, size: int) -> None:
        asked, got = HELLO + DATA[:size], bytearray()
        urgent = self._random.random() < self._urgent
        # Somewhere behind the hello. It is a byte like any other, in its place (RFC 6093).
        place = self._random.randint(len(HELLO), len(asked)) if urgent else len(asked)
        try:
            self._send(peer, asked, place, urgent=urgent)
            while piece := peer.recv(1 << 18):
                got += piece
                if self._random.random() < 0.05:
                    time.sleep(0.001)
        except TimeoutError:
            raise
        except OSError:
            # Cut before the answer is a refusal; in the middle of it, the comparison says how far it came.
            pass
        if not got:
            self.refused += 1
            return
        if urgent:
            asked = asked[:place] + URGENT + asked[place:]
        wanted = hashlib.blake2b(asked).digest() + DATA[: len(asked)]
        assert len(got) == len(wanted), f"{len(got)} of {len(wanted)} bytes came back"
        assert bytes(got) == wanted, "other bytes came back"
        self.exact += 1

    def _send(self, peer: socket.socket, asked: bytes, place: int, *, urgent: bool) -> None:
        peer.sendall(asked[:place])
        if urgent:
            peer.send(URGENT, socket.MSG_OOB)
        peer.sendall(asked[place:])
        peer.shutdown(socket.SHUT_WR)


def main() -> None:
    seed, seconds, urgent = int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])
    endpoints = [socket.create_server(("127.0.0.1", 0), backlog=256) for _ in range(ENDPOINTS)]
    for listening in endpoints:
        threading.Thread(target=serve, args=(listening,), daemon=True).start()
    print(json.dumps([listening.getsockname() for listening in endpoints]), flush=True)
    host, port = json.loads(sys.stdin.readline())
    end = time.monotonic() + seconds
    seeds = range(seed * CLIENTS, (seed + 1) * CLIENTS)
    clients = [Client((host, port), one, urgent=urgent, end=end) for one in seeds]
    for client in clients:
        client.start()
    for client in clients:
        client.join(seconds + 2 * PATIENCE_S)
    met = {name: sum(getattr(client, name) for client in clients) for name in ("exact", "cut", "refused")}
    stuck = sum(client.is_alive() for client in clients)
    print(json.dumps({**met, "stuck": stuck, "wrong": [one for client in clients for one in client.wrong]}))


if __name__ == "__main__":
    main()
