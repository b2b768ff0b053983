"""How long something takes that starts processes, on a machine that others use too."""

import resource
import time
from types import TracebackType
from typing import Self


class Spent:
    """`seconds` by the clock, or of CPU where that is less: what waits for other tests has not taken its time."""

    seconds: float

    def __enter__(self) -> Self:
        self._begun = time.monotonic(), _cpu_s()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        begun, cpu = self._begun
        self.seconds = min(time.monotonic() - begun, _cpu_s() - cpu)


def _cpu_s() -> float:
    """Of all processes that were started here and have ended, and those that they waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
