"""One stream to a server from its opening to its end, whatever is spoken on it. Knows no discovery service.

Nothing that goes wrong with a stream is raised: it ends, and why is one line in the words of whoever ended it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import grpc
from grpc import aio

from .call_end import CallEnd
from .errors import XdsError, own_fault
from .log import Log

# How long a connection, a request and the end of a channel may take before the next attempt gets its chance.
CONNECT_TIMEOUT_S = 5.0
WRITE_TIMEOUT_S = 10.0
_CLOSE_TIMEOUT_S = 2.0

_log = Log("xds")

Metadata = Sequence[tuple[str, str]]
Talk = Callable[[Any], Awaitable[None]]
"""What is done with a call until it ends; exceptions of grpc go through. StreamEndedError says another end."""


class StreamEndedError(Exception):
    """Raised by who talks, to end a stream for a reason of its own."""


async def converse(
    open_channel: Callable[[], aio.Channel], method: str, talk: Talk, metadata: Metadata = (), *, secret: bool = False
) -> str:
    """Connect, talk until the call ends, close; return why it ended. Raises CancelledError alone.

    ``metadata`` is read once the channel is open. ``secret``: no text of an exception of ours is shown, for it may hold
    what was being read.
    """
    try:
        channel = open_channel()
    except (OSError, ValueError, XdsError) as error:
        # Credentials that cannot be read, or an address that is none.
        return str(error)
    try:
        await _connect(channel)
        return await _one_call(channel.stream_stream(method)(metadata=tuple(metadata)), talk)
    except aio.AioRpcError as error:
        return f"{error.code().name} {error.details() or ''}".strip()
    except TimeoutError:
        return f"no answer within {CONNECT_TIMEOUT_S:g} s"
    except (StreamEndedError, XdsError) as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - nothing of ours ends what serves
        # Whatever it is, what was accepted serves on, and another stream may do better.
        return own_fault(error, part="stream", shown=not secret)
    finally:
        await _close(channel)


async def write(call: Any, request: bytes) -> None:
    """Write one request. Raises TimeoutError when the server does not take it, and what grpc raises."""
    async with asyncio.timeout(WRITE_TIMEOUT_S):
        await call.write(request)


async def _one_call(call: Any, talk: Talk) -> str:
    end = CallEnd(call)
    try:
        await talk(call)
        return await _status(end)
    except (aio.AioRpcError, asyncio.InvalidStateError):
        # What grpc raises for a read or write after the call has ended says nothing of why; the call does.
        return await _status(end)
    finally:
        call.cancel()


async def _connect(channel: aio.Channel) -> None:
    """Wait until the channel is up or has failed; the call then tells why it failed."""
    async with asyncio.timeout(CONNECT_TIMEOUT_S):
        state = channel.get_state(try_to_connect=True)
        while state in (grpc.ChannelConnectivity.IDLE, grpc.ChannelConnectivity.CONNECTING):
            await channel.wait_for_state_change(state)
            state = channel.get_state(try_to_connect=True)


async def _status(end: CallEnd) -> str:
    async with asyncio.timeout(_CLOSE_TIMEOUT_S):
        return await end.text()


async def _close(channel: aio.Channel) -> None:
    try:
        async with asyncio.timeout(_CLOSE_TIMEOUT_S):
            await channel.close()
    except TimeoutError:
        _log.warning("channel_close", timeout_s=_CLOSE_TIMEOUT_S)
