"""What is measured of an istiod with many gateways, with a control plane of ours in its place."""

import json
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


def test_each_gateway_is_brought_up_to_date_and_hears_of_each_push(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale, "PUSHES", 3)
    monkeypatch.setattr(scale, "BETWEEN_S", 0.0)
    moved: list[int] = []
    named = {MARKER: [messages.At(("127.0.0.1", scale.PORTS[0]))], messages.sni("other"): []}
    resources = messages.resources(named, listeners=[messages.listener([messages.chain(MARKER)], port=15443)])
    with ReplayThread(resources) as server:

        def api(_: str, path: str, content: Any = None) -> None:
            assert path.endswith("/serviceentries/marker")
            [one] = content["spec"]["endpoints"]
            moved.append(one["ports"]["tcp"])
            server.push_some(EDS, {MARKER: messages.assignment(MARKER, [messages.At(("127.0.0.1", moved[-1]))])})

        seen = scale.measured(api, server.address, Meter(), 4)  # type: ignore[arg-type]
        assert server.nacks == []
    assert moved == [scale.PORTS[1], scale.PORTS[0], scale.PORTS[1]]
    assert (seen.gateways, seen.connect_ms, seen.rss_mib) == (4, 0.25, 64.0)
    assert seen.push_ms == pytest.approx(1 / 3)
    # CDS, EDS and LDS at first; a push is one assignment.
    assert seen.first_bytes > 2 * seen.push_bytes > 0
    assert 0 < seen.first_ms <= seen.last_ms
    assert json.loads(json.dumps(scale.asdict(seen))) == scale.asdict(seen)


def test_gateways_that_hear_nothing_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale, "ANSWER_S", 0.2)
    with ReplayThread({}) as server, pytest.raises(LabError, match=r": not within 0\.2 s: 2 gateways are up to date"):
        scale.measured(lambda *_: None, server.address, Meter(), 2)  # type: ignore[arg-type]


def test_a_server_that_is_not_there_is_an_error() -> None:
    with pytest.raises(LabError, match=r"2 gateways at 127\.0\.0\.1:1: "):
        scale.measured(lambda *_: None, "127.0.0.1:1", Meter(), 2)  # type: ignore[arg-type]


@pytest.mark.parametrize("words", [["0"], ["10", "many"], ["-1"]])
def test_numbers_of_gateways_are_above_zero(words: list[str]) -> None:
    with pytest.raises(LabError, match="each a number above 0"):
        command(words)
