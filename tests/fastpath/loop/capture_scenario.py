"""In a namespace of its own: an engine gets connections that netfilter redirects, and hands them over by address.

Usage: capture_scenario <workers>. Prints one JSON document with what was seen; test_listener_states judges it.
"""

import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from eastgate.fastpath.loop.cluster_slots import ClusterSlots
from eastgate.fastpath.loop.engine import Engine
from eastgate.fastpath.match.chains import ChainSpec
from eastgate.fastpath.match.listener_table import ListenerAddress
from eastgate.fastpath.match.route_table import RouteTable
from eastgate.fastpath.reason import LABELS, Reason
from eastgate.fastpath.tables.cluster_table import ClusterTable

from ...support.netns import Steps, bring_up
from ...support.upstreams import Upstreams, reached
from ..driven_engine import columns

Result = TypeVar("Result")
# Who connects from here is redirected; the engine itself is not.
CLIENT, CLIENT6 = "127.0.0.99", "fd00::99"
PORT = 15001
EXACT, WILD, OTHER = ("127.0.0.21", 9000), ("127.0.0.22", 9001), ("127.0.0.23", 9002)
EXACT6, WILD6, OTHER6 = ("fd00::21", 9000), ("fd00::22", 9001), ("fd00::23", 9002)
# Enough that sockets of several workers take some.
MANY = 24
REPLACED = 100


def run(*command: str) -> None:
    subprocess.run(command, check=True, timeout=20)


def packed(host: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in host else socket.AF_INET, host)


class Captured:
    """An engine with a dual-stack socket, and listeners without one for single addresses and for wildcards."""

    def __init__(self, workers: int, upstreams: Upstreams) -> None:
        self.slots = ClusterSlots(64)
        self.engine = Engine(self.slots, seed=1, workers=workers)
        self.pool = ThreadPoolExecutor(4)
        self.routes = {name: self._route(name, upstreams.start(name)) for name in ("socket", "exact", "wild", "other")}
        self.numbers = {
            "socket": self.engine.listen(
                "::", PORT, routes=self.routes["socket"], hands_over=True, ipv6_only=False, inspect_tls=False
            )
        }
        for name in ("exact", "wild"):
            self.numbers[name] = self._unbound(name)
        self.publish("exact", "wild")

    def _route(self, name: str, address: tuple[str, int]) -> RouteTable:
        slot = self.slots.acquire(name)
        self.slots.publish(slot, ClusterTable.compile(columns(address)))
        return RouteTable.compile([ChainSpec(name, targets=((slot, 1),))])

    def _unbound(self, name: str) -> int:
        return self.engine.listen("", 0, routes=self.routes[name], bind_to_port=False, inspect_tls=False)

    def publish(self, *names: str) -> None:
        places = {"exact": (EXACT, EXACT6), "wild": (("0.0.0.0", WILD[1]), ("::", WILD6[1]))}
        own = [ListenerAddress("socket", bytes(16), PORT, self.numbers["socket"], ipv4_compat=True)]
        self.engine.publish_addresses(
            own
            + [
                ListenerAddress(name, packed(host), port, self.numbers[name])
                for name in names
                for host, port in places[name]
            ]
        )

    def drive(self, work: Callable[[], Result]) -> Result:
        """Turn the engine until another thread has done this."""
        done = self.pool.submit(work)
        while not done.done():
            self.engine.turn()
        return done.result()

    def reached(self, address: tuple[str, int]) -> str:
        return self.drive(lambda: reached(address, source=CLIENT6 if ":" in address[0] else CLIENT))

    def settle(self, number: int) -> None:
        """Until the engine knows that no connection of this listener is open."""
        while self.engine.listener_counters(number).cx_active:
            self.engine.turn()
        self.engine.take_events()

    def totals(self) -> dict[str, int]:
        return {name: self.engine.listener_counters(number).cx_total for name, number in self.numbers.items()}


def found(one: Captured) -> dict[str, dict[str, int]]:
    """Who is reached by many connections to each address, and by which listeners they went."""
    names = {
        "exact": EXACT, "wild": WILD, "other": OTHER, "exact6": EXACT6, "wild6": WILD6, "other6": OTHER6,
        "wildcard of another port": (EXACT[0], OTHER[1]),
    }  # fmt: skip
    seen = {name: dict(Counter(one.reached(address) for _ in range(MANY))) for name, address in names.items()}
    return {**seen, "counted": one.totals()}


def routed_anew(one: Captured) -> list[str]:
    one.engine.publish_routes(one.numbers["exact"], one.routes["other"])
    after = one.reached(EXACT)
    one.engine.publish_routes(one.numbers["exact"], one.routes["exact"])
    return [after, one.reached(EXACT)]


def held_beyond_its_listener(one: Captured) -> dict[str, object]:
    """A connection of a listener that leaves goes on, counted there; new ones stay with the socket."""
    number = one.numbers["exact"]
    before = one.engine.listener_counters(number).cx_total
    with one.drive(lambda: socket.create_connection(EXACT, 10, source_address=(CLIENT, 0))) as client:

        def asked() -> str:
            client.sendall(b"who is it\n")
            return client.recv(100).decode().strip()

        first = one.drive(asked)
        one.publish("wild")
        one.engine.stop_accepting(number)
        one.engine.take_events()
        seen = {"held": [first, one.drive(asked)], "new": one.reached(EXACT), "forgotten": one.engine.forget(number)}
    one.settle(number)
    last = None
    while last is None:
        one.engine.turn()
        one.engine.take_events()
        last = one.engine.forget(number)
    seen["more"] = last.cx_total - before
    try:
        one.engine.listener_counters(number)
    except ValueError as error:
        seen["then"] = str(error)
    one.numbers["exact"] = one._unbound("exact")
    one.publish("exact", "wild")
    return seen


def replaced_under_load(one: Captured) -> dict[str, object]:
    """Listeners come and go while connections come: each is served by one of those that stood there."""
    waiting = [one.pool.submit(lambda: [reached(EXACT, source=CLIENT) for _ in range(40)]) for _ in range(3)]
    left = []
    for _ in range(REPLACED):
        left.append(one.numbers["exact"])
        one.numbers["exact"] = one._unbound("exact")
        one.publish("exact", "wild")
        one.engine.stop_accepting(left[-1])
        one.engine.turn()
        one.engine.take_events()
        left = [number for number in left if one.engine.forget(number) is None]
    while not all(future.done() for future in waiting):
        one.engine.turn()
    names = Counter(name for future in waiting for name in future.result())
    while left:
        one.engine.turn()
        one.engine.take_events()
        left = [number for number in left if one.engine.forget(number) is None]
    while one.engine.active_connections():
        one.engine.turn()
    return dict(names)


def refused_to_be_published(one: Captured) -> list[str]:
    said = []
    place = ListenerAddress("a", packed("10.0.0.1"), 80, one.numbers["exact"])
    gone = one._unbound("other")
    one.engine.stop_accepting(gone)
    for addresses in ([place, place._replace(name="b")], [place._replace(number=gone)], [place._replace(number=99999)]):
        try:
            one.engine.publish_addresses(addresses)
        except ValueError as error:
            said.append(str(error))
    # What was published before stays.
    return [*said, one.reached(EXACT)]


def refusals(one: Captured, name: str) -> dict[str, int]:
    counters = one.engine.listener_counters(one.numbers[name]).refused
    return {LABELS[Reason(at)]: count for at, count in enumerate(counters) if count}


def looped(one: Captured) -> dict[str, object]:
    """Connections to the engine's own socket, straight or redirected, of a chain that goes where they were going."""
    slot = one.slots.acquire("passthrough")
    one.slots.publish(slot, ClusterTable.compile(columns(("127.0.0.1", 9))), original_dst=True)
    before = one.routes["socket"]
    one.engine.publish_routes(one.numbers["socket"], RouteTable.compile([ChainSpec("p", targets=((slot, 1),))]))

    def ended(address: tuple[str, int], source: str | None) -> str:
        def ask() -> str:
            with socket.create_connection(address, 10, source_address=(source, 0) if source else None) as client:
                try:
                    return client.recv(1).decode() or "end"
                except ConnectionResetError:
                    return "reset"

        return one.drive(ask)

    ways = {
        "straight": (("127.0.0.1", PORT), None),
        "straight6": (("::1", PORT), None),
        "redirected to itself": (("127.0.0.1", PORT), CLIENT),
        "redirected, another address of the host": ((CLIENT, PORT), CLIENT),
        "redirected6": ((CLIENT6, PORT), CLIENT6),
    }
    seen = {name: ended(address, source) for name, (address, source) in ways.items()}
    # Elsewhere the same port is no loop.
    elsewhere = one.drive(lambda: reached(ELSEWHERE, source=CLIENT))
    one.engine.publish_routes(one.numbers["socket"], before)
    return {"ends": seen, "elsewhere": elsewhere, "refused": refusals(one, "socket")}


ELSEWHERE = ("127.0.0.31", 9003)


def main() -> None:
    bring_up()
    for address in (CLIENT6, EXACT6[0], WILD6[0], OTHER6[0]):
        run("ip", "-6", "addr", "add", f"{address}/128", "dev", "lo", "nodad")
    for tables, source in (("iptables", CLIENT), ("ip6tables", CLIENT6)):
        chosen, target = ("-p", "tcp", "-s", source), ("-j", "REDIRECT", "--to-ports", str(PORT))
        run(tables, "-t", "nat", "-A", "OUTPUT", *chosen, *target)
    steps = Steps()
    with Upstreams() as upstreams:
        one = Captured(int(sys.argv[1]), upstreams)
        upstreams.start("elsewhere", *ELSEWHERE)
        steps.take("found", found, one)
        steps.take("routed anew", routed_anew, one)
        steps.take("held", held_beyond_its_listener, one)
        steps.take("replaced", replaced_under_load, one)
        steps.take("not published", refused_to_be_published, one)
        steps.take("looped", looped, one)
        one.engine.close()
        one.pool.shutdown()
    steps.print()


if __name__ == "__main__":
    main()
