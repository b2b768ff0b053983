"""Edges: what is caught, what is not, and how it is told, counted and kept."""

import asyncio
import threading

import pytest
from eastgate.proxy import control_errors
from eastgate.proxy.compile.listener_plan import view_name
from eastgate.proxy.control_errors import KEPT, ControlErrors, Part


def told(caplog: pytest.LogCaptureFixture) -> list[dict[str, object]]:
    return [record.__dict__["fields"] for record in caplog.records]


def test_fault_ends_the_block_and_is_logged_counted_and_kept(caplog: pytest.LogCaptureFixture) -> None:
    errors = ControlErrors()
    with errors.guard(Part.DNS, "echo") as edge:
        raise LookupError("no such thing")
    assert isinstance(edge.error, LookupError)
    assert errors.counts[Part.DNS] == 1
    assert sum(errors.counts.values()) == 1
    (fault,) = errors.latest
    assert (fault.part, fault.about, fault.cause, fault.times) == (Part.DNS, "echo", "LookupError: no such thing", 1)
    (fields,) = told(caplog)
    assert fields == {
        "part": "dns",
        "about": "echo",
        "cause": "LookupError: no such thing",
        "place": fault.place,
        "times": 1,
    }


def test_place_is_where_our_code_was_left() -> None:
    errors = ControlErrors()
    with errors.guard(Part.COMPILE):
        # json, not we, raises for what it cannot encode.
        view_name("echo", ((object(), "1"),))  # type: ignore[arg-type]
    (fault,) = errors.latest
    assert fault.place.startswith("eastgate.proxy.compile.listener_plan:")
    assert fault.place.endswith(" view_name")


def test_block_without_fault_has_no_error() -> None:
    errors = ControlErrors()
    with errors.guard(Part.DNS) as edge:
        pass
    assert (edge.error, errors.latest) == (None, ())


@pytest.mark.parametrize("end", [asyncio.CancelledError, GeneratorExit, KeyboardInterrupt, SystemExit])
def test_what_ends_tasks_generators_and_the_process_passes(end: type[BaseException]) -> None:
    errors = ControlErrors()
    with pytest.raises(end), errors.guard(Part.DNS):
        raise end
    assert errors.latest == ()


def test_same_fault_is_counted_and_told_ever_more_seldom(caplog: pytest.LogCaptureFixture) -> None:
    errors = ControlErrors()
    for number in range(10):
        with errors.guard(Part.DNS, f"cluster {number}"):
            raise LookupError(str(number))
    assert errors.counts[Part.DNS] == 10
    (fault,) = errors.latest
    assert (fault.times, fault.about, fault.cause) == (10, "cluster 9", "LookupError: 9")
    assert [fields["times"] for fields in told(caplog)] == [1, 2, 4, 8]


def test_only_the_newest_faults_are_kept() -> None:
    errors = ControlErrors()
    kinds = [type(f"Error{number}", (Exception,), {}) for number in range(KEPT + 1)]
    for kind in kinds:
        with errors.guard(Part.DISK):
            raise kind
    assert [fault.cause for fault in errors.latest] == [kind.__name__ for kind in kinds[1:]]
    assert errors.counts[Part.DISK] == KEPT + 1


def test_group_is_told_by_its_exceptions() -> None:
    errors = ControlErrors()
    with errors.guard(Part.DNS):
        raise ExceptionGroup("two", [LookupError("one"), ExceptionGroup("more", [OSError("other")])])
    assert [fault.cause for fault in errors.latest] == ["LookupError: one", "OSError: other"]


def test_guarded_function_gets_its_arguments() -> None:
    errors = ControlErrors()
    got: list[tuple[int, int]] = []

    def take(one: int, *, other: int) -> None:
        got.append((one, other))
        raise ValueError(one)

    errors.guarded(Part.OUTLIER, take)(1, other=2)
    assert got == [(1, 2)]
    assert errors.counts[Part.OUTLIER] == 1


async def test_kept_part_is_begun_anew_after_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_errors, "REST_S", 0.0)
    errors = ControlErrors()
    begun = 0

    async def run() -> None:
        nonlocal begun
        begun += 1
        if begun < 3:
            raise LookupError(begun)

    await errors.keep(Part.HEALTH, run)
    assert (begun, errors.counts[Part.HEALTH]) == (3, 2)


async def test_loop_tells_of_callbacks_and_of_tasks_nobody_waited_for() -> None:
    errors = ControlErrors()
    loop = asyncio.get_running_loop()
    errors.watch(loop)
    try:

        def fail() -> None:
            raise LookupError("in a callback")

        async def task() -> None:
            raise LookupError("in a task")

        loop.call_soon(fail)
        forgotten = loop.create_task(task())
        await asyncio.wait([forgotten])
        del forgotten
        for _ in range(3):
            await asyncio.sleep(0)
    finally:
        loop.set_exception_handler(None)
    assert {fault.cause for fault in errors.latest} == {"LookupError: in a callback", "LookupError: in a task"}
    assert errors.counts[Part.OTHER] == 2


def test_threads_may_tell() -> None:
    errors = ControlErrors()

    def fail() -> None:
        for _ in range(1000):
            errors.note(Part.DISK, LookupError())

    threads = [threading.Thread(target=fail) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors.counts[Part.DISK] == 4000
    assert errors.latest[0].times == 4000
