"""A stream ends for one reason, said in one line, whatever goes wrong with it."""

from typing import Any

import pytest
from eastgate.xds import errors
from eastgate.xds.channel import plaintext
from eastgate.xds.errors import XdsError
from eastgate.xds.stream import StreamEndedError, converse, write
from eastgate.xds.subscription import SotwSubscriptions
from grpc import aio

from .istiod import Istiod

METHOD = SotwSubscriptions.method


async def until_the_end(call: Any) -> None:
    await write(call, b"")
    while await call.read() is not aio.EOF:
        pass


async def test_server_that_ends_the_stream_says_why() -> None:
    async with Istiod() as istiod:
        talking: list[Any] = []

        async def talk(call: Any) -> None:
            talking.append(call)
            await write(call, b"")
            (await istiod.stream()).end()
            await until_the_end(call)

        assert await converse(lambda: plaintext(istiod.address), METHOD, talk) == "OK"
        assert talking[0].done()


async def test_nobody_there() -> None:
    reason = await converse(lambda: plaintext("127.0.0.1:1"), METHOD, until_the_end)
    assert reason.startswith("UNAVAILABLE ")
    assert "\n" not in reason


@pytest.mark.parametrize("error", [OSError("no such file"), ValueError("no address"), XdsError("token", "f", "empty")])
async def test_channel_that_cannot_be_opened(error: Exception) -> None:
    def refuse() -> aio.Channel:
        raise error

    assert await converse(refuse, METHOD, until_the_end) == str(error)


async def test_who_talks_may_end_it_and_its_faults_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, bool]] = []
    monkeypatch.setattr(errors, "fault_observers", [lambda part, _, shown: told.append((part, shown))])

    async def enough(_: Any) -> None:
        raise StreamEndedError("no answer within 30 s")

    async def fault(_: Any) -> None:
        raise KeyError("a key")

    async with Istiod() as istiod:
        assert await converse(lambda: plaintext(istiod.address), METHOD, enough) == "no answer within 30 s"
        assert "a key" in await converse(lambda: plaintext(istiod.address), METHOD, fault)
        assert "a key" not in await converse(lambda: plaintext(istiod.address), METHOD, fault, secret=True)
    assert told == [("stream", True), ("stream", False)]
