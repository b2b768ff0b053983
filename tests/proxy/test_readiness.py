from dataclasses import dataclass, field
from types import SimpleNamespace

from eastgate.proxy.admin import stats
from eastgate.proxy.readiness import Readiness


@dataclass
class Process:
    """As much of its parts as readiness looks at."""

    answered: bool = False
    waits_for_secrets: bool = False
    draining: bool = False
    warming: dict[str, set[str]] = field(default_factory=lambda: {"snapshot": set(), "dns": set(), "health": set()})
    listening: bool = True

    def readiness(self) -> Readiness:
        held = {name: SimpleNamespace(warming=frozenset(names)) for name, names in self.warming.items()}
        serving = SimpleNamespace(
            dns=held["dns"], health=held["health"], listeners=SimpleNamespace(started=self.listening)
        )
        configuration = SimpleNamespace(
            answered=self.answered,
            waits_for_secrets=self.waits_for_secrets,
            published=held["snapshot"],
        )
        return Readiness(serving, configuration, draining=lambda: self.draining)  # type: ignore[arg-type]


def test_before_an_answer_it_is_not_even_initializing() -> None:
    assert Process().readiness().state() == stats.PRE_INITIALIZING


def test_everything_that_is_waited_for_keeps_it_from_being_live() -> None:
    waiting = [
        Process(answered=True, waits_for_secrets=True),
        Process(answered=True, listening=False),
        *(
            Process(answered=True, warming={"snapshot": set(), "dns": set(), "health": set(), who: {"c"}})
            for who in ("snapshot", "dns", "health")
        ),
    ]
    assert [one.readiness().state() for one in waiting] == [stats.INITIALIZING] * 5
    assert Process(answered=True).readiness().state() == stats.LIVE


def test_live_once_is_live_until_it_drains() -> None:
    process = Process(answered=True)
    readiness = process.readiness()
    assert (readiness.initialized, readiness.state(), readiness.initialized) == (False, stats.LIVE, True)
    # A cluster that comes later and warms.
    readiness._serving.dns.warming = frozenset({"late"})  # type: ignore[misc]
    assert (readiness.state(), readiness.warming()) == (stats.LIVE, {"late"})
    process.draining = True
    assert readiness.state() == stats.DRAINING
