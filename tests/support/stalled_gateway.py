"""`eastgate` whose control thread can be kept busy: SIGRTMIN stalls it in pure Python, SIGUSR2 collects a big heap.

Arguments are those of `eastgate`. Says `stalled SECONDS` or `collected SECONDS OBJECTS` on stderr when it is over.
"""

import gc
import os
import signal
import time

from eastgate.commands.cli import main

STALL_S = 2.0
HEAP_OBJECTS = 1_500_000
heap: list[list[object]] = []


def stall(*_: object) -> None:
    end = time.monotonic() + STALL_S
    while time.monotonic() < end:
        pass
    say(f"stalled {STALL_S}")


def collect(*_: object) -> None:
    """The first time, make the heap: lists of lists, which a collection has to visit one by one."""
    if not heap:
        gc.disable()
        heap.extend([[], [number]] for number in range(HEAP_OBJECTS // 3))
        gc.enable()
    begun = time.monotonic()
    gc.collect()
    say(f"collected {time.monotonic() - begun:.3f} {HEAP_OBJECTS}")


def say(line: str) -> None:
    os.write(2, f"{line}\n".encode())


if __name__ == "__main__":
    signal.signal(signal.SIGRTMIN, stall)
    signal.signal(signal.SIGUSR2, collect)
    main()
