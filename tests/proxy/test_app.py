"""A whole process of ours inside a test: it begins, says where it is, and ends leaving nothing open."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import pytest
from eastgate.proxy.about import node_identity
from eastgate.proxy.app import Proxy
from eastgate.proxy.settings import gateway_settings

# Nothing listens there: the port of the discard protocol, which nobody may take by chance.
NOBODY = "127.0.0.1:9"
DEADLINE_S = 30.0
SAYS = "admin listening on "


def proxy(admin: str = "127.0.0.1:0", **changes: Any) -> Proxy:
    """One whose control plane does not answer; `changes` of its settings."""
    settings = gateway_settings(discovery=[NOBODY], admin=admin, workers=1, node_id="router~10.0.0.1~a.b~b.svc.c")
    settings = replace(settings, **changes)
    return Proxy(settings, node_identity(settings, {}))


def asked(address: tuple[str, int], method: str, path: str) -> tuple[int, str]:
    with closing(HTTPConnection(*address, timeout=DEADLINE_S)) as connection:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


@asynccontextmanager
async def running(
    one: Proxy, capfd: pytest.CaptureFixture[str]
) -> AsyncIterator[tuple[tuple[str, int], Callable[[], Awaitable[None]]]]:
    """(host, port) of its admin, and what waits for its end."""
    said = ""
    async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as group:
        task = group.create_task(one.run())
        while SAYS not in said or "\n" not in said.partition(SAYS)[2]:
            assert not task.done()
            await asyncio.sleep(0.01)
            said += capfd.readouterr().err
        url = urlsplit(said.partition(SAYS)[2].split("\n")[0])

        async def ended() -> None:
            await task

        yield (url.hostname or "", url.port or 0), ended


async def test_what_of_its_bootstrap_is_not_honoured_is_logged(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    async with running(proxy(unread=("cluster_manager.x: not read",)), capfd) as (address, ended):
        await asyncio.to_thread(asked, address, "POST", "/quitquitquit")
        await ended()
    reasons = [record.__dict__["fields"]["reason"] for record in caplog.records if "bootstrap" in record.getMessage()]
    assert reasons == ["cluster_manager.x: not read"]


async def test_it_says_where_it_is_and_ends_when_told(capfd: pytest.CaptureFixture[str]) -> None:
    async with running(proxy(), capfd) as (address, ended):
        assert await asyncio.to_thread(asked, address, "GET", "/ready") == (503, "PRE_INITIALIZING\n")
        assert await asyncio.to_thread(asked, address, "POST", "/quitquitquit") == (200, "OK\n")
        await ended()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(*address)


async def test_a_signal_ends_one_that_has_no_connections(capfd: pytest.CaptureFixture[str]) -> None:
    async with running(proxy(), capfd) as (address, ended):
        os.kill(os.getpid(), signal.SIGTERM)
        await ended()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(*address)
