"""One check of one endpoint: TCP connect, TCP payload, HTTP/1.1, gRPC. Decides whether it passed, and nothing else.

As in Envoy (source/extensions/health_checkers/{tcp,http}): a check without anything to receive passes when the
connection is there; blocks to receive are searched in order, other bytes between them; the timeout spans connect and
answer; a kept connection that the endpoint closes between two checks fails the TCP check, and not the HTTP check.
"""

import asyncio
import os
import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from eastgate.xds.bind_config import NO_BIND
from eastgate.xds.resources import HealthCheck, HttpCheck
from eastgate.xds.socket_options import IP_BIND_ADDRESS_NO_PORT

from .check_outcome import LOCAL_ERRORS, USER_AGENT, Outcome, Probe, Target
from .grpc_probe import GrpcProbe

READ_BYTES = 16384
DEGRADED_HEADER = b"x-envoy-degraded"
WITHDRAWN_HEADER = b"x-envoy-immediate-health-check-fail"
SERVICE_HEADER = b"x-envoy-upstream-healthchecked-cluster"


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def connect(target: Target) -> Streams:
    """Raises OSError."""
    if "/" in target.host or not target.port:
        return await asyncio.open_unix_connection(target.host)
    if target.bind == NO_BIND:
        return await asyncio.open_connection(target.host, target.port)
    made = bound_socket(target)
    try:
        await asyncio.get_running_loop().sock_connect(made, (target.host, target.port))
        return await asyncio.open_connection(sock=made)
    except BaseException:
        made.close()
        raise


def bound_socket(target: Target) -> socket.socket:
    """As those of connections to the same endpoint are made. Raises OSError."""
    version, family = (6, socket.AF_INET6) if ":" in target.host else (4, socket.AF_INET)
    made = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        for option in target.bind.socket_options():
            if option.family == version:
                made.setsockopt(option.level, option.name, option.value)
        for source in target.bind.sources:
            if source.version == version:
                if not source.port:
                    made.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
                made.bind((socket.inet_ntop(family, source.address), source.port))
    except BaseException:
        made.close()
        raise
    return made


def holds_in_order(data: bytes | bytearray, blocks: Sequence[bytes]) -> bool:
    """Whether the blocks are in the data, each behind the one before."""
    at = 0
    for block in blocks:
        at = data.find(block, at)
        if at < 0:
            return False
        at += len(block)
    return True


class _Connected:
    """A connection that may be kept between checks."""

    def __init__(self, check: HealthCheck, target: Target) -> None:
        self._check = check
        self._target = target
        self._streams: Streams | None = None

    def close(self) -> None:
        """Give up what is open."""
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None

    async def check(self) -> Outcome:
        """Check once, within the timeout."""
        try:
            async with asyncio.timeout(self._check.timeout_s):
                return await self._once()
        except TimeoutError:
            self.close()
            return Outcome(network=True, timed_out=True, reason=f"no answer within {self._check.timeout_s:g} s")
        except OSError as error:
            self.close()
            reason = os.strerror(error.errno) if error.errno else str(error)
            return Outcome(network=True, local=error.errno in LOCAL_ERRORS, reason=reason)
        except (ValueError, OverflowError) as error:
            # A port past 65535, a path or a host that no request can hold: nothing else of the proxy is to suffer.
            self.close()
            return Outcome(network=True, reason=f"not possible: {error}")

    async def _once(self) -> Outcome:
        raise NotImplementedError

    async def _open(self) -> Streams:
        if self._streams is None:
            self._streams = await connect(self._target)
        return self._streams


class TcpProbe(_Connected):
    """TCP connect, or payload where there is something to receive."""

    async def _once(self) -> Outcome:
        reader, writer = await self._open()
        if not self._check.receive:
            self.close()
            return Outcome(passed=True)
        writer.write(self._check.send)
        received = bytearray()
        while not holds_in_order(received, self._check.receive):
            data = await reader.read(READ_BYTES)
            if not data:
                self.close()
                return Outcome(network=True, reason=f"closed after {len(received)} bytes that were not expected")
            received += data
        if not self._check.reuse_connection:
            self.close()
        return Outcome(passed=True)

    async def wait(self, wait_s: float) -> Outcome | None:
        """Wait for so long; earlier only when the endpoint closes a kept connection."""
        if self._streams is None:
            await asyncio.sleep(wait_s)
            return None
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                with suppress(OSError):
                    while await self._streams[0].read(READ_BYTES):
                        pass
                self.close()
                return Outcome(network=True, reason="closed between two checks")
        return None


class HttpProbe(_Connected):
    """HTTP/1.1 request, judged by status, body and headers of the answer."""

    def __init__(self, check: HealthCheck, target: Target) -> None:
        super().__init__(check, target)
        assert check.http is not None
        self._http: HttpCheck = check.http
        self._protocol: Any = None

    async def wait(self, wait_s: float) -> Outcome | None:
        """Wait for so long."""
        await asyncio.sleep(wait_s)
        return None

    def close(self) -> None:
        """Give up what is open."""
        super().close()
        self._protocol = None

    async def _once(self) -> Outcome:
        import h11

        if self._streams is not None and (self._streams[0].at_eof() or self._streams[1].is_closing()):
            self.close()
        reader, writer = await self._open()
        if self._protocol is None:
            self._protocol = h11.Connection(h11.CLIENT)
        try:
            writer.write(self._request(h11))
            return await self._answer(h11, reader)
        except h11.ProtocolError as error:
            self.close()
            return Outcome(network=True, reason=f"no HTTP: {error}")

    def _request(self, h11: Any) -> bytes:
        http, body = self._http, self._check.send
        headers = [("host", self._target.hostname), ("user-agent", USER_AGENT)]
        if body:
            headers.append(("content-length", str(len(body))))
        if not self._check.reuse_connection:
            headers.append(("connection", "close"))
        headers = [(name, value) for name, value in headers if name not in http.headers_removed]
        request = h11.Request(method=http.method, target=http.path, headers=[*headers, *http.headers])
        sent: bytes = self._protocol.send(request)
        if body:
            sent += self._protocol.send(h11.Data(data=body))
        return sent + (self._protocol.send(h11.EndOfMessage()) or b"")

    async def _answer(self, h11: Any, reader: asyncio.StreamReader) -> Outcome:
        status, headers, body = 0, {}, bytearray()
        limit = self._http.response_buffer_bytes
        while True:
            event = self._protocol.next_event()
            if event is h11.NEED_DATA:
                self._protocol.receive_data(await reader.read(READ_BYTES))
            elif isinstance(event, h11.Response):
                status, headers = event.status_code, dict(event.headers)
            elif isinstance(event, h11.Data):
                if self._check.receive and (not limit or len(body) < limit):
                    body += event.data[: limit - len(body)] if limit else event.data
            elif isinstance(event, h11.EndOfMessage):
                break
            elif isinstance(event, h11.ConnectionClosed):
                self.close()
                return Outcome(network=True, reason="closed without an answer")
        if self._check.reuse_connection and self._protocol.states == {h11.CLIENT: h11.DONE, h11.SERVER: h11.DONE}:
            self._protocol.start_next_cycle()
        else:
            self.close()
        return self._judge(status, headers, body)

    def _judge(self, status: int, headers: dict[bytes, bytes], body: bytearray) -> Outcome:
        http = self._http
        if not any(start <= status < end for start, end in http.expected_statuses):
            at_once = not any(start <= status < end for start, end in http.retriable_statuses)
            return Outcome(at_once=at_once, withdrawn=WITHDRAWN_HEADER in headers, reason=f"status {status}")
        if not holds_in_order(body, self._check.receive):
            return Outcome(at_once=True, reason="the body does not hold what is expected")
        if http.service_name is not None:
            name = headers.get(SERVICE_HEADER, b"").decode("latin-1")
            if not http.service_name.matches(name):
                return Outcome(at_once=True, verified=True, reason=f"it is {name!r}, another service")
        return Outcome(passed=True, degraded=DEGRADED_HEADER in headers, verified=http.service_name is not None)


def open_probe(check: HealthCheck, target: Target) -> Probe:
    """The probe for a check."""
    if check.grpc is not None:
        return GrpcProbe(check, target)
    return HttpProbe(check, target) if check.http is not None else TcpProbe(check, target)
