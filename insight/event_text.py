"""Events of a running eastgate, read one after the other, and as lines for people. Makes none."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

from .dump_source import Admin, with_query
from .errors import DumpError, UnreachableError

# Between two questions of who follows: soon enough for a person, and nothing to the proxy.
POLL_S = 1.0
Told = Callable[[str], None]


class EventReader:
    """What came after the last event that was read, again and again. ``kind``: empty for all."""

    def __init__(self, kind: str = "", since: int = 0) -> None:
        self._kind, self._since, self._began = kind, since, ""

    def read(self, admin: Admin) -> list[dict[str, Any]]:
        """Events that came since, the oldest first: all of a proxy that began anew. Raises InsightError."""
        document = admin.read(with_query("/events", since=str(self._since or ""), kind=self._kind))
        try:
            last, events, began = int(document["last"]), list(document["events"]), str(document["began"])
        except (KeyError, TypeError, ValueError):
            raise DumpError(f"{admin.name}/events: no list of events (is that eastgate's admin?)") from None
        is_another = last < self._since or (self._began and began != self._began)
        self._began = began
        if is_another:
            self._since = 0
            return self.read(admin)
        self._since = last
        return events

    def follow(self, asked: Callable[[], AbstractContextManager[Admin]], told: Told) -> Iterator[list[dict[str, Any]]]:
        """Events that are there, then those that come, without an end: also of a proxy that goes away and comes back.

        ``asked`` is how it is reached, each time anew; ``told`` hears why it does not answer. Raises InsightError
        where it never did.
        """
        has_answered, is_away = False, False
        while True:
            try:
                with asked() as admin:
                    while True:
                        yield self.read(admin)
                        has_answered, is_away = True, False
                        time.sleep(POLL_S)
            except UnreachableError as error:
                if not has_answered:
                    raise
                if not is_away:
                    told(str(error))
                is_away = True
                time.sleep(POLL_S)


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
