"""Whom a chain's policies let in, through an engine: asked after the handshake, before anything is connected."""

import ssl
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import pytest
from eastgate.fastpath.loop.review import ReviewSettings
from eastgate.fastpath.match.chains import ChainSpec
from eastgate.fastpath.match.policy import PolicySet
from eastgate.fastpath.match.route_table import RouteTable
from eastgate.fastpath.reason import Reason
from eastgate.fastpath.tls.context import Context
from eastgate.xds.cidr import CidrRange
from eastgate.xds.rbac import Policy, Predicate, RbacFilter, Rules, TextMatch

from ..driven_engine import SERVICE, Gateway, client_hello, with_workers
from .test_handshakes import sealed_exchange
from .tls_ends import CLIENT, ROOT, Server, client_context, terminating

pytestmark = with_workers(0, 1)

ANY = Predicate("any")
ALLOWED, DENIED, SHADOW_ALLOWED, SHADOW_DENIED, LOGGED = range(5)


def named(text: str, kind: str = "exact") -> Predicate:
    return Predicate("authenticated", match=TextMatch(kind, text))


def rules(action: str, *principals: Predicate, permission: Predicate = ANY) -> Rules:
    policies = tuple(Policy(f"ns[x]-policy[p{number}]", (permission,), (one,)) for number, one in enumerate(principals))
    return Rules(action, policies)


def compiled(*each: Rules) -> PolicySet:
    return PolicySet.compile([RbacFilter(one) for one in each])


@pytest.fixture
def endpoint(tmp_path: Path) -> Iterator[Server]:
    with closing(Server(tmp_path)) as server:
        yield server


@contextmanager
def guarded(
    workers: int, endpoint: Server, policies: PolicySet, tls: Context | None = None, **listen: object
) -> Iterator[Gateway]:
    gateway = Gateway(endpoint.address, workers=workers, **listen)
    try:
        gateway.engine.publish_routes(gateway.listener, routes(gateway, policies, tls))
        yield gateway
        gateway.until(lambda: gateway.engine.active_connections() == 0)
        assert gateway.slots.counters(gateway.slot).cx_active == 0
    finally:
        gateway.engine.close()


def routes(gateway: Gateway, policies: PolicySet | None, tls: Context | None = None) -> RouteTable:
    """SERVICE by its name, everything else too."""
    chains = [
        ChainSpec(name=name, server_names=names, targets=((gateway.slot, 1),), tls=tls, policies=policies)
        for name, names in (("service", (SERVICE,)), ("any", ()))
    ]
    return RouteTable.compile(chains)


def verdicts(gateway: Gateway) -> tuple[int, ...]:
    return gateway.engine.listener_counters(gateway.listener).rbac


def answered(gateway: Gateway, folder: Path, *more: str) -> bytes:
    """To a client with these names beside its own."""
    with suppress(ssl.SSLError, ConnectionError):
        return sealed_exchange(gateway, client_context(folder, ROOT.issue(CLIENT, *more)), b"ping")
    return b""


NAMED = {
    "exact": named(CLIENT),
    "prefix": named("spiffe://cluster.local/ns/a/", "prefix"),
    "suffix": named("/sa/client", "suffix"),
    "expression": named(".*/ns/a/sa/cli.*", "regex"),
    "any certificate": Predicate("authenticated"),
}


@pytest.mark.parametrize("principal", NAMED)
def test_the_clients_certificate_decides(workers: int, endpoint: Server, tmp_path: Path, principal: str) -> None:
    with guarded(workers, endpoint, compiled(rules("ALLOW", NAMED[principal])), terminating()) as gateway:
        assert answered(gateway, tmp_path) == b"ping"
        assert verdicts(gateway) == (1, 0, 0, 0, 0)
    with guarded(workers, endpoint, compiled(rules("DENY", NAMED[principal])), terminating()) as gateway:
        assert answered(gateway, tmp_path) == b""
        gateway.until(lambda: gateway.refused(Reason.POLICY) == 1)
        assert verdicts(gateway) == (0, 1, 0, 0, 0)
        (event,) = gateway.events
        assert (event.policy, event.policy_unknown, event.server_name) == ("ns[x]-policy[p0]", False, SERVICE)
        # Nothing was connected for it.
        assert (event.upstream, gateway.slots.counters(gateway.slot).cx_total) == ("", 0)


@pytest.mark.parametrize("name", ["client.example", "O=test"])
def test_every_name_of_a_certificate_may_be_denied(workers: int, endpoint: Server, tmp_path: Path, name: str) -> None:
    with guarded(workers, endpoint, compiled(rules("DENY", named(name))), terminating()) as gateway:
        assert answered(gateway, tmp_path, "client.example") == b""
        gateway.until(lambda: gateway.refused(Reason.POLICY) == 1)
        assert gateway.events[0].policy_unknown is False


@pytest.mark.parametrize("action", ["ALLOW", "DENY"])
def test_more_names_than_are_read_are_not_known(workers: int, endpoint: Server, tmp_path: Path, action: str) -> None:
    # 2,048 bytes together; an ALLOW for the first of them does not act either.
    many = [f"{number}{'x' * 60}.example" for number in range(40)]
    with guarded(workers, endpoint, compiled(rules(action, named(CLIENT))), terminating()) as gateway:
        assert answered(gateway, tmp_path, *many) == b""
        gateway.until(lambda: gateway.refused(Reason.POLICY) == 1)
        assert gateway.events[0].policy_unknown is True


def test_a_resumed_session_is_judged_by_its_certificate(workers: int, endpoint: Server, tmp_path: Path) -> None:
    context = client_context(tmp_path, ROOT.issue(CLIENT))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with guarded(workers, endpoint, compiled(rules("ALLOW", named(CLIENT))), terminating()) as gateway:
        for _ in range(2):
            assert sealed_exchange(gateway, context, b"ping") == b"ping"
        gateway.until(lambda: gateway.engine.active_connections() == 0)
        denying = routes(gateway, compiled(rules("DENY", named(CLIENT))), terminating())
        gateway.engine.publish_routes(gateway.listener, denying)
        with pytest.raises((ssl.SSLError, ConnectionError, AssertionError)):
            assert sealed_exchange(gateway, context, b"ping") == b"ping"


def test_a_policy_that_changes_holds_for_whoever_is_connected_too(workers: int, endpoint: Server) -> None:
    local = Predicate("direct_remote_ip", range=CidrRange(bytes((127, 0, 0, 0)), 8))
    with (
        guarded(workers, endpoint, compiled(rules("ALLOW", local)), inspect_tls=False) as gateway,
        gateway.connect(b"ping") as earlier,
    ):
        assert gateway.receive(earlier, 4) == b"ping"
        gateway.engine.publish_routes(gateway.listener, routes(gateway, compiled(rules("DENY", local))))
        with gateway.connect(b"ping") as later:
            assert gateway.end_of(later) in ("FIN", "RST")
        earlier.sendall(b"pong")
        assert gateway.receive(earlier, 4) == b"pong"
        gateway.engine.review(ReviewSettings(drain_ms=100))
        assert gateway.end_of(earlier) == "FIN"
        assert (gateway.refused(Reason.POLICY), gateway.refused(Reason.POLICY_CHANGED)) == (1, 1)


def test_without_a_certificate_nobody_has_a_name(workers: int, endpoint: Server) -> None:
    # False, not unknown: DENY lets it pass, ALLOW does not.
    for action, passes in (("DENY", True), ("ALLOW", False)):
        with (
            guarded(workers, endpoint, compiled(rules(action, named(CLIENT))), inspect_tls=False) as gateway,
            gateway.connect(b"ping") as peer,
        ):
            if passes:
                assert gateway.receive(peer, 4) == b"ping"
            else:
                gateway.until(lambda: gateway.refused(Reason.POLICY) == 1)
                assert [(one.policy, one.policy_unknown) for one in gateway.events] == [("none", False)]


def test_what_is_not_known_lets_nobody_in(workers: int, endpoint: Server) -> None:
    unknown = Predicate("unknown", what="url_path")
    for action in ("DENY", "ALLOW"):
        with (
            guarded(workers, endpoint, compiled(rules(action, ANY, permission=unknown)), inspect_tls=False) as gateway,
            gateway.connect(b"ping") as peer,
        ):
            assert gateway.end_of(peer) in ("FIN", "RST")
            gateway.until(lambda: gateway.events)
            assert gateway.events[0].policy_unknown
            assert gateway.events[0].policy == ("ns[x]-policy[p0]" if action == "DENY" else "none")


def test_all_filters_have_to_pass(workers: int, endpoint: Server) -> None:
    local = Predicate("direct_remote_ip", range=CidrRange(bytes((127, 0, 0, 0)), 8))
    nobody = Predicate("not", parts=(ANY,))
    with (
        guarded(
            workers, endpoint, compiled(rules("ALLOW", local), rules("DENY", nobody)), inspect_tls=False
        ) as gateway,
        gateway.connect(b"ping") as peer,
    ):
        assert gateway.receive(peer, 4) == b"ping"
    with (
        guarded(workers, endpoint, compiled(rules("ALLOW", local), rules("ALLOW")), inspect_tls=False) as gateway,
        gateway.connect(b"ping") as peer,
    ):
        # Rules without policies let nobody in.
        gateway.until(lambda: gateway.refused(Reason.POLICY) == 1)
        assert gateway.end_of(peer) in ("FIN", "RST")


def test_ports_and_names_of_the_connection(workers: int, endpoint: Server) -> None:
    name = Predicate("server_name", match=TextMatch("exact", SERVICE))
    with ExitStack() as stack:
        gateway = stack.enter_context(guarded(workers, endpoint, compiled(rules("ALLOW", ANY, permission=name))))
        hello = client_hello()
        peer = stack.enter_context(gateway.connect(hello))
        assert gateway.receive(peer, len(hello)) == hello
        other = stack.enter_context(gateway.connect(client_hello("other.example")))
        assert gateway.end_of(other) == "RST"
        assert gateway.refused(Reason.POLICY) == 1
    port = Predicate("destination_port", first=1, end=2)
    with (
        guarded(workers, endpoint, compiled(rules("ALLOW", ANY, permission=port)), inspect_tls=False) as gateway,
        gateway.connect(b"ping") as peer,
    ):
        gateway.until(lambda: gateway.refused(Reason.POLICY) == 1)


def test_shadow_and_log_rules_are_counted_and_deny_nobody(workers: int, endpoint: Server) -> None:
    filters = [
        RbacFilter(None, rules("DENY", ANY)),
        RbacFilter(None, rules("ALLOW", ANY)),
        RbacFilter(rules("LOG", ANY)),
    ]
    with (
        guarded(workers, endpoint, PolicySet.compile(filters), inspect_tls=False) as gateway,
        gateway.connect(b"ping") as peer,
    ):
        assert gateway.receive(peer, 4) == b"ping"
        assert verdicts(gateway) == (1, 0, 1, 1, 1)


def test_policies_outlive_their_table_until_they_were_asked(workers: int, endpoint: Server, tmp_path: Path) -> None:
    """A handshake takes a while; routes are replaced meanwhile."""
    with guarded(workers, endpoint, compiled(rules("DENY", named(CLIENT))), terminating()) as gateway:
        context = client_context(tmp_path, ROOT.issue(CLIENT))
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = context.wrap_bio(incoming, outgoing, server_hostname=SERVICE)
        with suppress(ssl.SSLWantReadError):
            client.do_handshake()
        with gateway.connect(outgoing.read()) as peer:
            flight = bytearray()

            def grew() -> bool:
                with suppress(BlockingIOError):
                    flight.extend(peer.recv(65536))
                return len(flight) > 500

            gateway.until(grew)
            for _ in range(3):
                gateway.engine.publish_routes(gateway.listener, routes(gateway, None))
                gateway.turn()

            def done() -> bool:
                with suppress(BlockingIOError):
                    flight.extend(peer.recv(65536))
                incoming.write(bytes(flight))
                flight.clear()
                with suppress(ssl.SSLWantReadError):
                    client.do_handshake()
                    return True
                return False

            gateway.until(done)
            peer.sendall(outgoing.read())
            gateway.until(lambda: gateway.refused(Reason.POLICY) == 1)
            assert gateway.events[-1].policy == "ns[x]-policy[p0]"
