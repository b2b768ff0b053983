"""Handshakes wait for their turn: relays are served between, what has begun ends first, and who left costs no key.

Nothing is measured by the clock: a hosted engine does what it does in one turn, and then the test looks.
"""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest
from eastgate.fastpath.reason import Reason

from ...support.tls_pair import Ours
from ..driven_engine import SERVICE, Gateway, Relay, accept, client_hello, has_bytes, relaying
from .tls_ends import ROOT, SERVER, Server, end_tls, originating, running, terminating

HELLO = client_hello()
BURST = 192
# What one turn may make of them, on any machine: 4 ms of steps that take a tenth of one or more.
MOST_A_TURN = 48
# Waiting clients of a listener with which it accepts no more (SHAKING_MOST), and more clients than that.
MOST_WAITING, CROWD = 256, 320
PING, PONG = b"from the client", b"from the endpoint"
# Whole handshakes of a flood, so many at a time; `make test-long` has 20,000.
WHOLE, AT_A_TIME = int(os.environ.get("EASTGATE_HANDSHAKES", "192")), 64


class Clients:
    """Sockets that have come to a gateway whose chain ends TLS."""

    def __init__(self, gateway: Gateway, stack: ExitStack, count: int, said: bytes = HELLO) -> None:
        self.sockets = [stack.enter_context(gateway.connect(said)) for _ in range(count)]
        self._answered: set[int] = set()

    def say(self, said: bytes) -> None:
        for one in self.sockets:
            one.sendall(said)

    def answered(self) -> int:
        """How many have got a flight; it stays unread."""
        for number, one in enumerate(self.sockets):
            if number not in self._answered and has_bytes(one):
                self._answered.add(number)
        return len(self._answered)


def turns_until(gateway: Gateway, condition: Callable[[], bool], most: int) -> None:
    """Turns that the engine takes by itself, without a wait between them."""
    for _ in range(most):
        gateway.engine.turn()
        if condition():
            return
    raise AssertionError(f"not within {most} turns")


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


@pytest.fixture
def relay() -> Iterator[Relay]:
    """A gateway that ends the TLS of whoever comes now, with a relay that was there before."""
    with relaying() as made:
        end_tls(made.gateway)
        yield made


@pytest.mark.parametrize("accepted", [True, False], ids=["accepted before", "accepted with their hellos"])
def test_a_relay_goes_on_between_the_first_flights_of_a_burst(relay: Relay, stack: ExitStack, accepted: bool) -> None:
    gateway, _, client, endpoint = relay
    burst = Clients(gateway, stack, BURST, b"" if accepted else HELLO)
    if accepted:
        gateway.until(lambda: gateway.engine.active_connections() == 1 + BURST)
        burst.say(HELLO)
    # Behind all of them.
    client.sendall(PING)
    turns_until(gateway, lambda: has_bytes(endpoint), 1)
    assert burst.answered() <= MOST_A_TURN
    endpoint.sendall(PONG)
    turns_until(gateway, lambda: has_bytes(client), 2)
    assert burst.answered() < BURST
    gateway.until(lambda: burst.answered() == BURST)


def test_no_turn_makes_more_flights_than_relays_can_wait_for(relay: Relay, stack: ExitStack) -> None:
    gateway, _, client, endpoint = relay
    burst = Clients(gateway, stack, BURST)
    before = turns = 0
    while before < BURST:
        client.sendall(b"x")
        gateway.engine.turn()
        turns += 1
        # What was sent before the turn was relayed in it.
        assert endpoint.recv(16) == b"x"
        assert burst.answered() - before <= MOST_A_TURN
        before = burst.answered()
    assert turns > BURST // MOST_A_TURN


def test_a_burst_of_handshakes_with_endpoints_lets_relays_go_on(stack: ExitStack) -> None:
    gateway, server, client, endpoint = stack.enter_context(relaying(backlog=BURST))
    gateway.slots.publish(gateway.slot, gateway.table, mesh_tls=originating(), mesh=b"\1")
    burst = Clients(gateway, stack, BURST, b"")
    gateway.until(lambda: gateway.engine.active_connections() == 1 + BURST)
    burst.say(HELLO)
    server.setblocking(True)
    gateway.until(lambda: gateway.slots.counters(gateway.slot).cx_total == 1 + BURST)
    ends = [stack.enter_context(accept(server)) for _ in range(BURST)]
    before = 0
    while before < BURST:
        client.sendall(b"x")
        gateway.engine.turn()
        assert endpoint.recv(16) == b"x"
        greeted = sum(map(has_bytes, ends))
        assert greeted - before < BURST
        before = greeted


def test_who_has_begun_ends_before_others_begin(relay: Relay, stack: ExitStack) -> None:
    gateway = relay.gateway
    first = Ours(stack.enter_context(socket.create_connection(gateway.address)), originating())
    first.handshake()
    burst = Clients(gateway, stack, BURST)

    def done() -> bool:
        return first.handshake()

    turns_until(gateway, done, 4)
    turns_until(gateway, lambda: gateway.engine.listener_counters(gateway.listener).tls_handshakes == 1, 2)
    assert burst.answered() < BURST
    gateway.until(lambda: burst.answered() == BURST)


def test_peers_that_go_on_byte_by_byte_keep_nobody_out(relay: Relay, stack: ExitStack) -> None:
    gateway = relay.gateway
    slow = Clients(gateway, stack, BURST)
    gateway.until(lambda: slow.answered() == BURST)
    newcomers = Clients(gateway, stack, 4)
    for number, piece in enumerate((b"\x16", b"\x03", b"\x03", b"\x01")):
        # A header of a record, of which each byte is a step for all of them.
        slow.say(piece)
        gateway.engine.turn()
        assert newcomers.answered() > number


@pytest.mark.parametrize("ended", ["half", "whole"])
def test_a_hello_with_the_end_behind_it_is_not_answered(relay: Relay, ended: str) -> None:
    gateway = relay.gateway
    with gateway.connect(HELLO) as peer:
        if ended == "half":
            peer.shutdown(socket.SHUT_WR)
            # No byte of a flight has come.
            assert gateway.end_of(peer) == "RST"
    gateway.until(lambda: gateway.refused(Reason.CLIENT_GONE) == 1)
    assert gateway.engine.listener_counters(gateway.listener).tls_handshakes == 0
    assert [event.server_name for event in gateway.events if event.reason == Reason.CLIENT_GONE] == [SERVICE]


def test_who_leaves_while_waiting_is_not_answered_either(relay: Relay, stack: ExitStack) -> None:
    gateway = relay.gateway
    burst = Clients(gateway, stack, BURST)
    gateway.engine.turn()
    begun = burst.answered()
    for one in burst.sockets:
        one.shutdown(socket.SHUT_WR)
    gateway.until(lambda: gateway.refused(Reason.CLIENT_GONE) == BURST - begun)
    gateway.until(lambda: gateway.engine.active_connections() == 1)
    assert burst.answered() == begun


def test_who_ends_behind_a_whole_handshake_is_served(stack: ExitStack, tmp_path) -> None:
    server = Server(tmp_path)
    stack.callback(server.close)
    with running(0, server.address, down=terminating()) as gateway, socket.socket() as raw:
        raw.connect(gateway.address)
        client = Ours(raw, originating())
        client.handshake()
        gateway.until(lambda: has_bytes(raw))
        # Its last flight, its bytes, close_notify and FIN come at once.
        assert client.handshake()
        client.send(PING)
        client.end()
        raw.shutdown(socket.SHUT_WR)
        received: list[bytes] = []

        def ended() -> bool:
            piece = client.receive()
            received.append(piece or b"")
            return piece == b""

        gateway.until(ended)
        assert b"".join(received) == PING
        raw.close()


def test_who_has_ended_its_side_still_reaches_an_endpoint_by_tls(stack: ExitStack, tmp_path) -> None:
    server = Server(tmp_path, ROOT.issue(SERVER))
    stack.callback(server.close)
    with running(0, server.address, up=originating()) as gateway, gateway.connect(HELLO) as peer:
        peer.shutdown(socket.SHUT_WR)
        assert gateway.receive(peer, len(HELLO)) == HELLO


@contextmanager
def crowd(relay: Relay, stack: ExitStack) -> Iterator[tuple[Gateway, Clients]]:
    gateway = relay.gateway
    clients = Clients(gateway, stack, CROWD)
    yield gateway, clients
    gateway.until(lambda: clients.answered() == CROWD)
    assert sum(gateway.engine.listener_counters(gateway.listener).refused) == 0


def test_a_flood_is_accepted_no_faster_than_it_is_answered(relay: Relay, stack: ExitStack) -> None:
    _, _, client, endpoint = relay
    with crowd(relay, stack) as (gateway, clients):
        most = 0
        while clients.answered() < CROWD:
            client.sendall(b"x")
            gateway.engine.turn()
            assert endpoint.recv(16) == b"x"
            waiting = gateway.engine.active_connections() - 1 - clients.answered()
            most = max(most, waiting)
        assert most <= MOST_WAITING


def test_a_listener_that_stops_takes_whoever_waits_for_it(relay: Relay, stack: ExitStack) -> None:
    with crowd(relay, stack) as (gateway, _):
        gateway.engine.turn()
        gateway.engine.stop_accepting(gateway.listener)
        assert gateway.engine.active_connections() == 1 + CROWD


def test_who_waits_too_long_is_refused_and_leaves_the_queue(relay: Relay, stack: ExitStack) -> None:
    gateway = relay.gateway
    end_tls(gateway, handshake_timeout_ms=1)
    Clients(gateway, stack, BURST)
    gateway.until(lambda: gateway.refused(Reason.TLS_TIMEOUT) == BURST)
    assert gateway.engine.active_connections() == 1
    end_tls(gateway)
    later = Clients(gateway, stack, 1)
    gateway.until(lambda: later.answered() == 1)


def test_what_waits_can_be_cut(relay: Relay, stack: ExitStack) -> None:
    gateway = relay.gateway
    burst = Clients(gateway, stack, BURST)
    while gateway.engine.active_connections() < 1 + BURST:
        gateway.engine.turn()
    assert burst.answered() < BURST
    assert gateway.engine.close_connections() == 1 + BURST
    later = Clients(gateway, stack, 1)
    gateway.until(lambda: later.answered() == 1)
    assert gateway.engine.active_connections() == 1


class Talker(Ours):
    """A client that says something once its handshake is done, and waits for the answer."""

    def __init__(self, gateway: Gateway, stack: ExitStack) -> None:
        super().__init__(stack.enter_context(socket.create_connection(gateway.address)), originating())
        self.spoke = False

    def has_answer(self) -> bool:
        if not self.spoke and self.handshake():
            self.spoke = bool(self.send(PING))
        return self.spoke and bool(self.receive())

    def leave(self) -> None:
        self.end()
        self.socket.close()


@pytest.mark.parametrize("workers", [0, 1, 4], ids=lambda count: f"workers={count}")
def test_all_of_a_flood_are_served_and_relays_with_them(workers: int, stack: ExitStack, tmp_path) -> None:
    server = Server(tmp_path)
    stack.callback(server.close)
    with running(workers, server.address, down=terminating()) as gateway:
        quiet, trips = Talker(gateway, stack), 0
        gateway.until(quiet.has_answer)
        for _ in range(0, WHOLE, AT_A_TIME):
            talkers = [Talker(gateway, stack) for _ in range(AT_A_TIME)]
            waiting = list(talkers)
            quiet.send(PING)

            def served(waiting: list[Talker] = waiting) -> bool:
                nonlocal trips
                if quiet.receive():
                    trips += 1
                    quiet.send(PING)
                waiting[:] = [talker for talker in waiting if not talker.has_answer()]
                return not waiting

            gateway.until(served)
            for talker in talkers:
                talker.leave()
        quiet.leave()
        gateway.until(lambda: gateway.engine.active_connections() == 0)
        counters = gateway.engine.listener_counters(gateway.listener)
        assert counters.tls_handshakes == 1 + -(-WHOLE // AT_A_TIME) * AT_A_TIME
        # The quiet one leaves an answer unread.
        assert sum(counters.refused) == counters.refused[Reason.CLIENT_RESET] <= 1
        assert trips >= WHOLE // AT_A_TIME
