"""One life of the data side again and again, each time with another allocation that fails. Prints JSON, a line a fault.

    LD_PRELOAD=failing_malloc.so python -m tests.fastpath.failing_allocations ours|openssl FIRST STEP

A life: slots, engine, tables, routes and TLS contexts are made; a connection is accepted, sniffed, routed and relayed;
another brings TLS, which ends here; tables and routes are published anew; all is closed. What cannot be made raises
MemoryError, a connection that cannot go on ends. Then the next one is served, and nothing is kept.
"""

import ctypes
import errno
import gc
import json
import re
import select
import socket
import ssl
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from eastgate.fastpath.match.chains import ChainSpec
from eastgate.fastpath.match.route_table import RouteTable
from eastgate.fastpath.tables.cluster_table import ClusterTable
from eastgate.fastpath.tls.context import Context
from eastgate.fastpath.tls.context_spec import ContextSpec

from ..support.authority import Authority
from .driven_engine import SERVICE, Gateway, client_hello, columns, upstream

ROOT = Authority("root")
IDENTITY = ROOT.issue("spiffe://cluster.local/ns/a/sa/server")
STUCK_S = 10.0
SAID = b"said" * 1000

shim = ctypes.CDLL(None)


def watch(pattern: str) -> int:
    """Let allocations of these libraries be counted; how many there are."""
    found = 0
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, rights, *_, path = line.split(maxsplit=5)
        if "x" in rights and re.search(pattern, path):
            begin, end = (int(part, 16) for part in span.split("-"))
            shim.failing_watch(ctypes.c_size_t(begin), ctypes.c_size_t(end))
            found += 1
    return found


class StuckError(Exception):
    """Neither served nor refused."""


def context() -> Context:
    return Context.build(ContextSpec(is_server=True, chain=IDENTITY.chain, private_key=IDENTITY.key, roots=ROOT.pem))


def routes(gateway: Gateway, tls: Context) -> RouteTable:
    ended = ChainSpec(name="ended", server_names=("ended.test",), targets=((gateway.slot, 1),), tls=tls)
    passed = ChainSpec(name="passed", server_names=(SERVICE,), targets=((gateway.slot, 1),))
    return RouteTable.compile([ended, passed])


class Life:
    """``server``: the endpoint, which outlives it."""

    def __init__(self, server: socket.socket) -> None:
        self.server = server
        self.gateway = Gateway(server.getsockname())
        self.publish("ROUND_ROBIN")

    def publish(self, policy: str) -> None:
        gateway = self.gateway
        gateway.slots.publish(gateway.slot, ClusterTable.compile(columns(self.server.getsockname()), policy=policy))
        gateway.engine.publish_routes(gateway.listener, routes(gateway, context()))

    def serve(self, *, tls: bool) -> bool:
        """Whether a connection's bytes came to the endpoint and back; False: it was ended."""
        self.server.setblocking(False)
        with socket.create_connection(self.gateway.address) as client:
            client.setblocking(False)
            try:
                return self._encrypted(client) if tls else self._plain(client)
            except (ConnectionError, ssl.SSLError, EOFError):
                return False

    def _plain(self, client: socket.socket) -> bool:
        client.sendall(client_hello())
        return self._relayed(client, len(client_hello()), client.send, client.recv)

    def _encrypted(self, client: socket.socket) -> bool:
        trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        trusting.check_hostname = False
        trusting.load_verify_locations(cadata=ROOT.pem.decode())
        with trusting.wrap_socket(client, server_hostname="ended.test", do_handshake_on_connect=False) as secured:
            self._wait(lambda: done(secured.do_handshake))
            return self._relayed(secured, 0, secured.send, secured.recv)

    def _relayed(
        self, client: socket.socket, skipped: int, send: Callable[[bytes], int], receive: Callable[[int], bytes]
    ) -> bool:
        accepted: list[socket.socket] = []

        def come() -> bool:
            # Who was refused is told so, and nobody comes to the endpoint.
            with suppress(BlockingIOError):
                accepted.append(self.server.accept()[0])
            if not accepted:
                with suppress(BlockingIOError, ssl.SSLWantReadError):
                    if receive(1) == b"":
                        raise EOFError
            return bool(accepted)

        self._wait(come)
        with accepted[0] as endpoint:
            endpoint.setblocking(False)
            self._take(endpoint.recv, skipped)
            self._wait(lambda: done(lambda: send(SAID)))
            endpoint.sendall(self._take(endpoint.recv, len(SAID)))
            return self._take(receive, len(SAID)) == SAID

    def _take(self, receive: Callable[[int], bytes], count: int) -> bytes:
        got = bytearray()

        def all_came() -> bool:
            with suppress(BlockingIOError, ssl.SSLWantReadError):
                while len(got) < count:
                    some = receive(count - len(got))
                    if not some:
                        raise EOFError
                    got.extend(some)
            return len(got) >= count

        self._wait(all_came)
        return bytes(got)

    def _wait(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + STUCK_S
        while not condition():
            if time.monotonic() > end:
                raise StuckError
            select.select([self.gateway.engine.fileno()], [], [], 0.001)
            self.gateway.engine.turn()

    def settle(self) -> None:
        """Until what was replaced or closed is freed."""
        self._wait(lambda: self.gateway.engine.active_connections() == 0)
        self.gateway.engine.take_events()
        self.gateway.slots.reclaim()


def done(step: Callable[[], object]) -> bool:
    try:
        step()
    except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
        return False
    return True


@contextmanager
def without_memory() -> Iterator[list[str]]:
    """How the control side was told, empty when it was not."""
    told: list[str] = []
    try:
        yield told
    except MemoryError:
        told.append("MemoryError")
    except OSError as error:
        if error.errno != errno.ENOMEM:
            raise
        told.append("ENOMEM")
    except ValueError as error:
        # OpenSSL says no more of it than that something could not be made.
        told.append(f"ValueError {error}")


def place() -> str:
    """Library and offset of the call that failed, as addr2line takes them."""
    at = shim.failing_place() or 0
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, _, offset, _, _, *path = line.split(maxsplit=5)
        begin, end = (int(part, 16) for part in span.split("-"))
        if begin <= at < end and path:
            return f"{path[0].strip()} {at - begin + int(offset, 16) - 1:#x}"
    return ""


def live_once(server: socket.socket, after: int) -> dict[str, object]:
    """What became of a life whose allocation behind `after` others fails; -1: none does."""
    life: Life | None = None
    served: dict[str, bool] = {}
    shim.failing_arm(ctypes.c_long(after))
    with without_memory() as told:
        life = Life(server)
        served = {"plain": life.serve(tls=False), "tls": life.serve(tls=True)}
        life.publish("RING_HASH")
        served["later"] = life.serve(tls=True)
    fired, where = bool(shim.failing_fired()), place()
    shim.failing_arm(ctypes.c_long(-1))
    seen: dict[str, object] = {
        "after": after,
        "fired": fired,
        "told": told,
        "served": served,
        "counted": 0,
        "dropped": 0,
        "next": None,
        "place": where,
    }
    if life is not None:
        seen["next"] = [life.serve(tls=False), life.serve(tls=True)]
        life.settle()
        seen["counted"] = sum(life.gateway.engine.listener_counters(life.gateway.listener).refused)
        seen["dropped"] = life.gateway.engine.events_dropped()
        life.gateway.close()
    return seen


def main() -> None:
    kind, first, step = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    ours = r"eastgate.*\.so|/(fastpath|xds)/.*\.so"
    with upstream() as server:
        # What is made once, by Python, OpenSSL and us, is there by then.
        for _ in range(3):
            live_once(server, -1)
        assert watch(ours if kind == "ours" else r"lib(ssl|crypto)")
        after = first
        while True:
            seen = live_once(server, after)
            gc.collect()
            seen["live"] = shim.failing_live()
            print(json.dumps(seen), flush=True)
            if not seen["fired"]:
                return
            after += step


if __name__ == "__main__":
    shim.failing_place.restype = ctypes.c_void_p
    shim.failing_live.restype = ctypes.c_long
    main()
