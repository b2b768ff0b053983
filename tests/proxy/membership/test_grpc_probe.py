"""Single gRPC checks against real gRPC servers, and against what is none."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import grpc
import pytest
from eastgate.proxy.membership.check_outcome import Outcome, Target
from eastgate.proxy.membership.grpc_probe import GrpcProbe, target_uri
from eastgate.proxy.membership.health_probes import open_probe
from eastgate.xds.errors import XdsError
from eastgate.xds.grpc_health import request, serving_status
from eastgate.xds.resources import GrpcCheck

from ...support.grpc_health import NOT_SERVING, SERVICE_UNKNOWN, SERVING, GrpcHealth
from .test_health_state import CHECK

GRPC = replace(CHECK, grpc=GrpcCheck(service="eastgate.Test", metadata=(("x-check", "yes"),)))


@asynccontextmanager
async def serving() -> AsyncIterator[tuple[GrpcHealth, Target]]:
    server = GrpcHealth()
    await server.start()
    try:
        yield server, Target("127.0.0.1", server.port, "name.test")
    finally:
        await server.stop()


def test_messages_are_those_of_the_protocol() -> None:
    assert request("a.B") == b"\x0a\x03a.B"
    assert request("") == b""
    known = {b"": "UNKNOWN", SERVING: "SERVING", NOT_SERVING: "NOT_SERVING", SERVICE_UNKNOWN: "SERVICE_UNKNOWN"}
    assert {raw: serving_status(raw) for raw in known} == known
    assert serving_status(b"\x08\x09") == "9"
    with pytest.raises(XdsError):
        serving_status(b"\x08")


@pytest.mark.parametrize(
    ("target", "uri"),
    [
        (Target("10.0.0.1", 80), "ipv4:10.0.0.1:80"),
        (Target("2001:db8::1", 80), "ipv6:[2001:db8::1]:80"),
        (Target("/run/a", 0), "unix:/run/a"),
    ],
)
def test_places_are_named_as_grpc_names_them(target: Target, uri: str) -> None:
    assert target_uri(target) == uri


async def test_service_is_asked_for_over_one_connection() -> None:
    async with serving() as (server, target):
        probe = open_probe(GRPC, target)
        for _ in range(3):
            assert await probe.check() == Outcome(passed=True)
            assert await probe.wait(0.001) is None
        probe.close()
    assert server.requests == [b"\x0a\x0deastgate.Test"] * 3
    assert len(set(server.peers)) == 1
    assert server.metadata[0]["x-check"] == "yes"
    assert server.metadata[0]["user-agent"].startswith("Envoy/HC ")


async def test_host_that_is_named_is_the_targets() -> None:
    seen = bytearray()

    async def settle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # An empty SETTINGS frame lets the request begin, which names the host as it is.
        writer.write(b"\x00\x00\x00\x04\x00\x00\x00\x00\x00")
        while b"Health/Check" not in seen or b"name.test" not in seen:
            seen.extend(await reader.read(4096) or [0])
        writer.close()

    server = await asyncio.start_server(settle, "127.0.0.1", 0)
    async with server:
        await GrpcProbe(GRPC, Target(*server.sockets[0].getsockname(), "name.test")).check()
    assert b"name.test" in seen


async def test_connection_is_not_kept_where_that_is_not_asked_for() -> None:
    async with serving() as (server, target):
        probe = GrpcProbe(replace(GRPC, reuse_connection=False), target)
        for _ in range(3):
            assert (await probe.check()).passed
    assert len(set(server.peers)) == 3


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (NOT_SERVING, "the service is NOT_SERVING"),
        (SERVICE_UNKNOWN, "the service is SERVICE_UNKNOWN"),
        (b"", "the service is UNKNOWN"),
        (b"\x08", "the answer is no HealthCheckResponse"),
        (grpc.StatusCode.NOT_FOUND, "NOT_FOUND: as told"),
        (grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE: as told"),
        (grpc.StatusCode.UNIMPLEMENTED, "UNIMPLEMENTED: as told"),
    ],
)
async def test_any_other_answer_fails_at_once(answer: bytes | grpc.StatusCode, reason: str) -> None:
    async with serving() as (server, target):
        server.answer = answer
        probe = GrpcProbe(GRPC, target)
        assert await probe.check() == Outcome(at_once=True, reason=reason)
        # The connection has done nothing wrong.
        server.answer = SERVING
        assert (await probe.check()).passed
    assert len(set(server.peers)) == 1


async def test_silence_times_out_and_the_next_check_passes() -> None:
    async with serving() as (server, target):
        server.answer = None
        probe = GrpcProbe(replace(GRPC, timeout_s=0.1), target)
        assert await probe.check() == Outcome(network=True, timed_out=True, reason="no answer within 0.1 s")
        server.answer = SERVING
        assert (await GrpcProbe(GRPC, target).check()).passed


async def test_refused_connection_is_a_network_failure_and_the_next_one_does_not_wait() -> None:
    async with serving() as (server, target):
        probe = GrpcProbe(GRPC, target)
        assert (await probe.check()).passed
        await server.stop()
        for _ in range(3):
            outcome = await probe.check()
            assert (outcome.passed, outcome.network, outcome.at_once) == (False, True, False)
            assert "refused" in outcome.reason
        await server.start()
        assert (await probe.check()).passed


async def test_connection_that_ends_under_a_check_is_a_network_failure() -> None:
    async with serving() as (server, target):
        server.answer = None
        probe = GrpcProbe(replace(GRPC, timeout_s=30.0), target)
        async with asyncio.TaskGroup() as group:
            check = group.create_task(probe.check())
            await server.asked.wait()
            await server.stop()
        outcome = check.result()
        assert (outcome.passed, outcome.network, outcome.at_once) == (False, True, False)


async def test_connection_that_ends_between_checks_is_no_failure() -> None:
    async with serving() as (server, target):
        probe = GrpcProbe(GRPC, target)
        for _ in range(3):
            assert (await probe.check()).passed
            await server.stop()
            await server.start()
    assert len(server.requests) == 3


async def test_what_is_no_grpc_fails() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4096)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        outcome = await GrpcProbe(GRPC, Target(*server.sockets[0].getsockname())).check()
    assert (outcome.passed, outcome.network, outcome.at_once) == (False, True, False)
    assert outcome.reason


async def test_impossible_checks_fail_and_hurt_nobody() -> None:
    for target in (Target("127.0.0.1", 70000), Target("name.test", 80), Target("/" + 200 * "a", 0)):
        outcome = await GrpcProbe(GRPC, target).check()
        assert (outcome.passed, outcome.network) == (False, True)
        assert outcome.reason
