"""The timer wheel against the obvious model: a dictionary of deadlines."""

from eastgate.fastpath.loop.timer_wheel import replay
from hypothesis import given
from hypothesis import strategies as st

STEP = st.one_of(
    st.tuples(st.just("schedule"), st.integers(0, 7), st.one_of(st.integers(0, 200), st.integers(0, 3 * 64**4))),
    st.tuples(st.just("cancel"), st.integers(0, 7)),
    st.tuples(st.just("advance"), st.one_of(st.integers(1, 3), st.integers(1, 70), st.integers(1, 64**4))),
)


def test_timer_fires_at_its_tick_across_levels() -> None:
    steps = [("schedule", 0, 170), ("advance", 169), ("advance", 170)]
    assert replay(steps, start=100) == [(170, 0)]


def test_deadline_in_the_past_fires_at_the_next_tick() -> None:
    assert replay([("schedule", 0, 5), ("advance", 101)], start=100) == [(101, 0)]


def test_cancelled_timer_never_fires() -> None:
    assert replay([("schedule", 0, 10), ("cancel", 0), ("advance", 5000)]) == []


def test_deadline_beyond_the_wheel_is_carried_round() -> None:
    far = 2 * 64**4 + 17
    assert replay([("schedule", 0, far), ("advance", far - 1), ("advance", far)]) == [(far, 0)]


@given(st.lists(STEP, max_size=40), st.integers(0, 2**40))
def test_wheel_hands_out_exactly_what_is_due(moves: list[tuple[str, ...]], start: int) -> None:
    now, deadlines, expected, steps = start, {}, [], []
    for move in moves:
        if move[0] == "schedule":
            deadlines[move[1]] = max(start + move[2], now + 1)
            steps.append(("schedule", move[1], start + move[2]))
        elif move[0] == "cancel":
            deadlines.pop(move[1], None)
            steps.append(move)
        else:
            now += move[1]
            if deadlines:
                steps.append(("next", min(deadlines.values())))
            steps.append(("advance", now))
            expected.append((now, sorted(t for t, d in deadlines.items() if d <= now)))
            deadlines = {t: d for t, d in deadlines.items() if d > now}
    fired: dict[int, list[int]] = {}
    for tick, timer in replay(steps, start=start):
        fired.setdefault(tick, []).append(timer)
    assert {tick: sorted(timers) for tick, timers in fired.items()} == {tick: t for tick, t in expected if t}
