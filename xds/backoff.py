"""How long to wait before the next attempt to reach istiod. Holds no timer."""

import random

FIRST_S = 0.5
# A gateway must follow within ten seconds of istiod's return, however long it was away: two of them may pass until an
# attempt is given up that sent its last SYN in vain.
LONGEST_S = 6.0


class Backoff:
    """Exponential delays with jitter: each is drawn between half of the current interval and all of it.

    `first_s` doubles up to `longest_s`; after reset() it begins anew.
    """

    def __init__(self, rng: random.Random, *, first_s: float = FIRST_S, longest_s: float = LONGEST_S) -> None:
        self._rng = rng
        self._first_s = first_s
        self._longest_s = longest_s
        self._interval_s = first_s

    def next_delay_s(self) -> float:
        """Seconds to wait now; the next call answers about twice as much."""
        interval_s = self._interval_s
        self._interval_s = min(self._longest_s, 2 * interval_s)
        return interval_s * self._rng.uniform(0.5, 1.0)

    def reset(self) -> None:
        """Forget earlier failures."""
        self._interval_s = self._first_s
