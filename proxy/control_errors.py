"""Faults of the control side: caught at the edge of the part that they happen in, so that the data side serves on.

A fault is an exception that nobody foresaw. What a resource, a peer or a disk can do wrong is foreseen and has errors
and messages of its own. A fault costs the step in which it happened, and nothing else: it is logged, counted by part,
and kept for /debug/xds.
"""

import asyncio
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from enum import StrEnum
from functools import wraps
from traceback import walk_tb
from types import MappingProxyType, TracebackType
from typing import Any, ParamSpec, Self

from eastgate.xds.log import Log
from eastgate.xds.record import record

KEPT = 32
# Places of a fault that are kept, innermost first.
PLACES = 5
# How long a part that ended with a fault rests before it is begun anew.
REST_S = 1.0

Given = ParamSpec("Given")


class Part(StrEnum):
    """What has an edge. The values are public names: of counters, and in the log."""

    STREAM = "stream"
    DECODE = "decode"
    COMPILE = "compile"
    PUBLISH = "publish"
    DNS = "dns"
    HEALTH = "health"
    OUTLIER = "outlier"
    SLOW_START = "slow_start"
    EVENTS = "events"
    ADMIN = "admin"
    DISK = "disk"
    OTHER = "other"
    """A callback of the loop, or a task that nobody waited for."""


@record
class ControlError:
    """One fault. ``about``: what it happened to, perhaps empty; ``places``: `module:line function`, innermost first;
    ``times``: how often just this has happened, at last at ``at``.
    """

    part: Part
    about: str
    cause: str
    places: tuple[str, ...]
    at: datetime
    times: int = 1

    @property
    def place(self) -> str:
        return self.places[0] if self.places else ""


def places_of(trace: TracebackType | None) -> tuple[str, ...]:
    """Where an exception went through code of ours; where it was raised if nowhere."""
    every = [(str(frame.f_globals.get("__name__", "")), line, frame.f_code.co_name) for frame, line in walk_tb(trace)]
    own = [one for one in every if one[0].startswith("eastgate.")] or every[-1:]
    return tuple(f"{module}:{line} {function}" for module, line, function in own[: -PLACES - 1 : -1])


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The exceptions of a group, or the one that there is."""
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from leaves(one)
    else:
        yield error


class Edge:
    """What `with` needs of ControlErrors.guard. ``error``: the fault that ended the block."""

    __slots__ = ("_about", "_errors", "_part", "error")

    def __init__(self, errors: "ControlErrors", part: Part, about: str) -> None:
        self.error: Exception | None = None
        self._errors = errors
        self._part = part
        self._about = about

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> bool:
        # Not what ends a task, a generator or the process.
        if not isinstance(error, Exception):
            return False
        self.error = error
        self._errors.note(self._part, error, self._about)
        return True


class ControlErrors:
    """The faults of one process. `note` may be called by any thread."""

    def __init__(self) -> None:
        self._latest: dict[tuple[object, ...], ControlError] = {}
        self._counts: Counter[Part] = Counter(dict.fromkeys(Part, 0))
        self._lock = threading.Lock()
        self._log = Log("control")

    @property
    def counts(self) -> Mapping[Part, int]:
        """Faults since the start, by part; every part is there."""
        return MappingProxyType(self._counts)

    @property
    def latest(self) -> Sequence[ControlError]:
        """The newest KEPT faults that differ, the newest last."""
        with self._lock:
            return tuple(self._latest.values())

    def note(self, part: Part, error: BaseException, about: str = "", *, shown: bool = True) -> None:
        """A fault that the caller has caught. The same again is counted, and logged ever more seldom.

        `shown`: whether the text of the exception may be; it could hold what is secret.
        """
        for one in leaves(error):
            cause = f"{type(one).__name__}: {one}" if shown and str(one) else type(one).__name__
            new = ControlError(part, about, cause, places_of(one.__traceback__), datetime.now(UTC))
            # With what it is about, a fault that hits each of 5,000 clusters would be 5,000 lines.
            key = (part, type(one), new.place)
            with self._lock:
                self._counts[part] += 1
                known = self._latest.pop(key, None)
                times = known.times + 1 if known is not None else 1
                self._latest[key] = replace(new, times=times)
                if len(self._latest) > KEPT:
                    del self._latest[next(iter(self._latest))]
            if times & (times - 1) == 0:
                self._tell(self._latest.get(key, new))

    def _tell(self, fault: ControlError) -> None:
        fields = {"part": fault.part.value, "about": fault.about, "cause": fault.cause, "place": fault.place}
        shown = {name: value for name, value in fields.items() if value}
        self._log.error("fault of the control side, last good serves on", **shown, times=fault.times)

    def guard(self, part: Part, about: str = "") -> "Edge":
        """The edge of a part: a fault inside ends the block, and no more."""
        return Edge(self, part, about)

    def guarded(self, part: Part, function: Callable[Given, object]) -> Callable[Given, None]:
        """The function, whose faults are noted instead of raised."""

        @wraps(function)
        def wrapped(*arguments: Given.args, **keywords: Given.kwargs) -> None:
            with self.guard(part):
                function(*arguments, **keywords)

        return wrapped

    async def keep(self, part: Part, run: Callable[[], Awaitable[None]], about: str = "") -> None:
        """Run until it ends by itself or is cancelled: after a fault anew, a moment later."""
        while True:
            with self.guard(part, about):
                await run()
                return
            await asyncio.sleep(REST_S)

    def note_of_xds(self, part: str, error: Exception, shown: bool) -> None:
        """An observer of the faults of `xds`."""
        self.note(Part(part), error, shown=shown)

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Note what the loop's callbacks raise, and tasks whose exception nobody asked for."""
        loop.set_exception_handler(self._unclaimed)

    def _unclaimed(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        # What a client of ours does to its socket is no fault, and neither is a message without an exception.
        if isinstance(error, OSError):
            self._log.debug("connection lost", reason=str(error))
        elif isinstance(error, Exception):
            self.note(Part.OTHER, error, str(context.get("message", "")))
        else:
            self._log.warning("event loop", message=str(context.get("message", "")))
