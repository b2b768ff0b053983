"""/events: what has happened to traffic, as JSON or as server-sent events. Makes no event."""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from eastgate.proxy.history.event_log import Event, EventLog, Kind
from eastgate.xds.whole_number import whole_number

STREAM = "text/event-stream; charset=utf-8"
# Who only listens learns by these that we are still there; whoever stands between does, too.
HEARTBEAT_S = 15.0
MAX_FOLLOWERS = 16
# Ids of 18 digits.
MOST = 10**18 - 1


class EventsPage:
    """Answers of one log. Who follows it has a place of its own among so many."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self.followers = 0

    @property
    def is_full(self) -> bool:
        return self.followers >= MAX_FOLLOWERS

    def as_json(self, query: Mapping[str, str]) -> dict[str, Any]:
        """``since``: only those after this id; ``kind``: only such. Raises ValueError for what means nothing."""
        since, kind = parsed(query)
        events = [one.as_json() for one in self._log.since(since) if kind in ("", one.kind.value)]
        log = self._log
        return {"began": log.began, "last": log.last, "forgotten": log.forgotten, "events": events}

    async def stream(self, since: int, kind: str) -> AsyncGenerator[bytes, None]:
        """Events after this id and all that come, for as long as somebody reads."""
        self.followers += 1
        if since > self._log.last:
            # An id of the process that was here before.
            since = 0
        try:
            # At once, so that a client knows that it is connected.
            yield b"retry: 2000\n\n"
            while True:
                for event in self._log.since(since):
                    since = event.id
                    if kind in ("", event.kind.value):
                        yield sent(event)
                try:
                    async with asyncio.timeout(HEARTBEAT_S):
                        await self._log.wait()
                except TimeoutError:
                    yield b":\n\n"
        finally:
            self.followers -= 1


def parsed(query: Mapping[str, str]) -> tuple[int, str]:
    """(since, kind) of a query. Raises ValueError."""
    since, kind = query.get("since", "0"), query.get("kind", "")
    number = whole_number(since, MOST)
    if number is None:
        raise ValueError(f"since {since!r} is no id of an event")
    if kind and kind not in set(Kind):
        raise ValueError(f"kind {kind!r} is none of {', '.join(Kind)}")
    return number, kind


def sent(event: Event) -> bytes:
    """One event in the form of the HTML standard's server-sent events."""
    return f"id: {event.id}\nevent: {event.kind.value}\ndata: {json.dumps(event.as_json())}\n\n".encode()
