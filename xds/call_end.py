"""How a call ended, in the server's words.

A write that meets the end of its call makes grpc.aio put "INTERNAL Internal error from Core" in the place of the status
that the server sent, which is then lost. Done-callbacks of the call run at the first status: it is kept there.
"""

from collections.abc import Coroutine
from typing import Any

from grpc import aio


class CallEnd:
    """The first status of a call."""

    def __init__(self, call: Any) -> None:
        self._call = call
        self._first = ""
        call.add_done_callback(self._keep)

    async def text(self) -> str:
        """The name of the status code, and the details if there are any; waits for the end of the call."""
        code, details = await self._call.code(), await self._call.details()
        return self._first or _text(code, details)

    def _keep(self, call: aio.Call) -> None:
        if not self._first:
            self._first = _text(_at_once(call.code()), _at_once(call.details()))


def _text(code: Any, details: str | None) -> str:
    return f"{code.name} {details or ''}".strip()


def _at_once(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine that has nothing to wait for, as code() and details() of an ended call have not."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise RuntimeError("an ended call has its status")
