"""Which open connections a push ends: those alone that the new tables would not have where they are."""

import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import pytest
from eastgate.fastpath.loop.review import Moves, ReviewSettings
from eastgate.fastpath.match.chains import ISTIO_ALPN, NO_INSPECTION, ChainSpec, Inspection
from eastgate.fastpath.match.http_routes import HttpRoutes
from eastgate.fastpath.match.http_specs import HttpHostSpec, HttpRoutesSpec
from eastgate.fastpath.match.policy import PolicySet
from eastgate.fastpath.match.route_table import RouteTable
from eastgate.fastpath.reason import Reason
from eastgate.fastpath.tables.cluster_table import ClusterTable
from eastgate.xds.cidr import CidrRange
from eastgate.xds.rbac import Policy, Predicate, RbacFilter, Rules, TextMatch
from eastgate.xds.tls_records import NameMatch

from ..driven_engine import SERVICE, Gateway, accept, client_hello, columns, upstream, with_workers
from .test_first_request import PREFACE, Named, host, request, to
from .tls_ends import CLIENT, ROOT, Server, client_context, terminating

pytestmark = with_workers(0, 1, 2)

AT_ONCE, LATER = ReviewSettings(drain_ms=0), ReviewSettings(drain_ms=60_000)
LOCAL = Predicate("direct_remote_ip", range=CidrRange(bytes((127, 0, 0, 0)), 8))
HTTP = Inspection(http=True)


def policies(action: str, principal: Predicate) -> PolicySet:
    one = Policy("ns[x]-policy[p]", (Predicate("any"),), (principal,))
    return PolicySet.compile([RbacFilter(Rules(action, (one,)))])


class Pushed:
    """A gateway with the clusters A and B, each of which says its name first, and connections that are kept."""

    def __init__(self, workers: int, stack: ExitStack, folder: Path, **listen: object) -> None:
        first, second = (stack.enter_context(closing(Named(name))) for name in (b"A", b"B"))
        self.gateway = Gateway(first.address, workers=workers, **listen)
        stack.callback(self.gateway.engine.close)
        self.engine = self.gateway.engine
        self.a = self.gateway.slot
        self.b = self.gateway.slots.acquire("b")
        self.gateway.slots.publish(self.b, ClusterTable.compile(columns(second.address)))
        self._stack = stack

    def publish(self, *chains: ChainSpec, inspection: Inspection = NO_INSPECTION) -> None:
        table = RouteTable.compile(chains[:-1], chains[-1], inspection, guards_names=False)
        self.engine.publish_routes(self.gateway.listener, table)

    def push(self, *chains: ChainSpec, inspection: Inspection = NO_INSPECTION, by: ReviewSettings = AT_ONCE) -> None:
        """New chains, the last one for everything else, and a review."""
        self.publish(*chains, inspection=inspection)
        self.engine.review(by)

    def open(self, first: bytes = b"", answer: bytes = b"A") -> socket.socket:
        peer = self._stack.enter_context(self.gateway.connect(first))
        assert self.gateway.receive(peer, 1) == answer
        if first:
            assert self.gateway.receive(peer, len(first)) == first
        return peer

    def is_open(self, peer: socket.socket) -> bool:
        peer.sendall(b"ping")
        return self.gateway.receive(peer, 4) == b"ping"

    def ended(self, reason: Reason, count: int = 1) -> None:
        """Wait until so many ended for this reason, and none for another."""
        self.gateway.until(lambda: self.gateway.refused(reason) == count)
        counted = self.engine.listener_counters(self.gateway.listener).refused
        assert sum(counted[Reason.CHAIN_CHANGED : Reason.POLICY_CHANGED + 1]) == count


@pytest.fixture
def pushed(workers: int, tmp_path: Path) -> Iterator[Pushed]:
    """Connections are routed at once: nothing is looked at."""
    with ExitStack() as stack:
        yield Pushed(workers, stack, tmp_path, inspect_tls=False)


@pytest.fixture
def inspecting(workers: int, tmp_path: Path) -> Iterator[Pushed]:
    with ExitStack() as stack:
        yield Pushed(workers, stack, tmp_path)


def chain(slot: int, **fields: Any) -> ChainSpec:
    return ChainSpec(name=f"to {slot}", targets=((slot, 1),), **fields)


# ---- by the cluster


def test_it_stays_with_its_cluster_and_ends_without(pushed: Pushed) -> None:
    pushed.push(chain(pushed.a))
    kept = pushed.open()
    # Its own port is the one that the chain asks for: another chain, another weight, the same cluster.
    port = kept.getpeername()[1]
    pushed.push(
        ChainSpec(name="split", destination_port=port, targets=((pushed.b, 99), (pushed.a, 1))), chain(pushed.b)
    )
    assert pushed.is_open(kept)
    pushed.push(chain(pushed.b, destination_port=port), chain(pushed.a))
    pushed.ended(Reason.CHAIN_CHANGED)
    assert pushed.gateway.end_of(kept) == "FIN"
    (event,) = [one for one in pushed.gateway.events if one.reason == Reason.CHAIN_CHANGED]
    assert (event.cluster, event.rx_bytes) == (SERVICE, 4)
    pushed.gateway.until(lambda: pushed.engine.active_connections() == 0)


def test_a_cluster_that_came_again_under_its_name_is_another_one(pushed: Pushed) -> None:
    pushed.push(chain(pushed.b))
    kept = pushed.open(answer=b"B")
    pushed.gateway.slots.publish(pushed.b, None)
    pushed.push(chain(pushed.b))
    pushed.ended(Reason.CHAIN_CHANGED)
    assert pushed.gateway.end_of(kept) == "FIN"


def test_a_chain_that_is_the_same_is_not_asked(pushed: Pushed) -> None:
    pushed.push(chain(pushed.a, number=7))
    kept, other = pushed.open(), pushed.open()
    port = kept.getpeername()[1]
    # A chain that came beside it would take both now.
    pushed.push(chain(pushed.b, destination_port=port, number=8), chain(pushed.a, number=7))
    pushed.push(chain(pushed.b, destination_port=port, number=8), chain(pushed.a, number=7), by=LATER)
    assert pushed.is_open(kept)
    pushed.push(chain(pushed.b, destination_port=port, number=8), chain(pushed.a, number=9))
    pushed.ended(Reason.CHAIN_CHANGED, 2)
    assert pushed.gateway.end_of(kept) == pushed.gateway.end_of(other) == "FIN"


def test_nothing_ends_before_a_review_nor_before_its_time(pushed: Pushed) -> None:
    pushed.push(chain(pushed.a))
    kept = pushed.open()
    pushed.publish(chain(pushed.b))
    assert pushed.is_open(kept)
    pushed.engine.review(LATER)
    assert pushed.is_open(kept)
    # What fits again stays, although its time was set.
    pushed.push(chain(pushed.a), by=LATER)
    later = pushed.open()
    pushed.push(chain(pushed.b), by=ReviewSettings(drain_ms=200))
    pushed.ended(Reason.CHAIN_CHANGED, 2)
    assert pushed.gateway.end_of(kept) == pushed.gateway.end_of(later) == "FIN"


def test_the_time_is_kept(pushed: Pushed) -> None:
    pushed.push(chain(pushed.a))
    kept = pushed.open()
    pushed.push(chain(pushed.b), by=ReviewSettings(drain_ms=300))
    pushed.ended(Reason.CHAIN_CHANGED)
    (event,) = [one for one in pushed.gateway.events if one.reason == Reason.CHAIN_CHANGED]
    assert event.duration >= 0.3
    assert pushed.gateway.end_of(kept) == "FIN"


def test_what_fits_again_when_its_time_is_up_stays(pushed: Pushed) -> None:
    pushed.push(chain(pushed.a))
    kept, sibling = pushed.open(), pushed.open()
    pushed.push(chain(pushed.b), by=ReviewSettings(drain_ms=100))
    pushed.publish(chain(pushed.a))
    # No review: the one that is asked at the end finds it.
    with pushed.gateway.connect() as waiting:
        assert pushed.gateway.receive(waiting, 1) == b"A"
        for _ in range(20):
            assert pushed.is_open(waiting)
            pushed.gateway.turn()
    assert pushed.is_open(kept)
    assert pushed.is_open(sibling)
    assert pushed.gateway.refused(Reason.CHAIN_CHANGED) == 0


def test_many_end_one_after_the_other_and_all_of_them(pushed: Pushed) -> None:
    pushed.push(chain(pushed.a))
    peers = [pushed.open() for _ in range(300)]
    pushed.push(chain(pushed.b))
    pushed.ended(Reason.CHAIN_CHANGED, 300)
    assert {pushed.gateway.end_of(peer) for peer in peers} == {"FIN"}


def test_pushes_that_follow_each_other_reach_everybody(pushed: Pushed) -> None:
    pushed.push(chain(pushed.a))
    peers = [pushed.open() for _ in range(150)]
    for _ in range(50):
        pushed.push(chain(pushed.a))
        pushed.push(chain(pushed.b))
    pushed.ended(Reason.CHAIN_CHANGED, 150)
    assert {pushed.gateway.end_of(peer) for peer in peers} == {"FIN"}


def test_a_half_closed_connection_ends_too(pushed: Pushed) -> None:
    pushed.push(chain(pushed.a, idle_timeout_ms=0))
    with upstream() as silent:
        pushed.gateway.slots.publish(pushed.a, ClusterTable.compile(columns(silent.getsockname())))
        kept = pushed.gateway.connect()

        def is_routed() -> bool:
            counters = pushed.engine.listener_counters(pushed.gateway.listener)
            return counters.cx_active == 1 and counters.cx_pre_active == 0

        pushed.gateway.until(is_routed)
        with kept, accept(silent):
            pushed.push(chain(pushed.b), by=ReviewSettings(drain_ms=300))
            kept.shutdown(socket.SHUT_WR)
            pushed.ended(Reason.CHAIN_CHANGED)


# ---- by the policies


def test_a_policy_that_came_later_ends_whom_it_denies(pushed: Pushed) -> None:
    pushed.push(chain(pushed.a, policies=policies("ALLOW", LOCAL)))
    kept = pushed.open()
    pushed.push(chain(pushed.a, policies=policies("DENY", LOCAL)))
    pushed.ended(Reason.POLICY_CHANGED)
    assert pushed.gateway.end_of(kept) == "FIN"
    (event,) = [one for one in pushed.gateway.events if one.reason == Reason.POLICY_CHANGED]
    assert (event.policy, event.policy_unknown) == ("ns[x]-policy[p]", False)
    # It is no verdict on a connection that comes.
    assert pushed.engine.listener_counters(pushed.gateway.listener).rbac[:2] == (1, 0)


def test_who_is_allowed_still_is_not_cut(pushed: Pushed) -> None:
    pushed.push(chain(pushed.a, policies=policies("DENY", LOCAL), destination_port=1), chain(pushed.a))
    kept = pushed.open()
    elsewhere = Predicate("direct_remote_ip", range=CidrRange(bytes((192, 0, 2, 0)), 24))
    pushed.push(chain(pushed.a, policies=policies("DENY", elsewhere)), by=AT_ONCE)
    doomed = pushed.open()
    pushed.push(chain(pushed.a, policies=policies("ALLOW", LOCAL)))
    assert pushed.is_open(kept)
    assert pushed.is_open(doomed)
    assert pushed.gateway.refused(Reason.POLICY_CHANGED) == 0


@pytest.mark.parametrize(("allowed", "reason"), [(CLIENT, None), ("spiffe://cluster.local/x", Reason.POLICY_CHANGED)])
def test_the_certificate_is_the_one_that_was_shown(
    inspecting: Pushed, tmp_path: Path, allowed: str, reason: Reason | None
) -> None:
    tls = terminating()
    named = Predicate("authenticated", match=TextMatch("exact", allowed))
    inspecting.push(chain(inspecting.a, tls=tls))
    client = client_context(tmp_path, ROOT.issue(CLIENT))
    with sealed(inspecting, client) as session:
        assert session.read(1) == b"A"
        inspecting.push(chain(inspecting.a, tls=tls, policies=policies("ALLOW", named)))
        if reason is not None:
            inspecting.ended(reason)
        else:
            assert session.exchange(b"ping") == b"ping"


class Sealed:
    """A TLS client that never blocks the engine it talks to."""

    def __init__(self, pushed: Pushed, context: ssl.SSLContext, handshakes: bool) -> None:
        self._pushed = pushed
        self.peer = pushed.gateway.connect()
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=SERVICE)
        if handshakes:
            self.handshake()

    def handshake(self) -> None:
        self._until(self._tls.do_handshake)

    def begin(self) -> None:
        """Send the hello alone."""
        with pytest.raises(ssl.SSLWantReadError):
            self._tls.do_handshake()
        self.peer.sendall(self._outgoing.read())

    def read(self, count: int) -> bytes:
        got = bytearray()
        while len(got) < count:
            got += self._until(lambda: self._tls.read(count))
        return bytes(got)

    def exchange(self, data: bytes) -> bytes:
        self._tls.write(data)
        return self.read(len(data))

    def _until(self, step: Any) -> Any:
        result: list[Any] = []

        def done() -> bool:
            with suppress(ssl.SSLWantReadError):
                result.append(step())
            if out := self._outgoing.read():
                self.peer.sendall(out)
            if not result:
                with suppress(BlockingIOError):
                    self._incoming.write(self.peer.recv(65536))
            return bool(result)

        self._pushed.gateway.until(done)
        return result[0]

    def __enter__(self) -> "Sealed":
        return self

    def __exit__(self, *_: object) -> None:
        self.peer.close()


def sealed(pushed: Pushed, context: ssl.SSLContext, *, handshakes: bool = True) -> Sealed:
    return Sealed(pushed, context, handshakes)


def test_a_push_during_the_handshake_is_not_missed(inspecting: Pushed, tmp_path: Path) -> None:
    tls = terminating()
    inspecting.push(chain(inspecting.a, tls=tls))
    with sealed(inspecting, client_context(tmp_path, ROOT.issue(CLIENT)), handshakes=False) as session:
        session.begin()
        inspecting.gateway.until(lambda: inspecting.engine.inspected().tls_found)
        inspecting.push(chain(inspecting.b, tls=tls))
        session.handshake()
        inspecting.ended(Reason.CHAIN_CHANGED)


# ---- by TLS


def test_plain_text_ends_where_it_is_no_longer_taken(inspecting: Pushed) -> None:
    tls = chain(inspecting.a, transport_protocol="tls", tls=terminating())
    inspecting.push(tls, chain(inspecting.a))
    kept = inspecting.open(b"GET /")
    strict = ChainSpec(name="none", refusal=Reason.POLICY)
    inspecting.push(tls, chain(inspecting.a, idle_timeout_ms=1_000_000))
    assert inspecting.is_open(kept)
    inspecting.push(tls, strict)
    inspecting.ended(Reason.CHAIN_CHANGED)
    assert inspecting.gateway.end_of(kept) == "FIN"


def test_tls_that_went_through_ends_where_it_is_terminated(inspecting: Pushed) -> None:
    """Nobody has looked at its client's certificate."""
    inspecting.push(chain(inspecting.a))
    kept = inspecting.open(client_hello())
    inspecting.push(chain(inspecting.a, tls=terminating()))
    inspecting.ended(Reason.CHAIN_CHANGED)
    assert inspecting.gateway.end_of(kept) == "FIN"


@pytest.mark.parametrize(
    ("changes", "stays"),
    [
        ({"names": (NameMatch("prefix", "spiffe://cluster.local/ns/a/", "URI"),)}, True),
        ({"names": (NameMatch("prefix", "spiffe://other/", "URI"),)}, False),
        ({"protocols": ("h2",)}, True),
    ],
)
def test_the_names_of_its_certificate_are_looked_at_again(
    inspecting: Pushed, tmp_path: Path, changes: dict[str, Any], stays: bool
) -> None:
    inspecting.push(chain(inspecting.a, tls=terminating()))
    with sealed(inspecting, client_context(tmp_path, ROOT.issue(CLIENT))) as session:
        assert session.read(1) == b"A"
        inspecting.push(chain(inspecting.a, tls=terminating(**changes)))
        if stays:
            assert session.exchange(b"ping") == b"ping"
        else:
            inspecting.ended(Reason.CHAIN_CHANGED)


def test_who_has_shown_no_certificate_ends_where_one_is_asked_for(inspecting: Pushed, tmp_path: Path) -> None:
    inspecting.push(chain(inspecting.a, tls=terminating(requires_certificate=False)))
    with sealed(inspecting, client_context(tmp_path, None)) as session:
        assert session.read(1) == b"A"
        inspecting.push(chain(inspecting.a, tls=terminating(requires_certificate=False, protocols=("h2",))))
        assert session.exchange(b"ping") == b"ping"
        inspecting.push(chain(inspecting.a, tls=terminating()))
        inspecting.ended(Reason.CHAIN_CHANGED)


def test_a_secret_that_is_missing_ends_nobody(inspecting: Pushed, tmp_path: Path) -> None:
    inspecting.push(chain(inspecting.a, tls=terminating()))
    with sealed(inspecting, client_context(tmp_path, ROOT.issue(CLIENT))) as session:
        assert session.read(1) == b"A"
        inspecting.push(chain(inspecting.a, refusal=Reason.NO_CERTIFICATE))
        assert session.exchange(b"ping") == b"ping"


# ---- by what it said first


def test_the_server_name_and_the_alpn_are_known_still(inspecting: Pushed) -> None:
    named = chain(inspecting.a, server_names=(SERVICE,), application_protocols=ISTIO_ALPN)
    inspecting.push(named, chain(inspecting.b))
    kept = inspecting.open(client_hello())
    others = [inspecting.open(client_hello(SERVICE, ("h2",)), b"B"), inspecting.open(client_hello("x", ()), b"B")]
    inspecting.push(chain(inspecting.a, server_names=(SERVICE,)), chain(inspecting.b))
    inspecting.ended(Reason.CHAIN_CHANGED)
    assert inspecting.gateway.end_of(others[0]) == "FIN"
    assert inspecting.is_open(kept)
    assert inspecting.is_open(others[1])


def test_a_listener_that_no_longer_looks_sees_plain_text(inspecting: Pushed) -> None:
    named = chain(inspecting.a, server_names=(SERVICE,))
    inspecting.push(named, chain(inspecting.b))
    kept = inspecting.open(client_hello())
    port = kept.getpeername()[1]
    inspecting.push(named, chain(inspecting.b), inspection=Inspection(tls_skipped=((port, port + 1),)))
    inspecting.ended(Reason.CHAIN_CHANGED)
    assert inspecting.gateway.end_of(kept) == "FIN"


def by_request(slot: int, *hosts: HttpHostSpec) -> ChainSpec:
    return ChainSpec(
        name="http",
        application_protocols=("http/1.1", "h2c"),
        http_routes=HttpRoutes.compile(HttpRoutesSpec(hosts, ignores_port=True)),
        is_http=True,
    )


def test_its_host_has_to_lead_to_its_cluster(inspecting: Pushed) -> None:
    a, b, rest = inspecting.a, inspecting.b, chain(inspecting.b)
    inspecting.push(by_request(a, host(to(a), domains=("one", "two"))), rest, inspection=HTTP)
    one, two = (inspecting.open(request(name)) for name in ("one", "two:80"))
    # Another route of the host may have been the one: later requests were out of reach from the beginning.
    split = host(to(b, path_kind="prefix", path="/b"), to(a), domains=("one",))
    inspecting.push(by_request(a, split, host(to(b), domains=("two",))), rest, inspection=HTTP)
    inspecting.ended(Reason.CHAIN_CHANGED)
    assert inspecting.gateway.end_of(two) == "FIN"
    assert inspecting.is_open(one)
    # A chain without routes by request, to the same cluster.
    inspecting.push(chain(a, application_protocols=("http/1.1",)), rest, inspection=HTTP)
    assert inspecting.is_open(one)
    # And back: its host was not asked for there, and is known all the same.
    inspecting.push(by_request(a, host(to(a), domains=("other",))), rest, inspection=HTTP)
    inspecting.ended(Reason.CHAIN_CHANGED, 2)


def test_http_2_is_routed_by_its_address(inspecting: Pushed) -> None:
    a, b, rest = inspecting.a, inspecting.b, chain(inspecting.b)
    address = "{}:{}".format(*inspecting.gateway.address)
    inspecting.push(by_request(a, host(to(a), domains=(address[: address.index(":")],))), rest, inspection=HTTP)
    kept = inspecting.open(PREFACE)
    inspecting.push(by_request(a, host(to(a), domains=("127.0.0.1", "more"))), rest, inspection=HTTP)
    assert inspecting.is_open(kept)
    inspecting.push(by_request(a, host(to(a)), host(to(b), domains=("127.0.0.1",))), rest, inspection=HTTP)
    inspecting.ended(Reason.CHAIN_CHANGED)


# ---- listeners that leave


def test_a_listener_that_left_takes_its_connections_along(pushed: Pushed) -> None:
    pushed.push(chain(pushed.a))
    kept = pushed.open()
    pushed.engine.stop_accepting(pushed.gateway.listener)
    pushed.engine.review(AT_ONCE)
    # A drain of the process stops it too, and that ends nobody.
    assert pushed.is_open(kept)
    pushed.engine.leave(pushed.gateway.listener)
    pushed.engine.review(AT_ONCE)
    pushed.ended(Reason.CHAIN_CHANGED)
    assert pushed.gateway.end_of(kept) == "FIN"
    pushed.gateway.until(lambda: pushed.engine.forget(pushed.gateway.listener))


def test_a_listener_at_the_same_address_takes_over(pushed: Pushed) -> None:
    pushed.push(chain(pushed.a))
    kept = pushed.open()
    table = RouteTable.compile([], chain(pushed.a))
    heir = pushed.engine.listen(*pushed.gateway.address, routes=table, inspect_tls=False)
    pushed.engine.stop_accepting(pushed.gateway.listener)
    pushed.engine.leave(pushed.gateway.listener, heir)
    pushed.engine.review(AT_ONCE)
    assert pushed.is_open(kept)
    # It goes on with whoever follows.
    last = pushed.engine.listen(*pushed.gateway.address, routes=table, inspect_tls=False)
    pushed.engine.stop_accepting(heir)
    pushed.engine.leave(heir, last)
    pushed.engine.review(AT_ONCE)
    assert pushed.is_open(kept)
    pushed.engine.publish_routes(last, RouteTable.compile([], chain(pushed.b)))
    pushed.engine.review(AT_ONCE)
    pushed.ended(Reason.CHAIN_CHANGED)
    assert pushed.gateway.end_of(kept) == "FIN"


def test_tables_of_listeners_that_left_are_let_go(pushed: Pushed) -> None:
    pushed.push(chain(pushed.a))
    kept = pushed.open()
    heir = pushed.engine.listen("127.0.0.1", 0, routes=RouteTable.compile([], chain(pushed.a)), inspect_tls=False)
    for number in (pushed.gateway.listener, heir):
        pushed.engine.stop_accepting(number)
    pushed.engine.leave(pushed.gateway.listener, heir)
    # The heir has nobody, and goes at once: its routes are not read any more.
    assert pushed.engine.forget(heir) is not None
    pushed.engine.review(AT_ONCE)
    pushed.ended(Reason.CHAIN_CHANGED)
    assert pushed.gateway.end_of(kept) == "FIN"


# ---- as Envoy does


def test_all_of_a_changed_chain_end_where_that_is_asked_for(pushed: Pushed) -> None:
    every = ReviewSettings(drain_ms=0, cuts_changed=True)
    pushed.push(chain(pushed.a, number=1), by=every)
    kept = pushed.open()
    port = kept.getpeername()[1]
    pushed.push(chain(pushed.b, destination_port=port, number=2), chain(pushed.a, number=1), by=every)
    assert pushed.is_open(kept)
    pushed.push(chain(pushed.a, number=3), by=every)
    pushed.ended(Reason.CHAIN_CHANGED)
    assert pushed.gateway.end_of(kept) == "FIN"


def test_there_what_drains_does_not_come_back(pushed: Pushed) -> None:
    every = ReviewSettings(drain_ms=200, cuts_changed=True)
    pushed.push(chain(pushed.a, number=1), by=every)
    kept = pushed.open()
    pushed.push(chain(pushed.a, number=2), by=every)
    assert pushed.is_open(kept)
    pushed.push(chain(pushed.a, number=1), by=every)
    pushed.ended(Reason.CHAIN_CHANGED)
    assert pushed.gateway.end_of(kept) == "FIN"


# ---- edges


@pytest.mark.parametrize("drain_ms", [-1, 1 << 63])
def test_a_time_that_is_none_is_refused(pushed: Pushed, drain_ms: int) -> None:
    with pytest.raises(ValueError, match="drain_ms"):
        pushed.engine.review(ReviewSettings(drain_ms=drain_ms))


@pytest.mark.parametrize("moved", [(0, b"abc", 80), (0, bytes(4), 65536)])
def test_an_address_that_is_none_is_refused(pushed: Pushed, moved: tuple[int, bytes, int]) -> None:
    with pytest.raises(ValueError, match="no address"):
        pushed.engine.review(ReviewSettings(drain_ms=0, moved=(moved,)))


def test_only_an_engine_makes_moves() -> None:
    with pytest.raises(TypeError, match="an Engine makes"):
        Moves()


def test_servers_that_echo_alone_are_judged_as_others(workers: int, tmp_path: Path) -> None:
    """Through a client's TLS that is passed on: what is relayed does not matter."""
    with closing(Server(tmp_path)) as server, closing(Gateway(server.address, workers=workers)) as gateway:
        hello = client_hello()
        with gateway.connect(hello) as kept:
            assert gateway.receive(kept, len(hello)) == hello
            gateway.engine.publish_routes(gateway.listener, gateway.route_to(gateway.slots.acquire("b")))
            gateway.engine.review(AT_ONCE)
            gateway.until(lambda: gateway.refused(Reason.CHAIN_CHANGED) == 1)
            assert gateway.end_of(kept) == "FIN"
