"""The order of an orderly stop, by a clock that the test owns."""

from eastgate.proxy.drain import Drain, Phase


class DataSide:
    """Records what a drain does to it."""

    def __init__(self) -> None:
        self.open = 3
        self.did: list[str] = []
        self.drain = Drain(
            10.0,
            stop_accepting=lambda: self.did.append("stop"),
            open_connections=lambda: self.open,
            cut=self.cut,
            finished=lambda: self.did.append("finished"),
        )

    def cut(self) -> int:
        self.did.append("cut")
        self.open = 0
        return 3


def test_drain_accepts_through_the_window_then_waits_then_cuts() -> None:
    side = DataSide()
    side.drain.begin(100.0, exits=True)
    side.drain.tick(109.9)
    assert (side.drain.phase, side.did) == (Phase.DRAINING, [])
    side.drain.tick(110.0)
    assert (side.drain.phase, side.did) == (Phase.LINGERING, ["stop"])
    side.drain.tick(119.9)
    assert side.did == ["stop"]
    side.drain.tick(120.0)
    assert (side.drain.phase, side.did) == (Phase.DONE, ["stop", "cut", "finished"])


def test_drain_ends_as_soon_as_the_last_connection_has() -> None:
    side = DataSide()
    side.drain.begin(0.0, exits=True)
    side.drain.tick(10.0)
    side.open = 0
    side.drain.tick(10.1)
    assert side.did == ["stop", "finished"]


def test_second_call_does_not_start_the_window_again() -> None:
    side = DataSide()
    side.drain.begin(0.0, exits=False)
    side.drain.begin(9.0, exits=False)
    side.drain.tick(10.0)
    assert side.did == ["stop"]


def test_skip_exit_marks_as_draining_but_never_stops() -> None:
    side = DataSide()
    side.drain.begin(0.0, exits=False, skip_stop=True)
    side.drain.tick(1000.0)
    assert (side.drain.draining, side.did) == (True, [])


def test_drain_by_admin_never_ends_the_process() -> None:
    side = DataSide()
    side.drain.stop_now(0.0)
    side.drain.tick(1000.0)
    assert side.did == ["stop"]
    side.open = 0
    side.drain.tick(1001.0)
    assert (side.drain.phase, side.did) == (Phase.DONE, ["stop"])


def test_signal_after_a_drain_by_admin_ends_the_process() -> None:
    side = DataSide()
    side.open = 0
    side.drain.stop_now(0.0)
    side.drain.tick(0.1)
    side.drain.begin(0.2, exits=True)
    assert side.did == ["stop", "finished"]
