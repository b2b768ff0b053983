"""Workers on threads of their own: the GIL, publishing under load, slots that change hands, the end of the process."""

import mmap
import select
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from eastgate.fastpath.loop.cluster_slots import ClusterSlots
from eastgate.fastpath.loop.engine import Engine
from eastgate.fastpath.match.chains import ISTIO_ALPN, ChainSpec
from eastgate.fastpath.match.route_table import RouteTable
from eastgate.fastpath.reason import Reason
from eastgate.fastpath.tables.cluster_table import ClusterTable

from ...support.free_ports import free_port
from ..driven_engine import DEADLINE_S, SERVICE, Gateway, accept, client_hello, columns, upstream

HELLO = client_hello()


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with upstream(backlog=256) as listening:
        yield listening


class Tenant:
    """A service whose endpoint answers each connection with the tenant's name."""

    def __init__(self, name: str) -> None:
        self.name = f"outbound_.80_._.{name}.default.svc.cluster.local"
        self.hello = client_hello(self.name)
        self.server = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.table = ClusterTable.compile(columns(self.server.getsockname()))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                peer, _ = self.server.accept()
            except OSError:
                return
            with peer:
                peer.settimeout(DEADLINE_S)
                try:
                    asked = b""
                    while len(asked) < len(self.hello):
                        piece = peer.recv(4096)
                        if not piece:
                            break
                        asked += piece
                    peer.sendall(self.name.encode() if asked == self.hello else b"another tenant's hello")
                except OSError:
                    continue

    def chain(self, slot: int) -> ChainSpec:
        return ChainSpec(
            name=self.name, server_names=(self.name,), application_protocols=ISTIO_ALPN, targets=((slot, 1),)
        )

    def close(self) -> None:
        self.server.shutdown(socket.SHUT_RDWR)
        self.server.close()
        self._thread.join()


def test_a_slot_that_changes_hands_under_load_mixes_no_tenants() -> None:
    tenants = [Tenant(f"tenant-{letter}") for letter in "abc"]
    # Released ones wait for workers that a busy machine has put to sleep in the middle of a turn.
    slots = ClusterSlots(4096)
    engine = Engine(slots, seed=1, workers=4)
    held = {tenant.name: slots.acquire(tenant.name) for tenant in tenants}
    for tenant in tenants:
        slots.publish(held[tenant.name], tenant.table)
    listener = engine.listen("127.0.0.1", 0, routes=RouteTable.compile([t.chain(held[t.name]) for t in tenants]))
    address = engine.bound_address(listener)
    answers: dict[str, int] = {"served": 0, "refused": 0}
    wrong: list[bytes] = []
    ended = threading.Event()

    def ask(tenant: Tenant) -> None:
        while not ended.is_set():
            with socket.create_connection(address, timeout=DEADLINE_S) as client:
                got = b""
                try:
                    client.sendall(tenant.hello)
                    while piece := client.recv(4096):
                        got += piece
                except ConnectionError:
                    pass
            if got == tenant.name.encode():
                answers["served"] += 1
            elif got:
                wrong.append(got)
            else:
                answers["refused"] += 1

    clients = [threading.Thread(target=ask, args=(tenant,)) for tenant in tenants for _ in range(2)]
    for client in clients:
        client.start()
    used = set()
    deadline = time.monotonic() + DEADLINE_S
    try:
        for turn in range(100_000):
            # One tenant leaves and comes back, in the slot of whoever left before.
            tenant = tenants[turn % 3]
            slots.publish(held[tenant.name], tenant.table)
            others = [one for one in tenants if one is not tenant]
            engine.publish_routes(listener, RouteTable.compile([one.chain(held[one.name]) for one in others]))
            slots.release(held[tenant.name])
            held[tenant.name] = slots.acquire(tenant.name)
            used.add(held[tenant.name])
            slots.publish(held[tenant.name], tenant.table)
            engine.publish_routes(listener, RouteTable.compile([one.chain(held[one.name]) for one in tenants]))
            engine.take_events()
            time.sleep(0.0005)
            if answers["served"] > 300 and turn > 300:
                break
            assert time.monotonic() < deadline, answers
    finally:
        ended.set()
        for client in clients:
            client.join()
    assert wrong == []
    assert len(used) > 1
    engine.close()
    for tenant in tenants:
        tenant.close()
    assert slots.reclaim() == 0


def slept(tasks: set[Path]) -> list[str]:
    """How often each of these threads went to sleep; empty of one that is awake, as one that was woken is at once."""
    found = []
    for task in sorted(tasks):
        said = dict(line.split(":\t") for line in (task / "status").read_text().splitlines())
        found.append(said["voluntary_ctxt_switches"] if said["State"].startswith("S") else "")
    return found


def test_a_push_wakes_no_sleeping_worker_and_its_predecessor_is_freed(server: socket.socket) -> None:
    others = set(Path("/proc/self/task").iterdir())
    gateway = Gateway(server.getsockname(), workers=2)
    workers = set(Path("/proc/self/task").iterdir()) - others
    gateway.until(lambda: all(slept(workers)) and gateway.slots.reclaim() == 0)
    before = slept(workers)
    assert len(before) == 2
    gateway.engine.turn()
    for _ in range(200):
        gateway.slots.publish(gateway.slot, ClusterTable.compile(columns(server.getsockname())))
        gateway.engine.publish_routes(gateway.listener, gateway.route_to(gateway.slot))
    assert gateway.slots.reclaim() == 0
    assert slept(workers) == before
    assert gateway.engine.turn() == 0
    gateway.close()


# Round trips through the gateway, both ends in this process; says in a shared byte how many there were.
PING = """
import mmap, socket, sys
hello, host, port, server = bytes.fromhex(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
with open(sys.argv[5], "r+b") as file, socket.create_server(("127.0.0.1", server)) as listening:
    done = mmap.mmap(file.fileno(), 1)
    done[0] = 1
    with socket.create_connection((host, port)) as client:
        client.sendall(hello)
        endpoint, _ = listening.accept()
        got = b""
        while len(got) < len(hello):
            got += endpoint.recv(65536)
        for _ in range(200):
            client.sendall(b"ping")
            assert endpoint.recv(4) == b"ping"
            endpoint.sendall(b"pong")
            assert client.recv(4) == b"pong"
        done[0] = 2
"""


def test_connections_live_on_while_the_interpreter_is_busy(tmp_path: Path) -> None:
    address = ("127.0.0.1", free_port())
    gateway = Gateway(address, workers=1)
    flag = tmp_path / "flag"
    flag.write_bytes(b"\0")
    arguments = [HELLO.hex(), *map(str, gateway.address), str(address[1]), str(flag)]
    interval = sys.getswitchinterval()
    with open(flag, "rb", buffering=0) as seen, subprocess.Popen([sys.executable, "-c", PING, *arguments]) as ping:
        done = mmap.mmap(seen.fileno(), 1, prot=mmap.PROT_READ)
        # From here on this thread never lets go of the GIL.
        sys.setswitchinterval(1000)
        try:
            deadline = time.monotonic() + DEADLINE_S
            while done[0] != 2 and time.monotonic() < deadline:
                pass
            reached = done[0]
        finally:
            sys.setswitchinterval(interval)
        assert ping.wait(DEADLINE_S) == 0
    assert reached == 2
    gateway.close()


def test_descriptor_tells_of_events_once_until_they_are_taken(server: socket.socket) -> None:
    gateway = Gateway(server.getsockname(), workers=1)
    engine = gateway.engine

    def told(patience_s: float = 0) -> bool:
        return bool(select.select([engine.fileno()], [], [], patience_s)[0])

    assert not told()
    for number in range(1, 4):
        socket.create_connection(gateway.address).close()
        deadline = time.monotonic() + DEADLINE_S
        while gateway.refused(Reason.IDLE_PROBE) < number:
            assert time.monotonic() < deadline
        if number == 1:
            assert told(DEADLINE_S)
            engine.turn()
    # Who is served is served after what the worker had to say of the others.
    with gateway.connect(HELLO), accept(server) as endpoint:
        assert gateway.receive(endpoint, len(HELLO)) == HELLO
        assert not told()
        assert len(engine.take_events()) == 3
    assert told(DEADLINE_S)
    gateway.close()


def test_connections_spread_over_the_workers_and_limits_hold_for_all(server: socket.socket) -> None:
    gateway = Gateway(server.getsockname(), workers=4)
    gateway.slots.publish(gateway.slot, gateway.table, max_connections=40)
    clients = [gateway.connect(HELLO) for _ in range(100)]
    gateway.until(lambda: gateway.table.state(0)[0] + gateway.refused(Reason.OVERFLOW) == 100)
    # Counted by all workers together, and never passed.
    assert gateway.table.state(0)[0] == 40
    assert gateway.slots.counters(gateway.slot).cx_active == 40
    names = [
        (task / "comm").read_text().strip()
        for task in Path("/proc/self/task").iterdir()
        if (task / "comm").read_text().startswith("eastgate-")
    ]
    assert sorted(names) == [f"eastgate-{number}" for number in range(4)]
    for endpoint in [accept(server) for _ in range(40)]:
        endpoint.close()
    for client in clients:
        client.close()
    gateway.until(lambda: gateway.engine.active_connections() == 0)
    assert gateway.slots.counters(gateway.slot).cx_active == 0
    gateway.close()


def test_waiting_connections_are_served_when_the_listener_closes(server: socket.socket) -> None:
    gateway = Gateway(server.getsockname(), workers=2)
    clients = [gateway.connect(HELLO) for _ in range(50)]
    gateway.engine.stop_accepting(gateway.listener)
    for client in clients:
        with accept(server) as endpoint, client:
            assert gateway.receive(endpoint, len(HELLO)) == HELLO
    gateway.close()


@pytest.mark.parametrize("ending", ["", "raise SystemExit(0)", "del engine, slots", "engine.close()"])
def test_interpreter_ends_cleanly_whatever_was_left_open(ending: str) -> None:
    script = f"""
        import socket
        from eastgate.fastpath.match.chains import ChainSpec
        from eastgate.fastpath.loop.cluster_slots import ClusterSlots
        from eastgate.fastpath.loop.engine import Engine
        from eastgate.fastpath.reason import Reason
        from eastgate.fastpath.match.route_table import RouteTable
        slots = ClusterSlots(4)
        engine = Engine(slots, seed=1, workers=3)
        engine.record_events(True)
        number = engine.listen("127.0.0.1", 0, routes=RouteTable.compile([ChainSpec("no", refusal=Reason.POLICY)]))
        peers = [socket.create_connection(engine.bound_address(number)) for _ in range(8)]
        for peer in peers[::2]:
            peer.sendall(b"GET /")
        {ending}
    """
    command = [sys.executable, "-P", "-c", textwrap.dedent(script)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (run.returncode, run.stderr) == (0, "")


def test_wrong_number_of_workers_is_named() -> None:
    with pytest.raises(ValueError, match=r"workers 257 is outside 0\.\.256"):
        Engine(ClusterSlots(1), seed=1, workers=257)


def test_a_port_in_use_elsewhere_leaves_no_socket_behind(server: socket.socket) -> None:
    gateway = Gateway(server.getsockname(), workers=4)
    with pytest.raises(OSError, match="cannot listen on"):
        gateway.engine.listen("127.0.0.1", server.getsockname()[1], routes=gateway.routes)
    with gateway.connect(HELLO):
        gateway.until(lambda: gateway.table.state(0)[0] == 1)
    with gateway.connect(client_hello(SERVICE + ".nobody")) as stranger:
        assert gateway.end_of(stranger) == "RST"
    gateway.close()
