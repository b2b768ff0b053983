"""How a call ended, in the server's words.

A write that meets the end of its call makes grpc.aio put "INTERNAL Internal error from Core" in the place of the status
that the server sent. Mostly that status was there first and is lost, now and then it comes after: the done-callbacks of
the call see both.
"""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

from grpc import aio

_WRITE_FAILED = "INTERNAL Internal error from Core"
# How long the server's status may come behind.
_STATUS_WAIT_S = 1.0


class CallEnd:
    """The status with which a server ended a call."""

    def __init__(self, call: Any) -> None:
        self._call = call
        self._told = asyncio.Event()
        self._text = ""
        call.add_done_callback(self._keep)

    async def text(self) -> str:
        """The name of the status code, and the details if there are any; waits for the end of the call."""
        code, details = await self._call.code(), await self._call.details()
        if _text(code, details) == _WRITE_FAILED:
            with suppress(TimeoutError):
                async with asyncio.timeout(_STATUS_WAIT_S):
                    await self._told.wait()
        return self._text or _text(code, details)

    def _keep(self, call: aio.Call) -> None:
        text = _text(_at_once(call.code()), _at_once(call.details()))
        if not self._told.is_set() and text != _WRITE_FAILED:
            self._text = text
            self._told.set()


def _text(code: Any, details: str | None) -> str:
    return f"{code.name} {details or ''}".strip()


def _at_once(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine that has nothing to wait for, as code() and details() of an ended call have not."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise RuntimeError("an ended call has its status")
