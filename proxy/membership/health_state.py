"""What checks make of one endpoint's health, and when it is checked again. Sans-io: knows no clock, opens no socket.

Rules, as in Envoy (source/extensions/health_checkers/common/health_checker_base_impl.cc):
- an endpoint begins as failed. The very first check decides alone if it passes; after that `healthy_threshold` passes
  in a row make a failed endpoint healthy, and `unhealthy_threshold` failures in a row a healthy one failed;
- an HTTP status that is neither expected nor retriable fails a healthy endpoint at once;
- the next check comes an interval after the last one ended. Which one: `unhealthy_interval` after a failed check,
  `interval` after a passed one; while a threshold is being counted up to, their edge intervals; and as long as the
  cluster never had a connection, `no_traffic_interval` (`no_traffic_healthy_interval` after a pass that left nothing
  open);
- jitter is added to that: a random part of `interval_jitter_percent` of it, and of `interval_jitter`.

Worked example, thresholds 2 and 3: F P P F F F P P is failed (first), failed (1 of 2), healthy, healthy, healthy,
failed, failed, healthy. P first would have been healthy at once.
"""

import enum
from collections.abc import Callable

from eastgate.xds.record import record
from eastgate.xds.resources import HealthCheck

# A check is not started more often than this, whatever the jitter.
SHORTEST_S = 0.001


class Transition(enum.Enum):
    """What a check changed. PENDING: a threshold is being counted up to."""

    UNCHANGED = enum.auto()
    PENDING = enum.auto()
    CHANGED = enum.auto()


@record(frozen=False)
class HealthCounters:
    """Active health checks of one cluster; ``healthy`` and ``degraded`` are endpoints, now."""

    attempt: int = 0
    success: int = 0
    failure: int = 0
    network_failure: int = 0
    verify_cluster: int = 0
    healthy: int = 0
    degraded: int = 0


@record(frozen=False)
class EndpointHealth:
    """Health of one endpoint by its checks. ``failed`` keeps it out; ``pending``: it waits for its first check.

    ``degraded``: its last answer said so. ``withdrawn``: it answered that it wants no traffic at all, not even in
    panic's arithmetic. ``timed_out``: its last failure was a timeout.
    """

    failed: bool = True
    pending: bool = False
    degraded: bool = False
    withdrawn: bool = False
    timed_out: bool = False
    first_check: bool = True
    passes: int = 0
    failures: int = 0

    def passed(self, check: HealthCheck, *, degraded: bool = False) -> Transition:
        """Note a check that passed."""
        self.failures = 0
        transition = Transition.UNCHANGED
        if self.failed:
            self.passes += 1
            if self.first_check or self.passes == check.healthy_threshold:
                self.failed = self.timed_out = self.withdrawn = False
                transition = Transition.CHANGED
            else:
                transition = Transition.PENDING
        if self.degraded != degraded:
            self.degraded = degraded
            transition = Transition.CHANGED
        return self._checked(transition)

    def failed_check(
        self, check: HealthCheck, *, at_once: bool = False, timed_out: bool = False, withdrawn: bool = False
    ) -> Transition:
        """Note a check that failed. `at_once`: whatever the threshold says."""
        self.passes = 0
        transition = Transition.UNCHANGED
        if not self.failed:
            self.failures += 1
            if at_once or self.failures == check.unhealthy_threshold:
                self.failed = True
                transition = Transition.CHANGED
            else:
                transition = Transition.PENDING
        self.timed_out = timed_out and self.failed
        if withdrawn and not self.withdrawn:
            self.withdrawn = True
            transition = Transition.CHANGED
        return self._checked(transition)

    def _checked(self, transition: Transition) -> Transition:
        self.first_check = False
        if self.pending:
            # Pass or fail: from now on it counts among the endpoints.
            self.pending = False
            return Transition.CHANGED
        return transition


class Intervals:
    """When an endpoint is checked next. ``random`` answers numbers from 0 up to 1."""

    def __init__(self, check: HealthCheck, random: Callable[[], float]) -> None:
        self._check = check
        self._random = random

    def first(self) -> float:
        """Seconds before the first check."""
        if not self._check.initial_jitter_s:
            return 0.0
        return self._with_jitter(0.0, self._check.initial_jitter_s)

    def following(self, transition: Transition, *, passed: bool, has_traffic: bool) -> float:
        """Seconds to the next check after one that ended so. `has_traffic`: the cluster ever had a connection."""
        check, pending = self._check, transition is Transition.PENDING
        if not has_traffic:
            wait_s = check.no_traffic_healthy_interval_s if passed and not pending else check.no_traffic_interval_s
        elif passed:
            wait_s = check.healthy_edge_interval_s if pending else check.interval_s
        else:
            wait_s = check.unhealthy_edge_interval_s if pending else check.unhealthy_interval_s
        return self._with_jitter(wait_s, check.interval_jitter_s)

    def _with_jitter(self, wait_s: float, jitter_s: float) -> float:
        share = self._check.interval_jitter_percent * wait_s / 100
        return max(SHORTEST_S, wait_s + self._random() * share + self._random() * jitter_s)
