"""Whatever istiod might send: rejected by name or compiled and published, and what is good goes on serving.

EASTGATE_FUZZ_S is for how long, EASTGATE_FUZZ_SEED where to begin (`make fuzz`). A failure names the seed of its round,
with which the round alone is repeated: EASTGATE_FUZZ_SEED=N EASTGATE_FUZZ_S=0.
"""

import os
import random
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from eastgate.xds import errors
from eastgate.xds.decode import CDS, EDS, LDS, RDS, SDS, SHORT_NAMES

from ..support.control_side import ControlSide
from .configurations import Configurations

PUSHES = 40
ORDER = (CDS, EDS, LDS, RDS, SDS, EDS, CDS)
SECONDS = float(os.environ.get("EASTGATE_FUZZ_S", "20"))
# Where the bytes of one push may take so long that somebody would notice: a table of five million entries takes 0.6 s.
LONGEST_PUSH_S = 20.0


@contextmanager
def faults() -> Iterator[list[str]]:
    """Exceptions that decoders did not foresee, with where they came from."""
    found: list[str] = []

    def note(part: str, error: Exception, _: bool) -> None:
        found.append(f"{part}: {''.join(traceback.format_exception(error))}")

    errors.fault_observers.append(note)
    try:
        yield found
    finally:
        errors.fault_observers.remove(note)


def one_round(control: ControlSide, seed: int) -> int:
    """Push configurations of one seed; return how many resources were rejected."""
    made = Configurations(seed)
    rejected = 0
    for number in range(PUSHES):
        type_url = made.draw.choice(ORDER)
        resources = made.response(type_url, control.good.get(type_url))
        removed = made.removed() if made.draw.random() < 0.2 else None
        began_s = time.monotonic()
        with faults() as found:
            reasons = control.push(type_url, f"{seed}.{number}", resources, removed=removed)
            control.now_s += made.draw.choice((0, 0, 1, 100))
            control.expire()
        where = f"seed {seed}, push {number} of {SHORT_NAMES[type_url]}"
        assert not found, f"{where}: {found[0]}"
        assert control.faults() == [], f"{where}: {control.faults()}"
        assert time.monotonic() - began_s < LONGEST_PUSH_S, where
        for one in reasons:
            assert one.reason, where
            assert one.name, where
            assert (one.name + one.reason).isprintable(), where
        rejected += len(reasons)
    assert control.serves(), f"seed {seed}: the good route serves no longer"
    return rejected


@pytest.mark.timeout(SECONDS + 120)
def test_nothing_that_can_be_sent_ends_what_serves() -> None:
    seed = int(os.environ.get("EASTGATE_FUZZ_SEED", random.SystemRandom().randrange(2**32)))
    first, end_s, rejected = seed, time.monotonic() + SECONDS, 0
    with ControlSide() as control:
        while True:
            try:
                rejected += one_round(control, seed)
            except Exception as error:
                error.add_note(f"repeat it with EASTGATE_FUZZ_SEED={seed} EASTGATE_FUZZ_S=0")
                raise
            seed += 1
            if time.monotonic() >= end_s:
                break
    pushes = (seed - first) * PUSHES
    print(f"seeds {first} to {seed - 1}: {pushes} responses, {rejected} resources rejected")
    assert rejected > 0
