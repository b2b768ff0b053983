"""What `bench.callgrind` counts: each case once to warm up, then a few times, with a mark behind each time.

Runs under valgrind, which collects inside the entry points of native modules only; the mark is a call that makes it
write down and begin anew. Prints the cases in order: a line of JSON with name, unit, how many units one time has.
"""

import json
import socket
from collections.abc import Callable

from eastgate.fastpath.match import client_hello
from eastgate.fastpath.match.route_table import RouteTable
from eastgate.fastpath.tables.cluster_table import ClusterTable
from eastgate.xds.assignment import decode_assignment

from tests.fastpath.driven_engine import SERVICE, Gateway, accept, upstream
from tests.fastpath.driven_engine import client_hello as first_flight
from tests.fastpath.match.hellos import in_records, message_of, real_hello
from tests.support.encoded import METADATA, assignment, endpoint

from .bench_route import OFFERED, chains, in_random_order
from .clusters import weighted_columns

TIMES = 3
MARK = ClusterTable.compile(weighted_columns(1))


def case(name: str, unit: str, units: int, run: Callable[[], object]) -> None:
    """One warm-up and TIMES times of `units` units each."""
    print(json.dumps([name, unit, units, TIMES]), flush=True)
    for _ in range(1 + TIMES):
        run()
        MARK.memory()


def parse() -> None:
    whole = real_hello(SERVICE, OFFERED)
    message = message_of(whole)
    for records in (1, 3):
        data = in_records(message, [len(message) * part // records for part in range(1, records)])
        case(
            f"parse a ClientHello, {records} TLS record{'s' if records > 1 else ''}",
            "hello",
            1000,
            lambda data=data: client_hello.spin(data, 1000),
        )


def routes() -> None:
    # Laying out the names is in it: one in twenty lookups.
    table, names = RouteTable.compile(chains(1000)), in_random_order(1000)
    case(
        "route lookup, 1,000 chains",
        "lookup",
        20_000,
        lambda: table.spin(names, 20_000, application_protocols=OFFERED),
    )


def picks() -> None:
    for title, policy, equal in (
        ("round robin, weighted", "ROUND_ROBIN", False),
        ("round robin, equal weights", "ROUND_ROBIN", True),
        ("least request, equal weights", "LEAST_REQUEST", True),
        ("least request, weighted", "LEAST_REQUEST", False),
    ):
        columns = weighted_columns(1000, equal=equal)
        table = ClusterTable.compile(columns, policy=policy, locality_weighted=True, panic_threshold=0, seed=1)
        case(f"pick, {title}, 1,000 endpoints", "pick", 10_000, lambda table=table: table.spin(10_000))


def tables() -> None:
    columns = weighted_columns(1000)
    for policy in ("ROUND_ROBIN", "LEAST_REQUEST"):

        def build(policy: str = policy) -> ClusterTable:
            return ClusterTable.compile(columns, policy=policy, locality_weighted=True, panic_threshold=0, seed=1)

        before = build()
        case(f"compile a table, {policy}, 1,000 endpoints", "endpoint", 1000, build)
        case(
            f"compile the next table, {policy}, 1,000 endpoints",
            "endpoint",
            1000,
            lambda before=before, policy=policy: ClusterTable.compile(
                columns, policy=policy, locality_weighted=True, panic_threshold=0, seed=1, previous=before
            ),
        )
    payload = assignment([endpoint(index, metadata=METADATA) for index in range(1000)], name=SERVICE)
    case("decode an assignment of 1,000 endpoints", "endpoint", 1000, lambda: decode_assignment(payload))


def relays() -> None:
    hello = first_flight()
    with upstream(backlog=64) as server:
        gateway = Gateway(server.getsockname())
        gateway.engine.record_events(False)

        def connection() -> None:
            client = gateway.connect(hello)
            gateway.turn()
            endpoint_side = accept(server)
            gateway.receive(endpoint_side, len(hello))
            client.close()
            gateway.until(lambda: gateway.receive(endpoint_side, 1) == b"")
            endpoint_side.close()
            gateway.until(lambda: gateway.engine.active_connections() == 0)

        case("a connection: accept, hello, route, pick, connect, close", "connection", 100, times(connection, 100))
        client = gateway.connect(hello)
        gateway.turn()
        far = accept(server)
        gateway.receive(far, len(hello))
        question = bytes(64)

        def round_trip() -> None:
            for sender, receiver in ((client, far), (far, client)):
                sender.send(question)
                gateway.engine.turn()
                assert receiver.recv(100) == question

        case("relay, 64 bytes there and back", "round trip", 500, times(round_trip, 500))
        block = bytes(65536)

        def bulk() -> None:
            client.send(block)
            gateway.receive(far, len(block))

        case("relay, 64 KiB a turn", "64 KiB", 50, times(bulk, 50))
        for peer in (client, far):
            peer.close()
        gateway.close()


def times(run: Callable[[], None], count: int) -> Callable[[], None]:
    def several() -> None:
        for _ in range(count):
            run()

    return several


if __name__ == "__main__":
    socket.setdefaulttimeout(60)
    for part in (parse, routes, picks, tables, relays):
        part()
