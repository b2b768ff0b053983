"""Which pages admin has, and by which method. What they say has tests of its own."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h11
import pytest
from eastgate.proxy.admin import stats
from eastgate.proxy.admin.admin import Admin, Sources
from eastgate.proxy.errors import EastgateError

LOCAL = "localhost"
DOCS = Path(__file__).parents[3] / "docs"


class Process:
    """What admin shows and asks for: not a whole one. ``drains``, ``quits``: what was asked for."""

    def __init__(self) -> None:
        self.state = stats.LIVE
        self.drains: list[dict[str, bool]] = []
        self.quits = 0

    def drain(self, **asked: bool) -> None:
        self.drains.append(asked)

    def quit(self) -> None:
        self.quits += 1

    def sources(self) -> Sources:
        nothing: Any = SimpleNamespace()
        return Sources(
            snapshot=nothing,
            ads=nothing,
            compiler=SimpleNamespace(observers=[]),
            listeners=nothing,
            refusals=nothing,
            renderer=nothing,
            state=lambda: self.state,
            process=nothing,
            bootstrap=nothing,
            server_info=lambda: {"state": "LIVE"},
            drain=self.drain,
            quit=self.quit,
        )


class Client:
    def __init__(self, port: int) -> None:
        self._port = port

    async def ask(self, method: str, target: str, **headers: str) -> tuple[int, str, dict[str, str]]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        http = h11.Connection(h11.CLIENT)
        sent = {"Host": LOCAL, **{name.replace("_", "-"): value for name, value in headers.items()}}
        writer.write(
            http.send(h11.Request(method=method, target=target, headers=[*sent.items(), ("Connection", "close")]))
        )
        writer.write(http.send(h11.EndOfMessage()))
        http.receive_data(await reader.read())
        http.receive_data(b"")
        writer.close()
        head, body = http.next_event(), ""
        assert isinstance(head, h11.Response)
        while isinstance(event := http.next_event(), h11.Data):
            body += event.data.decode()
        return head.status_code, body, {name.decode(): value.decode() for name, value in head.headers}


@asynccontextmanager
async def serving(process: Process) -> AsyncIterator[Client]:
    admin = Admin(("127.0.0.1", 0), process.sources())
    url = await admin.start()
    try:
        yield Client(int(url.rpartition(":")[2]))
    finally:
        await admin.close()


async def test_foreign_requests_reach_no_page() -> None:
    process = Process()
    async with serving(process) as client:
        assert (await client.ask("POST", "/quitquitquit", Host="evil.example"))[0] == 403
        assert (await client.ask("POST", "/quitquitquit", Origin="http://evil.example"))[0] == 403
    assert process.quits == 0


async def test_help_lists_every_page_with_its_method_and_those_that_change_something_need_it() -> None:
    process = Process()
    async with serving(process) as client:
        listed = (await client.ask("GET", "/help"))[1].splitlines()
        methods = {line.split()[0]: line.split()[1] for line in listed if line.startswith("  /")}
        assert {"/ready": "(GET):", "/quitquitquit": "(POST):"}.items() <= methods.items()
        for path in [path for path, method in methods.items() if method == "(POST):"]:
            status, text, headers = await client.ask("GET", path)
            assert (status, headers["allow"], "POST required" in text) == (405, "POST", True)
        assert (process.drains, process.quits) == ([], 0)
        assert (await client.ask("POST", "/quitquitquit"))[:2] == (200, "OK\n")
        assert (await client.ask("POST", "/drain_listeners?graceful&skip_exit"))[:2] == (200, "OK\n")
        assert (await client.ask("POST", "/drain_listeners?skip_exit"))[:2] == (400, "skip_exit needs graceful\n")
    assert process.quits == 1
    assert process.drains == [{"graceful": True, "skip_exit": True, "inbound_only": False}]


async def test_every_page_is_documented() -> None:
    """Under its whole path, or below one of which a document says so: `/stats/recentlookups` and below it."""
    told = "".join((DOCS / name).read_text() for name in ("admin.md", "page.md"))
    named = {path.partition("?")[0] for path in re.findall(r"`(?:POST |GET )?(/[^\s`]*)", told)}
    async with serving(Process()) as client:
        listed = (await client.ask("GET", "/help"))[1].splitlines()
    paths = [line.split()[0] for line in listed if line.startswith("  /")]
    assert [path for path in paths if path not in named and path.rpartition("/")[0] not in named] == []


async def test_ready_says_the_state_and_what_was_asked_of_it() -> None:
    process = Process()
    async with serving(process) as client:
        assert (await client.ask("GET", "/ready"))[:2] == (200, "LIVE\n")
        await client.ask("POST", "/healthcheck/fail")
        assert (await client.ask("GET", "/ready"))[:2] == (503, "DRAINING\n")
        await client.ask("POST", "/healthcheck/ok")
        process.state = stats.INITIALIZING
        assert (await client.ask("GET", "/ready"))[:2] == (503, "INITIALIZING\n")


async def test_unknown_path_is_said_with_those_that_are_there() -> None:
    async with serving(Process()) as client:
        status, text, _ = await client.ask("GET", "/nothing")
        assert (status, text.splitlines()[0]) == (404, "invalid path. eastgate admin commands:")
        assert "  /ready (GET):" in text


async def test_a_taken_port_is_one_sentence() -> None:
    async with serving(Process()) as client:
        other = Admin(("127.0.0.1", client._port), Process().sources())
        with pytest.raises(EastgateError, match=rf"--admin 127.0.0.1:{client._port}: cannot listen"):
            await other.start()
