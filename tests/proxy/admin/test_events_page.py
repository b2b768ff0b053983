"""/events: JSON for who asks, server-sent events for who follows."""

import json

import pytest
from eastgate.proxy.admin import events_page
from eastgate.proxy.admin.events_page import MAX_FOLLOWERS, EventsPage, parsed
from eastgate.proxy.history.event_log import Event, EventLog, Kind


def filled() -> EventLog:
    log = EventLog()
    log.add(Event(Kind.EJECTED, "c", "it failed", endpoint="10.0.0.1:80"))
    log.add(Event(Kind.LOADS, "c", "it failed", [100, 0], [93, 7], 0.33))
    return log


async def test_what_is_asked_for_is_answered() -> None:
    page = EventsPage(filled())
    found = page.as_json({})
    assert (found["last"], found["forgotten"], [one["id"] for one in found["events"]]) == (2, 0, [1, 2])
    assert found["began"] == page.as_json({})["began"] != ""
    assert [one["id"] for one in page.as_json({"since": "1"})["events"]] == [2]
    assert [one["id"] for one in page.as_json({"kind": "ejected"})["events"]] == [1]


@pytest.mark.parametrize("query", [{"since": "x"}, {"since": "-1"}, {"since": "9" * 30}, {"kind": "weather"}])
def test_a_query_that_means_nothing_is_said(query: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"is no id of an event|is none of loads, ejected"):
        parsed(query)


async def test_who_follows_gets_what_was_and_what_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events_page, "HEARTBEAT_S", 0.01)
    log = filled()
    page = EventsPage(log)
    stream = page.stream(1, "")
    assert await anext(stream) == b"retry: 2000\n\n"
    head, name, data, *_ = (await anext(stream)).decode().split("\n")
    assert (head, name, json.loads(data.removeprefix("data: "))["after"]) == ("id: 2", "event: loads", [93, 7])
    # Nothing comes for a while: a comment says that we are there.
    assert await anext(stream) == b":\n\n"
    log.add(Event(Kind.RETURNED, "c", "it is back"))
    while (piece := await anext(stream)) == b":\n\n":
        pass
    assert piece.startswith(b"id: 3\nevent: returned\n")
    assert page.followers == 1
    await stream.aclose()
    assert page.followers == 0


async def test_who_followed_an_earlier_process_gets_all() -> None:
    stream = EventsPage(filled()).stream(500, "")
    assert await anext(stream) == b"retry: 2000\n\n"
    assert (await anext(stream)).startswith(b"id: 1\n")
    await stream.aclose()


async def test_places_of_followers_have_an_end() -> None:
    page = EventsPage(filled())
    streams = [page.stream(0, "") for _ in range(MAX_FOLLOWERS)]
    for one in streams:
        await anext(one)
    assert page.is_full
    for one in streams:
        await one.aclose()
    assert not page.is_full
