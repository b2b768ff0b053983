"""What a server keeps of its clients is bounded (ADR 11): the newest 2,048 sessions, whoever they are of."""

import socket
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from eastgate.fastpath.loop.tls_socket import Tickets
from eastgate.fastpath.tls.context import Context
from eastgate.fastpath.tls.failure import TlsFailure

from tests.support.authority import Authority
from tests.support.tls_pair import Ours, Pair

from ..loop.test_tls_session import CLIENT, SERVER, again, client_spec, resumed, server_spec

KEPT, MORE = 2048, 40
# A session ends with the first certificate of the chain, and those that end first go first: these live longer.
DAY = timedelta(days=1)
ROOT = Authority("of a day", ends=DAY)
# Of a new client 12 kB, most of it its certificate and the intermediates that it shows.
GROWS_BY = 12_000


def built_server() -> Context:
    return Context.build(server_spec(ROOT.issue(SERVER, ends=DAY), roots=ROOT.pem))


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_the_oldest_go_and_whoever_comes_is_served(version: str) -> None:
    server = built_server()
    identity = ROOT.issue(CLIENT, ends=DAY)
    client = Context.build(client_spec(identity, roots=ROOT.pem, minimum_version=version, maximum_version=version))
    tickets = [Tickets() for _ in range(KEPT + MORE)]
    for one in tickets:
        assert resumed(again(client, server, one)) == (False, False)
    # The newest, and the oldest that is kept; each makes a session that another one goes for.
    assert resumed(again(client, server, tickets[-1])) == (True, True)
    assert resumed(again(client, server, tickets[MORE + 2])) == (True, True)
    for one in (tickets[0], tickets[MORE - 1]):
        # Whom it no longer knows is asked for everything, carries its bytes, and is known from then on.
        assert resumed(again(client, server, one)) == (False, False)
        assert resumed(again(client, server, one)) == (True, True)


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def shaken(server: Context, count: int) -> None:
    """So many handshakes, each of a client with a certificate of its own, which is not kept here."""
    key = ec.generate_private_key(ec.SECP256R1())
    for _ in range(count):
        left, right = socket.socketpair()
        with left, right:
            identity = ROOT.issue(CLIENT, ends=DAY, key=key)
            client = Context.build(client_spec(identity, roots=ROOT.pem, maximum_version="1.2"))
            pair = Pair(Ours(left, client), Ours(right, server)).shake()
            assert isinstance(pair.server, Ours)
            assert (pair.server.tls.failure, pair.server.tls.peer_identity) == (TlsFailure.TLS_FINE, CLIENT)


def test_memory_ends_to_grow_with_the_last_that_is_kept() -> None:
    server = built_server()
    shaken(server, KEPT)
    before = resident_bytes()
    shaken(server, KEPT // 2)
    grown = resident_bytes() - before
    assert grown < KEPT // 2 * GROWS_BY / 4, f"{grown} bytes more for {KEPT // 2} more clients"
