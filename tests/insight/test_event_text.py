"""Events read one after the other, and as lines."""

from typing import Any

import pytest
from eastgate.insight.errors import DumpError
from eastgate.insight.event_text import EventReader, event_line

MOVED: dict[str, Any] = {
    "id": 2, "at": "2026-03-04T09:12:01.000+00:00", "kind": "loads", "subject": "c", "before": [100, 0],
    "after": [93, 7], "cause": "10.0.0.1:80 ejected", "moved": 0.33,
}  # fmt: skip


class Pages:
    name = "x"

    def __init__(self, *pages: Any) -> None:
        self._pages = list(pages)
        self.paths: list[str] = []

    def read(self, path: str) -> Any:
        self.paths.append(path)
        return self._pages.pop(0)


def test_only_what_is_new_is_read_and_a_proxy_that_began_anew_is_read_whole() -> None:
    admin = Pages(
        {"last": 2, "events": [MOVED]}, {"last": 2, "events": []}, {"last": 1, "events": []}, {"last": 1, "events": [1]}
    )
    waits: list[float] = []
    reader = EventReader(admin, "loads", sleep=waits.append)
    assert reader.read() == [MOVED]
    assert reader.wait() == [1]
    assert len(waits) == 2
    since = "/events?since=2&kind=loads"
    assert admin.paths == ["/events?kind=loads", since, since, "/events?kind=loads"]


@pytest.mark.parametrize("page", [[], {}, {"last": "x", "events": []}, {"last": 1}])
def test_another_page_is_named(page: Any) -> None:
    with pytest.raises(DumpError, match="x/events: no list of events"):
        EventReader(Pages(page)).read()


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
