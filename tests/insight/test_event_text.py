"""Events read one after the other, and as lines."""

from contextlib import nullcontext
from typing import Any

import pytest
from eastgate.insight import event_text
from eastgate.insight.errors import DumpError, UnreachableError
from eastgate.insight.event_text import EventReader, event_line

MOVED: dict[str, Any] = {
    "id": 2, "at": "2026-03-04T09:12:01.000+00:00", "kind": "loads", "subject": "c", "before": [100, 0],
    "after": [93, 7], "cause": "10.0.0.1:80 ejected", "moved": 0.33,
}  # fmt: skip


class Pages:
    """Answers with one page after the other; an exception is raised."""

    name = "x"

    def __init__(self, *pages: Any) -> None:
        self._pages = list(pages)
        self.paths: list[str] = []

    def read(self, path: str) -> Any:
        self.paths.append(path)
        page = self._pages.pop(0)
        if isinstance(page, Exception):
            raise page
        return page


def page(last: int, *events: Any, began: str = "a") -> dict[str, Any]:
    return {"began": began, "last": last, "events": list(events)}


@pytest.mark.parametrize("another", [page(1), page(7, began="b")], ids=["fewer", "more"])
def test_only_what_is_new_is_read_and_a_proxy_that_began_anew_is_read_whole(another: dict[str, Any]) -> None:
    admin = Pages(page(2, MOVED), page(2), another, {**another, "events": [1]})
    reader = EventReader("loads")
    assert [reader.read(admin) for _ in range(3)] == [[MOVED], [], [1]]
    since = "/events?since=2&kind=loads"
    assert admin.paths == ["/events?kind=loads", since, since, "/events?kind=loads"]


def test_who_follows_waits_for_a_proxy_that_goes_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_text, "POLL_S", 0)
    gone, told = UnreachableError("x: no answer"), list[str]()
    admin = Pages(page(2, MOVED), gone, gone, page(3, 1, began="b"), page(3, 1, began="b"), gone, page(3, began="b"))
    found = EventReader().follow(lambda: nullcontext(admin), told.append)
    assert [next(found) for _ in range(3)] == [[MOVED], [1], []]
    # Once each time that it goes.
    assert told == ["x: no answer"] * 2


def test_who_never_answered_is_not_waited_for() -> None:
    with pytest.raises(UnreachableError, match="no answer"):
        next(EventReader().follow(lambda: nullcontext(Pages(UnreachableError("no answer"))), print))


@pytest.mark.parametrize("page", [[], {}, {"began": "a", "last": "x", "events": []}, {"last": 1, "began": "a"}])
def test_another_page_is_named(page: Any) -> None:
    with pytest.raises(DumpError, match="x/events: no list of events"):
        EventReader().read(Pages(page))


def test_lines() -> None:
    assert event_line(MOVED) == (
        "2026-03-04T09:12:01.000+00:00 loads c: P0 100 to 93, P1 0 to 7, cause: 10.0.0.1:80 ejected;"
        " 33.0 % of its connections move"
    )
    rejected = {"at": "t", "kind": "rejected", "subject": "CDS c", "before": "a", "after": "b", "cause": "bad"}
    assert event_line(rejected) == "t rejected CDS c: a, now b, cause: bad"
    assert event_line({**MOVED, "after": [], "moved": 1.0}).startswith(
        "2026-03-04T09:12:01.000+00:00 loads c: P0 100 to 0, cause"
    )
    assert event_line({}) == "- - -: cause: -"
