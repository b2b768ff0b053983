"""Single checks against endpoints of the test's own."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from eastgate.proxy.membership.check_outcome import Outcome, Probe, Target
from eastgate.proxy.membership.health_probes import HttpProbe, TcpProbe, holds_in_order, open_probe
from eastgate.xds.bind_config import Bind, FamilyOption, SourceAddress
from eastgate.xds.resources import HealthCheck, HttpCheck, ServiceNameMatch

from .test_health_state import CHECK

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
PAYLOAD = replace(CHECK, send=b"ping", receive=(b"po", b"g"))


@asynccontextmanager
async def serving(serve: Serve, path: str = "") -> AsyncIterator[Target]:
    """An endpoint on a free port, or on a Unix socket. Nothing of it is left when it ends."""
    tasks: set[asyncio.Task[None] | None] = set()

    async def noted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())
        try:
            await serve(reader, writer)
        finally:
            writer.close()

    if path:
        server = await asyncio.start_unix_server(noted, path)
        target = Target(path, 0)
    else:
        server = await asyncio.start_server(noted, "127.0.0.1", 0)
        target = Target(*server.sockets[0].getsockname(), "name.test")
    try:
        yield target
    finally:
        server.close()
        for _ in range(3):
            await asyncio.sleep(0)
        for task in tasks:
            if task is not None:
                task.cancel()
        await asyncio.gather(*filter(None, tasks), return_exceptions=True)
        for _ in range(3):
            await asyncio.sleep(0)


async def checked(check: HealthCheck, serve: Serve) -> Outcome:
    async with serving(serve) as target:
        probe = open_probe(check, target)
        outcome = await probe.check()
        probe.close()
        return outcome


def answering(*answers: bytes, accepted: list[int] | None = None) -> Serve:
    """One answer per request; the connection ends after the last one."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if accepted is not None:
            accepted.append(1)
        for answer in answers:
            await reader.read(4096)
            writer.write(answer)
        await writer.drain()
        writer.close()

    return serve


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()
    writer.close()


def test_blocks_are_found_in_order_with_others_between() -> None:
    assert holds_in_order(b"xpoonxg", (b"po", b"g"))
    assert holds_in_order(b"", ())
    assert not holds_in_order(b"gpo", (b"po", b"g"))
    # Each block begins behind the one before.
    assert not holds_in_order(b"aba", (b"ab", b"ba"))


async def test_connection_is_enough_where_nothing_is_expected() -> None:
    assert await checked(CHECK, silent) == Outcome(passed=True)


async def test_refused_connection_is_a_network_failure() -> None:
    async with serving(silent) as target:
        gone = target
    outcome = await open_probe(CHECK, gone).check()
    assert (outcome.passed, outcome.network, outcome.timed_out) == (False, True, False)
    assert "refused" in outcome.reason


async def test_unix_socket_is_checked(tmp_path: Path) -> None:
    async with serving(answering(b"pong"), str(tmp_path / "endpoint")) as target:
        probe = open_probe(PAYLOAD, target)
        assert (await probe.check()).passed
        probe.close()


async def test_payload_is_sent_and_its_answer_searched() -> None:
    assert await checked(PAYLOAD, answering(b"..po..g..")) == Outcome(passed=True)
    outcome = await checked(PAYLOAD, answering(b"nothing"))
    assert (outcome.passed, outcome.network, outcome.at_once) == (False, True, False)
    assert outcome.reason == "closed after 7 bytes that were not expected"


async def test_silence_times_out() -> None:
    outcome = await checked(replace(PAYLOAD, timeout_s=0.05), silent)
    assert (outcome.network, outcome.timed_out, outcome.reason) == (True, True, "no answer within 0.05 s")


@pytest.mark.parametrize(("reuse", "connections"), [(True, 1), (False, 3)])
async def test_connection_is_kept_where_that_is_asked_for(reuse: bool, connections: int) -> None:
    accepted: list[int] = []
    async with serving(answering(b"pong", b"pong", b"pong", b"", accepted=accepted)) as target:
        probe: Probe = TcpProbe(replace(PAYLOAD, reuse_connection=reuse), target)
        for _ in range(3):
            assert (await probe.check()).passed
        assert len(accepted) == connections
        probe.close()


async def test_kept_connection_that_ends_between_checks_is_a_failure() -> None:
    async with serving(answering(b"pong")) as target:
        probe = TcpProbe(PAYLOAD, target)
        assert (await probe.check()).passed
        outcome = await probe.wait(10.0)
        assert outcome is not None
        assert (outcome.network, outcome.reason) == (True, "closed between two checks")
        # The next one is another connection.
        assert (await probe.check()).passed
        probe.close()


async def test_wait_ends_without_an_outcome() -> None:
    async with serving(answering(b"pong", b"")) as target:
        probe = TcpProbe(PAYLOAD, target)
        await probe.check()
        assert await probe.wait(0.001) is None
        assert (await probe.wait(0.001)) is None
        probe.close()


# ---- HTTP


def http(**fields: Any) -> HealthCheck:
    return replace(CHECK, http=HttpCheck(path="/up", **fields))


def answer(status: int, body: bytes = b"", **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} Status", f"content-length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


@pytest.mark.parametrize(
    ("given", "fields", "expected"),
    [
        (answer(200), {}, Outcome(passed=True)),
        (answer(204), {}, Outcome(at_once=True, reason="status 204")),
        (answer(204), {"expected_statuses": ((200, 205),)}, Outcome(passed=True)),
        (answer(205), {"expected_statuses": ((200, 205),)}, Outcome(at_once=True, reason="status 205")),
        (answer(503), {"retriable_statuses": ((500, 600),)}, Outcome(reason="status 503")),
        (answer(200, x_envoy_degraded="1"), {}, Outcome(passed=True, degraded=True)),
        (
            answer(503, x_envoy_immediate_health_check_fail="true"),
            {},
            Outcome(at_once=True, withdrawn=True, reason="status 503"),
        ),
        (
            answer(200, x_envoy_upstream_healthchecked_cluster="a-7f"),
            {"service_name": ServiceNameMatch("prefix", "a-")},
            Outcome(passed=True, verified=True),
        ),
        (
            answer(200),
            {"service_name": ServiceNameMatch("exact", "a")},
            Outcome(at_once=True, verified=True, reason="it is '', another service"),
        ),
    ],
)
async def test_http_is_judged_by_status_and_headers(given: bytes, fields: dict[str, Any], expected: Outcome) -> None:
    assert await checked(http(**fields), answering(given)) == expected


@pytest.mark.parametrize(
    ("body", "buffer_bytes", "passes"),
    [
        (b"a-ok-b", 1024, True),
        (b"b-ok-a", 1024, False),
        (b"x" * 10 + b"a b", 12, False),
        (b"x" * 2000 + b"ab", 0, True),
    ],
)
async def test_http_body_is_searched_as_far_as_told(body: bytes, buffer_bytes: int, passes: bool) -> None:
    check = replace(http(response_buffer_bytes=buffer_bytes), receive=(b"a", b"b"))
    outcome = await checked(check, answering(answer(200, body)))
    assert (outcome.passed, outcome.at_once) == (passes, not passes)


async def test_http_request_is_as_configured() -> None:
    seen: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"ping"))
        writer.write(answer(200))
        writer.close()

    check = replace(http(method="POST", headers=(("x-a", "1"),), headers_removed=("user-agent",)), send=b"ping")
    assert (await checked(replace(check, reuse_connection=False), serve)).passed
    head, _, body = seen[0].lower().partition(b"\r\n\r\n")
    assert body == b"ping"
    assert head.split(b"\r\n") == [
        b"post /up http/1.1",
        b"host: name.test",
        b"content-length: 4",
        b"connection: close",
        b"x-a: 1",
    ]


@pytest.mark.parametrize("given", [b"", b"garbage\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nab"])
async def test_no_http_answer_is_a_network_failure(given: bytes) -> None:
    outcome = await checked(http(), answering(given))
    assert (outcome.passed, outcome.network, outcome.at_once) == (False, True, False)
    assert outcome.reason


@pytest.mark.parametrize(
    ("check", "target"),
    [
        (CHECK, Target("127.0.0.1", 70000)),
        (CHECK, Target("/a\0b", 0)),
        (replace(CHECK, http=HttpCheck(path="/a b")), None),
        (http(headers=(("bad name", "x"),)), None),
        (http(method="GET\n"), None),
        (http(), "h\u00f6st"),
    ],
)
async def test_impossible_checks_fail_and_hurt_nobody(check: HealthCheck, target: Target | str | None) -> None:
    async with serving(answering(answer(200))) as there:
        where = target if isinstance(target, Target) else Target(there.host, there.port, target or "name.test")
        probe = open_probe(check, where)
        outcome = await probe.check()
        assert (outcome.passed, outcome.network) == (False, True)
        assert outcome.reason
        probe.close()


async def test_http_connection_that_ends_between_checks_is_no_failure() -> None:
    accepted: list[int] = []
    async with serving(answering(answer(200), accepted=accepted)) as target:
        probe = HttpProbe(http(), target)
        for number in range(1, 4):
            assert (await probe.check()).passed
            assert await probe.wait(0.02) is None
            assert len(accepted) == number
        probe.close()


async def test_http_connection_is_kept() -> None:
    accepted: list[int] = []
    async with serving(answering(*[answer(200, b"ok")] * 3, accepted=accepted)) as target:
        probe = HttpProbe(http(), target)
        for _ in range(3):
            assert (await probe.check()).passed
        assert len(accepted) == 1
        probe.close()


FROM_9 = SourceAddress(bytes([127, 0, 0, 9]), 0)
FROM_IPV6 = SourceAddress(socket.inet_pton(socket.AF_INET6, "::1"), 0)


@pytest.mark.parametrize("check", [PAYLOAD, replace(CHECK, http=HttpCheck(path="/up"))], ids=["tcp", "http"])
async def test_checks_come_from_where_connections_come_from(check: HealthCheck) -> None:
    peers = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peers.append(writer.get_extra_info("peername")[0])
        await answering(b"pong" if check.http is None else b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")(
            reader, writer
        )

    async with serving(serve) as target:
        for sources, expected in (((), "127.0.0.1"), ((FROM_IPV6, FROM_9), "127.0.0.9"), ((FROM_IPV6,), "127.0.0.1")):
            options = (FamilyOption(4, socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 5000),)
            probe = open_probe(check, replace(target, bind=Bind(sources, options)))
            assert (await probe.check()).passed
            probe.close()
            assert peers.pop() == expected


async def test_what_no_check_can_come_from_fails_it_and_nothing_else() -> None:
    async with serving(silent) as target:
        unset = FamilyOption(4, socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1)
        for bind in (Bind((SourceAddress(bytes([192, 0, 2, 1]), 0),)), Bind((), (unset,))):
            outcome = await open_probe(CHECK, replace(target, bind=bind)).check()
            assert (outcome.passed, outcome.network, bool(outcome.reason)) == (False, True, True)
