"""The memory of events: bounded, numbered, waited for."""

import asyncio
from datetime import UTC, datetime

from eastgate.proxy.history.event_log import Event, EventLog, Kind

NOW = datetime(2026, 3, 4, 9, 12, 1, tzinfo=UTC)


def event(subject: str = "c") -> Event:
    return Event(Kind.LOADS, subject, "because", [100, 0], [93, 7], 1 / 3)


async def test_events_have_numbers_and_the_oldest_are_forgotten() -> None:
    log = EventLog(2, now=lambda: NOW)
    for name in "abc":
        log.add(event(name))
    assert [(one.id, one.subject) for one in log.since(0)] == [(2, "b"), (3, "c")]
    assert [one.id for one in log.since(2)] == [3]
    assert (log.last, log.forgotten) == (3, 1)


async def test_an_event_as_json() -> None:
    log = EventLog(now=lambda: NOW)
    log.add(event())
    (one,) = log.since(0)
    assert one.as_json() == {
        "id": 1, "at": "2026-03-04T09:12:01.000+00:00", "kind": "loads", "subject": "c", "before": [100, 0],
        "after": [93, 7], "cause": "because", "moved": 0.333333,
    }  # fmt: skip


async def test_who_waits_is_woken_by_each() -> None:
    log = EventLog()
    for _ in range(2):
        waiting = asyncio.ensure_future(log.wait())
        await asyncio.sleep(0)
        assert not waiting.done()
        log.add(event())
        async with asyncio.timeout(5):
            await waiting
