"""A certificate from a CA without pilot-agent: from the embedded control plane, by a clock that the test moves."""

import asyncio
import random
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime, timedelta

import grpc
import pytest
from eastgate.mesh.ca import MeshCa
from eastgate.mesh.certificate_service import CertificateService
from eastgate.mesh.tokens import Caller, Tokens
from eastgate.xds.channel import without_pings
from eastgate.xds.local_secrets import CERTIFICATE, ROOTS
from eastgate.xds.own_certificate import OwnCertificate
from eastgate.xds.secret_store import SecretStore
from eastgate.xds.tls_records import SecretRef
from grpc import aio

from ..support.secrets import keyed

SOURCE = "cluster:sds-grpc"
NAME = "spiffe://cluster.local/ns/shop/sa/web"
CA = MeshCa()
WANTED = [SecretRef(CERTIFICATE, SOURCE), SecretRef(ROOTS, SOURCE)]


class Clock:
    """A wall clock that stands still but for sleeps, which end when the test releases `gate`."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)
        self.slept: list[float] = []
        self.gate = asyncio.Semaphore(0)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await self.gate.acquire()
        self.now += timedelta(seconds=seconds)


@pytest.fixture
async def ca() -> AsyncIterator[tuple[str, Tokens]]:
    tokens = Tokens()
    server = aio.server()
    server.add_generic_rpc_handlers((CertificateService(CA, tokens, longest=timedelta(hours=1)).handler(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield f"127.0.0.1:{port}", tokens
    await server.stop(0)


class Asking:
    """A client under test, its store and its clock. ``tokens``: what is sent, one after the other; the last stays."""

    def __init__(self, addresses: Sequence[str], tokens: Sequence[str], roots: bytes = b"") -> None:
        self.store = SecretStore()
        self.clock = Clock()
        self.sent: list[str] = []
        self._tokens = list(tokens)
        self.client = OwnCertificate(
            SOURCE,
            addresses,
            NAME,
            self.store,
            open_channel=without_pings,
            metadata=self._metadata,
            roots=lambda: roots,
            now=lambda: self.clock.now,
            rng=random.Random(1),
            sleep=self.clock.sleep,
        )
        self.task = asyncio.ensure_future(self.client.run())

    def _metadata(self, address: str) -> list[tuple[str, str]]:
        self.sent.append(address)
        token = self._tokens.pop(0) if len(self._tokens) > 1 else self._tokens[0]
        return [("clusterid", "a"), ("authorization", f"Bearer {token}")]

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(20):
            while not condition():  # noqa: ASYNC110 - it changes on this loop and tells nobody
                await asyncio.sleep(0.01)

    async def end(self) -> None:
        self.client.close()
        await self.task

    @property
    def serial(self) -> str:
        secret = self.store.snapshot.secrets.get(WANTED[0])
        return secret.certificates[0].serial if secret else ""


async def test_it_asks_once_somebody_wants_it_and_renews_at_half_of_its_life(ca: tuple[str, Tokens]) -> None:
    address, tokens = ca
    extra = keyed("more").certificate
    asking = Asking([address], [tokens.issue(Caller("shop", "web"))], extra)
    await asyncio.sleep(0)
    assert asking.sent == []
    asking.store.want(WANTED)
    await asking.until(lambda: asking.clock.slept)
    first = asking.serial
    own, roots = (asking.store.snapshot.secrets[ref] for ref in WANTED)
    assert ("uri", NAME) in own.certificates[0].names
    # The root of the answer, and that of the file.
    assert len(roots.certificates) == 2
    # In slices, so that a clock that jumps is noticed: half of an hour, give or take a twentieth.
    renewed_after_s = 0.0
    while asking.serial == first:
        renewed_after_s += asking.clock.slept[-1]
        count = len(asking.clock.slept)
        asking.clock.gate.release()
        await asking.until(lambda count=count: len(asking.clock.slept) > count)
    assert 0.44 * 3600 < renewed_after_s < 0.57 * 3600
    assert len(asking.sent) == 2
    assert asking.client.statistics.update_success == 2
    await asking.end()


async def test_the_token_is_read_anew_and_a_refusal_is_tried_again(ca: tuple[str, Tokens]) -> None:
    address, tokens = ca
    asking = Asking([address], ["stale", tokens.issue(Caller("shop", "web"))])
    asking.store.want(WANTED)
    await asking.until(lambda: asking.clock.slept)
    assert asking.client.statistics.errors == {CERTIFICATE: "UNAUTHENTICATED the token was not issued here"}
    assert asking.serial == ""
    asking.clock.gate.release()
    await asking.until(lambda: asking.serial)
    assert asking.client.statistics.errors == {}
    await asking.end()


async def test_another_address_is_asked_while_one_is_gone(ca: tuple[str, Tokens]) -> None:
    address, tokens = ca
    asking = Asking(["127.0.0.1:1", address], [tokens.issue(Caller("shop", "web"))])
    asking.store.want(WANTED)
    await asking.until(lambda: asking.clock.slept)
    assert asking.client.statistics.errors[CERTIFICATE].startswith("UNAVAILABLE")
    asking.clock.gate.release()
    await asking.until(lambda: asking.serial)
    assert asking.sent == ["127.0.0.1:1", address]
    await asking.end()


async def test_what_is_wanted_later_is_there_already(ca: tuple[str, Tokens]) -> None:
    address, tokens = ca
    asking = Asking([address], [tokens.issue(Caller("shop", "web"))])
    asking.store.want(WANTED[:1])
    await asking.until(lambda: asking.serial)
    assert WANTED[1] not in asking.store.snapshot.secrets
    asking.store.want(WANTED)
    assert WANTED[1] in asking.store.snapshot.secrets
    assert len(asking.sent) == 1
    await asking.end()


async def test_an_answer_that_is_no_chain_changes_nothing() -> None:
    async def one_certificate(_: bytes, __: object) -> bytes:
        return b"\x0a\x04none"

    server = aio.server()
    handler = grpc.unary_unary_rpc_method_handler(one_certificate)
    service = "istio.v1.auth.IstioCertificateService"
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {"CreateCertificate": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    asking = Asking([f"127.0.0.1:{port}"], ["t"])
    asking.store.want(WANTED)
    await asking.until(lambda: asking.clock.slept)
    assert asking.client.statistics.errors[CERTIFICATE].startswith("its answer holds 1 certificates")
    assert not asking.store.snapshot.secrets
    await asking.end()
    await server.stop(0)


async def test_without_the_package_the_reason_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography", None)
    asking = Asking(["127.0.0.1:1"], ["token"])
    asking.store.want(WANTED)
    await asking.until(lambda: asking.client.statistics.errors)
    assert asking.client.statistics.errors[CERTIFICATE].endswith("cryptography: pip install 'eastgate[tls]'")
    await asking.end()
