"""The order of an orderly stop, by a clock that the test owns."""

from eastgate.proxy.drain import QUIET_S, Activity, Drain, Phase


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


def test_a_process_to_which_nobody_comes_ends_at_the_next_tick() -> None:
    side = DataSide()
    side.open = 0
    side.drain.begin(100.0, exits=True, idle=True)
    side.drain.tick(100.0)
    assert side.did == ["stop", "finished"]


def test_a_drain_that_keeps_the_process_has_its_window_although_nobody_comes() -> None:
    side = DataSide()
    side.open = 0
    side.drain.begin(100.0, exits=False, idle=True)
    side.drain.tick(109.9)
    assert (side.drain.phase, side.did) == (Phase.DRAINING, [])


def test_who_came_a_moment_ago_may_come_again() -> None:
    activity = Activity()
    assert activity.is_idle(0.0, 0, 0), "nobody has ever come"
    activity.note(10.0, 1)
    assert not activity.is_idle(10.0 + QUIET_S - 0.1, 1, 0)
    assert not activity.is_idle(10.0 + QUIET_S, 1, 1), "open"
    assert activity.is_idle(10.0 + QUIET_S, 1, 0)
    assert not activity.is_idle(30.0, 2, 0), "it came unnoticed, just now"
