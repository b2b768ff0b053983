"""A bounded memory of events: before, after, cause, and the share of traffic that moved. Decides nothing, writes none.

Owned by the loop. Ids begin with 1 and grow by one; who was away asks for what came after the last id that it saw.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from eastgate.xds.record import record

CAPACITY = 1000


class Kind(StrEnum):
    """What happened. The values are public: they stand in JSON."""

    LOADS = "loads"
    """The loads of a cluster's priorities are others."""
    EJECTED = "ejected"
    """An endpoint is out: outlier detection, or a failed check of its health."""
    RETURNED = "returned"
    """It is back."""
    CERTIFICATE = "certificate"
    """A certificate is near its end, or past it."""
    REJECTED = "rejected"
    """A version of a resource was not accepted."""
    ACCEPTED = "accepted"
    """A later one was."""


@record
class Event:
    """``subject``: cluster, or another resource as TYPE NAME. ``endpoint``: of an event about one. ``before`` and
    ``after`` are JSON; ``moved``: part of the cluster's new connections that go elsewhere, 0 to 1, None where nothing
    is known of that.
    """

    kind: Kind
    subject: str
    cause: str
    before: Any = None
    after: Any = None
    moved: float | None = None
    endpoint: str = ""
    id: int = 0
    at: datetime = field(default=datetime.min.replace(tzinfo=UTC), compare=False)

    def as_json(self) -> dict[str, Any]:
        shown: dict[str, Any] = {
            "id": self.id,
            "at": self.at.isoformat(timespec="milliseconds"),
            "kind": self.kind.value,
            "subject": self.subject,
            "before": self.before,
            "after": self.after,
            "cause": self.cause,
        }
        if self.endpoint:
            shown["endpoint"] = self.endpoint
        if self.moved is not None:
            shown["moved"] = round(self.moved, 6)
        return shown


class EventLog:
    """The latest events; the oldest are forgotten first. ``now``: the date."""

    def __init__(self, capacity: int = CAPACITY, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._latest: deque[Event] = deque(maxlen=capacity)
        self._now = now
        self.began = now().isoformat()
        """Tells this log from that of an earlier process, whose ids were others."""
        self._news = asyncio.Event()
        self.last = 0
        """Id of the newest event, 0 before there is one."""

    def add(self, event: Event) -> None:
        """Give it an id and a date, and keep it."""
        self.last += 1
        self._latest.append(replace(event, id=self.last, at=self._now()))
        news, self._news = self._news, asyncio.Event()
        news.set()

    def since(self, number: int) -> list[Event]:
        """Those after this id that are still kept, the oldest first."""
        return [one for one in self._latest if one.id > number]

    @property
    def forgotten(self) -> int:
        """How many are no longer kept."""
        return self.last - len(self._latest)

    async def wait(self) -> None:
        """Return when there is a new one."""
        await self._news.wait()
