"""What tests of TLS in an engine begin with: contexts of ours, a server behind it, a gateway that ends or begins it."""

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from eastgate.fastpath.tls.context import Context
from eastgate.fastpath.tls.context_spec import ContextSpec
from eastgate.xds.tls_records import NameMatch

from ...support.accepting import Accepting
from ...support.authority import Authority, Identity
from ..driven_engine import SERVICE, Gateway

ROOT, OTHER = Authority("root"), Authority("other")
SERVER, CLIENT = "spiffe://cluster.local/ns/a/sa/server", "spiffe://cluster.local/ns/a/sa/client"


def end_of(name: str, *, is_server: bool, **fields: Any) -> Context:
    """An end that is `name` by ROOT, which it trusts."""
    identity = ROOT.issue(name)
    own = {"chain": identity.chain, "private_key": identity.key, "roots": ROOT.pem}
    return Context.build(ContextSpec(is_server=is_server, **{**own, **fields}))


def terminating(**changes: Any) -> Context:
    names = (NameMatch("prefix", "spiffe://cluster.local/", "URI"),)
    return end_of(SERVER, is_server=True, **{"requires_certificate": True, "names": names, **changes})


def originating(**changes: Any) -> Context:
    names = (NameMatch("exact", SERVER, "URI"),)
    fields = {"names": names, "protocols": ("istio",), "server_name": SERVICE, **changes}
    return end_of(CLIENT, is_server=False, **fields)


def end_tls(gateway: Gateway, **chain: object) -> None:
    """The gateway ends the TLS of whoever comes now, and asks for no certificate."""
    routes = gateway.route_to(gateway.slot, tls=terminating(requires_certificate=False), **chain)
    gateway.engine.publish_routes(gateway.listener, routes)


def loaded(context: ssl.SSLContext, identity: Identity, folder: Path) -> ssl.SSLContext:
    (folder / "pem").write_bytes(identity.key + identity.chain)
    context.load_cert_chain(folder / "pem")
    return context


def client_context(folder: Path, identity: Identity | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cadata=ROOT.pem.decode())
    context.set_alpn_protocols(["istio"])
    return context if identity is None else loaded(context, identity, folder)


class Server(Accepting):
    """Echoes up to the client's end, then ends; plain, or TLS with a client certificate demanded."""

    def __init__(self, folder: Path, identity: Identity | None = None) -> None:
        self.resumed: list[bool] = []
        self.received: list[int] = []
        self._context: ssl.SSLContext | None = None
        if identity is not None:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.verify_mode = ssl.CERT_REQUIRED
            self._context.load_verify_locations(cadata=ROOT.pem.decode())
            loaded(self._context, identity, folder)
        super().__init__()

    def _serve(self, accepted: socket.socket) -> None:
        with accepted, suppress(OSError):
            if self._context is None:
                self._echo(accepted)
                return
            with self._context.wrap_socket(accepted, server_side=True) as tls:
                self.resumed.append(bool(tls.session_reused))
                self._echo(tls)

    def _echo(self, accepted: socket.socket) -> None:
        total = 0
        while data := accepted.recv(65536):
            total += len(data)
            accepted.sendall(data)
        self.received.append(total)


@contextmanager
def running(
    workers: int, *endpoints: tuple[str, int], down: Context | None = None, up: Context | None = None
) -> Iterator[Gateway]:
    gateway = Gateway(*endpoints, workers=workers)
    try:
        gateway.slots.publish(gateway.slot, gateway.table, mesh_tls=up, mesh=b"\1" * len(endpoints))
        gateway.engine.publish_routes(gateway.listener, gateway.route_to(gateway.slot, tls=down))
        yield gateway
        gateway.until(lambda: gateway.engine.active_connections() == 0)
        counters = gateway.slots.counters(gateway.slot)
        assert (counters.cx_active, counters.pending_active) == (0, 0)
        assert sum(counters.ended) == counters.cx_total
    finally:
        gateway.engine.close()
