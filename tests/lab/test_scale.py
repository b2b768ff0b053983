"""What is measured of an istiod with many gateways, with a control plane of ours in its place."""

import json
import threading
from typing import Any

import pytest

from lab import scale
from lab.__main__ import scale as command
from lab.errors import LabError
from tests.support import messages
from tests.support.recordings import EDS
from tests.support.replay_ads import ReplayThread

MARKER = messages.sni("marker")


class Meter:
    """In the place of istiod's process: each look at it costs a millisecond."""

    def __init__(self) -> None:
        self._looks = 0

    def cpu_s(self) -> float:
        self._looks += 1
        return self._looks / 1000

    def rss_mib(self) -> float:
        return 64.0


NAMED = {MARKER: [messages.At(("127.0.0.1", scale.PORTS[0]))], messages.sni("other"): []}
RESOURCES = messages.resources(NAMED, listeners=[messages.listener([messages.chain(MARKER)], port=15443)])


class Istiod(ReplayThread):
    """Serves the marker, and pushes what is written through its API."""

    def __init__(self) -> None:
        super().__init__(RESOURCES)
        self.moved: list[int] = []

    def api(self, method: str, path: str, content: Any = None) -> None:
        assert (method, path) == ("PATCH", f"{scale.API}/marker")
        [one] = content["spec"]["endpoints"]
        self.moved.append(one["ports"]["tcp"])
        self.push_some(EDS, {MARKER: messages.assignment(MARKER, [messages.At(("127.0.0.1", self.moved[-1]))])})


def measured(istiod: Istiod, count: int) -> scale.Scale:
    return scale.measured(istiod.api, istiod.address, Meter(), count)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale, "PUSHES", 3)
    monkeypatch.setattr(scale, "BETWEEN_S", 0.0)


def test_each_gateway_is_brought_up_to_date_and_hears_of_each_push() -> None:
    with Istiod() as istiod:
        seen = measured(istiod, 4)
        assert istiod.nacks == []
    assert istiod.moved == [scale.PORTS[1], scale.PORTS[0], scale.PORTS[1]]
    assert (seen.gateways, seen.refused, seen.connect_ms, seen.rss_mib) == (4, 0, 0.25, 64.0)
    assert seen.push_ms == pytest.approx(1 / 3)
    # CDS, EDS and LDS at first; a push is one assignment.
    assert seen.first_bytes > 2 * seen.push_bytes > 0
    assert 0 < seen.first_ms <= seen.last_ms
    assert json.loads(json.dumps(scale.asdict(seen))) == scale.asdict(seen)


def test_gateways_that_are_turned_away_come_again() -> None:
    with Istiod() as istiod:
        istiod.stop()
        later = threading.Timer(0.3, istiod.start)
        later.start()
        seen = measured(istiod, 2)
        later.join()
    assert seen.refused >= 2
    assert seen.all_s > 0.3


def test_gateways_that_hear_nothing_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale, "ANSWER_S", 0.2)
    with Istiod() as istiod:
        istiod.resources.clear()
        with pytest.raises(LabError, match=r": not within 0\.2 s: 2 gateways are up to date"):
            measured(istiod, 2)


@pytest.mark.parametrize("words", [["0"], ["10", "many"], ["-1"]])
def test_numbers_of_gateways_are_above_zero(words: list[str]) -> None:
    with pytest.raises(LabError, match="each a number above 0"):
        command(words)
