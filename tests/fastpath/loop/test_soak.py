"""Everything at once, for some hundred connections: bulk, chats, half-closes, resets, dead endpoints, pushes, limits.

Clients speak to endpoints that answer with the digest of what they got; whoever was not cut by his own doing must see
the right one. Afterwards every gauge is back at zero. `make soak` has each case go on for EASTGATE_SOAK_S seconds.
"""

import hashlib
import os
import random
import socket
import struct
import threading
import time
from contextlib import suppress

import pytest
from eastgate.fastpath.reason import Reason
from eastgate.fastpath.tables.cluster_table import ClusterTable

from ..driven_engine import DEADLINE_S, Gateway, client_hello, columns

HELLO = client_hello()
CLIENTS = 12
TURNS = 30
SOAK_S = float(os.environ.get("EASTGATE_SOAK_S", "0"))
DATA = os.urandom(3 << 20)
RESET = struct.pack("ii", 1, 0)


class DigestServer(threading.Thread):
    """Endpoint: reads to the end of the stream, answers with its digest and then with as many bytes again."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.listening = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.address = self.listening.getsockname()

    def run(self) -> None:
        while True:
            try:
                peer, _ = self.listening.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(peer,), daemon=True).start()

    def _answer(self, peer: socket.socket) -> None:
        with peer:
            peer.settimeout(DEADLINE_S)
            digest, count = hashlib.blake2b(), 0
            try:
                while piece := peer.recv(1 << 18):
                    digest.update(piece)
                    count += len(piece)
                peer.sendall(digest.digest() + DATA[: min(count, len(DATA))])
            except OSError:
                pass

    def close(self) -> None:
        self.listening.shutdown(socket.SHUT_RDWR)
        self.listening.close()
        self.join()


class Client(threading.Thread):
    def __init__(self, address: tuple[str, int], seed: int) -> None:
        super().__init__(daemon=True)
        self._address, self._random = address, random.Random(seed)
        self.exact = self.cut = self.turns = 0
        self.wrong: list[str] = []

    def run(self) -> None:
        end = time.monotonic() + SOAK_S
        while self.turns < TURNS or time.monotonic() < end:
            self.turns += 1
            size = self._random.choice([0, 1, 700, 16384, 40_000, 300_000, len(DATA)])
            try:
                with socket.create_connection(self._address, timeout=DEADLINE_S) as peer:
                    if self._random.random() < 0.2:
                        self._give_up(peer, size)
                        self.cut += 1
                    else:
                        self._ask(peer, size)
                        self.exact += 1
            except (OSError, AssertionError) as error:
                self.wrong.append(repr(error))

    def _give_up(self, peer: socket.socket, size: int) -> None:
        sent = HELLO[: self._random.choice([0, 5, len(HELLO)])] + DATA[: min(size, 65536)]
        # Without a whole hello the gateway may be the first to give up.
        with suppress(OSError):
            peer.sendall(sent)
        if self._random.random() < 0.7:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)

    def _ask(self, peer: socket.socket, size: int) -> None:
        asked = HELLO + DATA[:size]
        peer.sendall(asked)
        peer.shutdown(socket.SHUT_WR)
        got = bytearray()
        while piece := peer.recv(1 << 18):
            got += piece
            if self._random.random() < 0.1:
                time.sleep(0.001)
        wanted = hashlib.blake2b(asked).digest() + DATA[: len(asked)]
        assert len(got) == len(wanted), f"{len(got)} of {len(wanted)} bytes"
        assert bytes(got) == wanted, "other bytes than were sent"


@pytest.mark.parametrize("workers", [0, 1, 4])
@pytest.mark.parametrize("policy", ["ROUND_ROBIN", "LEAST_REQUEST"])
def test_nothing_is_lost_or_left_over(workers: int, policy: str) -> None:
    servers = [DigestServer() for _ in range(3)]
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        dead = place.getsockname()
    gateway = Gateway(dead, workers=workers)
    tables: list[ClusterTable] = []
    for chosen in ((0, 1, 2), (1, 2), (2,), (0, 2)):
        endpoints = columns(*[servers[index].address for index in chosen], dead)
        # The states of endpoints outlive tables: who was tried is known in the next one too.
        tables.append(ClusterTable.compile(endpoints, policy=policy, previous=tables[0] if tables else None))
    gateway.slots.publish(gateway.slot, tables[0])
    for server in servers:
        server.start()
    clients = [Client(gateway.address, seed) for seed in range(CLIENTS)]
    for client in clients:
        client.start()
    pushes = 0
    deadline = time.monotonic() + SOAK_S + 6 * DEADLINE_S
    while any(client.is_alive() for client in clients):
        assert time.monotonic() < deadline, "clients did not end"
        gateway.turn(0.005)
        pushes += 1
        gateway.slots.publish(gateway.slot, tables[pushes % len(tables)], connect_timeout_ms=1000 + pushes % 7)
        gateway.engine.publish_routes(gateway.listener, gateway.route_to(gateway.slot, max_duration_ms=60_000))
    listener = gateway.engine.listener_counters(gateway.listener)
    assert [client.wrong for client in clients] == [[]] * CLIENTS, listener
    turns = sum(client.turns for client in clients)
    assert sum(client.exact for client in clients) > turns // 2
    # The last one may have been given up before it was accepted.
    gateway.until(lambda: gateway.engine.listener_counters(gateway.listener).cx_total == turns)
    gateway.until(lambda: gateway.engine.active_connections() == 0)
    counters = gateway.slots.counters(gateway.slot)
    assert (counters.cx_active, counters.pending_active) == (0, 0)
    assert counters.cx_connect_fail > 0
    for table in tables:
        assert [table.state(endpoint)[0] for endpoint in range(len(table))] == [0] * len(table)
    listener = gateway.engine.listener_counters(gateway.listener)
    assert (listener.cx_total, listener.cx_active, listener.cx_pre_active) == (turns, 0, 0)
    assert listener.refused[Reason.CONNECT_FAILED] == 0
    gateway.until(lambda: gateway.slots.reclaim() == 0)
    gateway.close()
    for server in servers:
        server.close()
