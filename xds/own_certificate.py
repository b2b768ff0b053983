"""A certificate of our own from istiod, without pilot-agent: key made here, signing request there, renewal in time.

istio.v1.auth.IstioCertificateService on istiod's secure port, with our token, which is read anew for each request. The
key does not leave this process. A certificate is renewed at half of its life; one that cannot be renewed serves on.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from grpc import aio

from .backoff import Backoff
from .certificate_request import CREATE, CertificateRequest, read_response
from .channel import ChannelFactory
from .errors import XdsError
from .local_secrets import CERTIFICATE, ROOTS, apply, certificate_secret, roots_secret
from .log import Log
from .sds import SdsStatistics
from .secret_store import SecretSnapshot, SecretStore
from .tls_records import SecretRef

REQUEST_S = 20.0
# What pilot-agent asks for: a day. istiod gives what it likes.
VALIDITY_S = 86_400
RENEW_AT, JITTER = 0.5, 0.05
# The wall clock is looked at so often: it may jump, and a machine may sleep.
LOOK_S = 30.0
LONGEST_RETRY_S = 60.0

_log = Log("xds")


class OwnCertificate:
    """Keeps the secrets of one source in `store`: our certificate, and what its issuer says is to be trusted.

    ``source``: what clusters and listeners call it; ``addresses``: istiod's, asked in turn while one fails;
    ``name``: our SPIFFE id; ``roots``: further roots, PEM, read at each renewal. Made and run on one event loop.
    """

    def __init__(
        self,
        source: str,
        addresses: Sequence[str],
        name: str,
        store: SecretStore,
        *,
        open_channel: ChannelFactory,
        metadata: Callable[[str], Sequence[tuple[str, str]]],
        roots: Callable[[], bytes] = bytes,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        rng: random.Random | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.source = source
        self.statistics = SdsStatistics()
        self._addresses = tuple(addresses)
        self._name = name
        self._store = store
        self._open_channel = open_channel
        self._metadata = metadata
        self._roots = roots
        self._now = now
        self._rng = rng or random.Random()
        self._sleep = sleep
        self._wanted = asyncio.Event()
        self._held: dict[str, bytes] = {}
        self._version = 0
        self._task: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Get a certificate as soon as one is wanted, and renew it, until close() is called or the caller cancels."""
        forget = self._store.on_change(self._noted)
        self._task = asyncio.ensure_future(self._follow())
        try:
            await asyncio.wait([self._task])
            if not self._task.cancelled():
                self._task.result()
        finally:
            forget()
            self._task.cancel()
            self._held.clear()

    def close(self) -> None:
        """run() returns. A second call does nothing."""
        if self._task is not None:
            self._task.cancel()

    def awaits(self, name: str) -> bool:
        """Whether it is this source that brings a secret of this name, if late."""
        return name in (CERTIFICATE, ROOTS)

    def _noted(self, snapshot: SecretSnapshot) -> None:
        missing = [ref.name for ref in snapshot.missing if ref.source == self.source]
        if missing:
            self._wanted.set()
        # Wanted only now, and here already.
        held = {name: self._held[name] for name in missing if name in self._held}
        if held:
            apply(self._store, self.source, str(self._version), held)

    async def _follow(self) -> None:
        if not self._store.wanted(self.source):
            await self._wanted.wait()
        backoff = Backoff(self._rng, longest_s=LONGEST_RETRY_S)
        attempt = 0
        while True:
            address = self._addresses[attempt % len(self._addresses)]
            reason = await self._ask(address)
            self.statistics.update_attempt += 1
            if reason:
                attempt += 1
                self._failed(address, reason)
                await self._sleep(backoff.next_delay_s())
                continue
            backoff.reset()
            self.statistics.update_success += 1
            self.statistics.connected = 1
            self.statistics.errors.clear()
            await self._until_half_of_life()

    async def _ask(self, address: str) -> str:
        """Get a certificate and put it into the store; return why that failed, empty when it did not."""
        try:
            key, request = await asyncio.to_thread(_key_and_request, self._name)
            channel = self._open_channel(address)
        except (OSError, ValueError, XdsError) as error:
            return str(error)
        try:
            # The token is read here, once for each request: Kubernetes rotates it in place.
            metadata: Any = tuple(self._metadata(address))
            call = channel.unary_unary(CREATE)(
                bytes(CertificateRequest(request, VALIDITY_S)), metadata=metadata, timeout=REQUEST_S
            )
            chain = read_response(await call)
            return self._accept(chain, key)
        except aio.AioRpcError as error:
            return f"{error.code().name} {error.details() or ''}".strip()
        except (OSError, XdsError) as error:
            return str(error)
        finally:
            await channel.close(None)

    def _accept(self, chain: Sequence[str], key: bytes) -> str:
        if len(chain) < 2:
            return f"its answer holds {len(chain)} certificates: our own and the root are needed"
        parts = [one.encode() + b"\n" * (not one.endswith("\n")) for one in chain]
        self._held = {
            # The root is sent too where it is all there is beside the leaf, as pilot-agent does.
            CERTIFICATE: certificate_secret(b"".join(parts), key),
            ROOTS: roots_secret(parts[-1], self._roots()),
        }
        self._version += 1
        rejected = apply(self._store, self.source, str(self._version), self._held)
        if rejected:
            self.statistics.update_rejected += 1
        return "; ".join(f"{one.name}: {one.reason}" for one in rejected)

    async def _until_half_of_life(self) -> None:
        secret = self._store.snapshot.secrets.get(SecretRef(CERTIFICATE, self.source))
        if secret is None or not secret.certificates:
            # Nobody wants the certificate itself; roots alone do not end by the clock.
            await self._sleep(VALIDITY_S * RENEW_AT)
            return
        own = secret.certificates[0]
        begin = max(own.not_before, secret.updated)
        life = own.not_after - begin
        renew = begin + life * (RENEW_AT + self._rng.uniform(-JITTER, JITTER))
        _log.info("certificate_issued", name=self._name, until=own.not_after.isoformat(), renewal=renew.isoformat())
        while (left := (renew - self._now()).total_seconds()) > 0:
            await self._sleep(min(left, LOOK_S))

    def _failed(self, address: str, reason: str) -> None:
        self.statistics.update_failure += 1
        self.statistics.connected = 0
        if self.statistics.errors.get(CERTIFICATE) != reason:
            self.statistics.errors[CERTIFICATE] = reason
            _log.warning("certificate_refused", source=self.source, address=address, name=self._name, reason=reason)


def _key_and_request(name: str) -> tuple[bytes, str]:
    """A new key and the signing request for it, PEM both. Raises ValueError without the package cryptography."""
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
    except ImportError:
        raise ValueError(
            "certificates are asked for by the package cryptography: pip install 'eastgate[tls]'"
        ) from None

    key = ec.generate_private_key(ec.SECP256R1())
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(name)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).add_extension(names, critical=True)
    request = builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), request
