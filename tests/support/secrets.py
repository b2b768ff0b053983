"""Secrets as SDS servers send them, made of throw-away certificates; and pilot-agent's SDS server in small."""

import asyncio
import itertools
import threading
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from envoy_data_plane.envoy.config.core.v3 import DataSource
from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import (
    CertificateValidationContext,
    Secret,
    TlsCertificate,
)
from envoy_data_plane.envoy.service.discovery.v3 import DiscoveryRequest, DiscoveryResponse
from envoy_data_plane.google.protobuf import Any as PackedAny
from grpc import aio

from .recordings import SDS

SPIFFE = "spiffe://cluster.local/ns/sleep/sa/sleep"
DEADLINE_S = 20.0


@dataclass(frozen=True, slots=True)
class Keyed:
    """A certificate as PEM with its key."""

    certificate: bytes
    key: bytes


def keyed(
    *names: str, days: float = 90.0, begin_days: float = -1.0, serial: int | None = None, now: datetime | None = None
) -> Keyed:
    """A self-signed certificate with these URIs or host names."""
    now = now or datetime.now(UTC)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "test")])
    builder = x509.CertificateBuilder(
        issuer_name=subject,
        subject_name=subject,
        public_key=key.public_key(),
        serial_number=serial or x509.random_serial_number(),
        not_valid_before=now + timedelta(days=begin_days),
        not_valid_after=now + timedelta(days=days),
    )
    alternative = [x509.UniformResourceIdentifier(name) if ":" in name else x509.DNSName(name) for name in names]
    if alternative:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternative), critical=False)
    pem = serialization.Encoding.PEM
    return Keyed(
        builder.sign(key, hashes.SHA256()).public_bytes(pem),
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )


def tls_secret(name: str, pair: Keyed, *, key: bytes | None = None) -> bytes:
    """A Secret with a certificate and its key, inline in bytes as pilot-agent writes it."""
    certificate = TlsCertificate(
        certificate_chain=DataSource(inline_bytes=pair.certificate),
        private_key=DataSource(inline_bytes=pair.key if key is None else key),
    )
    return bytes(Secret(name=name, tls_certificate=certificate))


def ca_secret(name: str, *certificates: bytes) -> bytes:
    """A Secret with what to trust."""
    trusted = CertificateValidationContext(trusted_ca=DataSource(inline_bytes=b"".join(certificates)))
    return bytes(Secret(name=name, validation_context=trusted))


def packed(secret: bytes) -> bytes:
    return bytes(PackedAny(type_url=SDS, value=secret))


class AgentSds:
    """SDS on a Unix socket, by pilot-agent's rules: one name a stream; a name that it does not have ends the stream."""

    def __init__(self, path: str, secrets: dict[str, bytes]) -> None:
        self.path = path
        self.secrets = secrets
        self.requests: list[DiscoveryRequest] = []
        self.nacks: list[str] = []
        self.acked: dict[str, str] = {}
        """Newest version that was acknowledged, by name"""
        self._streams: dict[asyncio.Queue[bytes | None], str] = {}
        self._versions = itertools.count(1)
        self._server: aio.Server | None = None

    @property
    def connected(self) -> list[str]:
        return sorted(self._streams.values())

    async def start(self) -> None:
        self._server = aio.server()
        handlers = {"StreamSecrets": grpc.stream_stream_rpc_method_handler(self._serve)}
        service = "envoy.service.secret.v3.SecretDiscoveryService"
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
        self._server.add_insecure_port(f"unix:{self.path}")
        await self._server.start()

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(0)
            self._server = None

    def push_raw(self, name: str, response: bytes) -> None:
        """Put these bytes on the streams of this name in the place of a response."""
        for queue, asked in self._streams.items():
            if asked == name:
                queue.put_nowait(response)

    def rotate(self, name: str, secret: bytes) -> None:
        """Push another version on the open streams of this name."""
        self.secrets[name] = secret
        for queue, asked in self._streams.items():
            if asked == name:
                self._send(queue, name)

    def drop(self, name: str) -> None:
        """End the streams of this name."""
        for queue, asked in self._streams.items():
            if asked == name:
                queue.put_nowait(None)

    def _send(self, queue: "asyncio.Queue[bytes | None]", name: str) -> None:
        version = f"v{next(self._versions)}"
        resource = PackedAny(type_url=SDS, value=self.secrets[name])
        response = DiscoveryResponse(version_info=version, resources=[resource], type_url=SDS, nonce=f"n-{version}")
        queue.put_nowait(bytes(response))

    async def _serve(
        self, requests: AsyncIterator[bytes], context: "aio.ServicerContext[bytes, bytes]"
    ) -> AsyncIterator[bytes]:
        queue: asyncio.Queue[bytes | None] = asyncio.Queue()

        async def receive() -> None:
            async for data in requests:
                request = DiscoveryRequest.parse(data)
                self.requests.append(request)
                if request.error_detail:
                    self.nacks.append(request.error_detail.message)
                elif request.response_nonce:
                    self.acked[request.resource_names[0]] = request.version_info
                elif request.resource_names[0] in self.secrets:
                    self._streams[queue] = request.resource_names[0]
                    self._send(queue, request.resource_names[0])
                else:
                    queue.put_nowait(None)

        reading = asyncio.ensure_future(receive())
        try:
            while (response := await queue.get()) is not None:
                yield response
            await context.abort(grpc.StatusCode.UNAVAILABLE, "failed to generate the secret")
        finally:
            reading.cancel()
            self._streams.pop(queue, None)


class AgentThread:
    """An AgentSds on a thread and a loop of its own, for tests that block."""

    def __init__(self, path: str, secrets: dict[str, bytes]) -> None:
        self.agent = AgentSds(path, secrets)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True, name="agent-sds")
        self._thread.start()
        self._call(self.agent.start())

    def rotate(self, name: str, secret: bytes) -> None:
        async def rotate() -> None:
            self.agent.rotate(name, secret)

        self._call(rotate())

    def close(self) -> None:
        self._call(self.agent.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _call(self, coroutine: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(DEADLINE_S)
