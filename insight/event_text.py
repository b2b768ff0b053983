"""Events of a running eastgate, read one after the other, and as lines for people. Makes none."""

import time
from collections.abc import Callable
from typing import Any

from .dump_source import Admin, with_query
from .errors import DumpError

# Between two questions of who follows: soon enough for a person, and nothing to the proxy.
POLL_S = 1.0


class EventReader:
    """What came after the last event that was read, again and again. ``sleep``: waits between two questions."""

    def __init__(
        self, admin: Admin, kind: str = "", since: int = 0, *, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._admin, self._kind, self._since, self._sleep = admin, kind, since, sleep

    def read(self) -> list[dict[str, Any]]:
        """Events that came since, the oldest first. Raises InsightError."""
        document = self._admin.read(with_query("/events", since=str(self._since or ""), kind=self._kind))
        try:
            last, events = int(document["last"]), list(document["events"])
        except (KeyError, TypeError, ValueError):
            raise DumpError(f"{self._admin.name}/events: no list of events (is that eastgate's admin?)") from None
        if last < self._since:
            # The proxy began anew: all that it has is news.
            self._since = 0
            return self.read()
        self._since = last
        return events

    def wait(self) -> list[dict[str, Any]]:
        """The next that come. Raises InsightError."""
        while True:
            self._sleep(POLL_S)
            if found := self.read():
                return found


def event_line(event: dict[str, Any]) -> str:
    """One event as a line."""
    change = change_text(event)
    moved = event.get("moved")
    share = f"; {moved:.1%} of its connections move".replace("%", " %") if moved else ""
    head = f"{event.get('at', '-')} {event.get('kind', '-')} {event.get('subject', '-')}"
    return f"{head}: {change}{', ' if change else ''}cause: {event.get('cause', '-')}{share}"


def change_text(event: dict[str, Any]) -> str:
    """From what to what; loads by priority, those that stay left out."""
    before, after = event.get("before"), event.get("after")
    if not isinstance(before, list) or not isinstance(after, list):
        return f"{before}, now {after}" if before and after else ""
    longest = max(len(before), len(after))
    was, now = ([*each, *[0] * (longest - len(each))] for each in (before, after))
    changed = [f"P{n} {a} to {b}" for n, (a, b) in enumerate(zip(was, now, strict=True)) if a != b]
    return ", ".join(changed)
