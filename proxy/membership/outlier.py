"""One cluster's outlier detection: which endpoints are ejected, when they come back, and what is counted.

Sans-io: it is told of crossed thresholds and of the volumes of each interval, and answers what changes; the clock and
the random numbers are the caller's. Rules and their order are Envoy's (outlier_detection_impl.cc).

An ejection needs room, 100 * (ejected + 1) / endpoints <= max_ejection_percent over all priorities, and then the draw
of its type's enforcing percentage. It ends at the first tick at which base * multiplier (max_ejection_time at most)
and the jitter have passed. The multiplier grows by one with each ejection, and falls by one with each tick at which
the endpoint has been back for an interval.

Worked example: base 10 s, interval 10 s; ejected at 0, 10 and 30 s, the endpoint is back at 10, 30 and 60 s.
"""

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import field
from enum import Enum
from math import sqrt
from typing import Generic, NamedTuple, TypeVar

from eastgate.xds.record import record
from eastgate.xds.resources import OutlierDetection

Host = TypeVar("Host", bound=Hashable)


class EjectionType(Enum):
    """Why an endpoint is ejected. Names are those of Envoy's event log, values those of its statistics."""

    CONSECUTIVE_5XX = "consecutive_5xx"
    CONSECUTIVE_GATEWAY_FAILURE = "consecutive_gateway_failure"
    CONSECUTIVE_LOCAL_ORIGIN_FAILURE = "consecutive_local_origin_failure"
    SUCCESS_RATE = "success_rate"
    SUCCESS_RATE_LOCAL_ORIGIN = "local_origin_success_rate"
    FAILURE_PERCENTAGE = "failure_percentage"
    FAILURE_PERCENTAGE_LOCAL_ORIGIN = "local_origin_failure_percentage"


class Volume(NamedTuple, Generic[Host]):
    """Connects of one endpoint that ended within an interval."""

    host: Host
    successes: int
    total: int


class Verdict(NamedTuple, Generic[Host]):
    """One endpoint ejected or back, or one that would have been ejected had the draw not spared it."""

    host: Host
    ejected: bool
    """False: it is back"""
    type: EjectionType | None = None
    enforced: bool = True
    ejections: int = 0
    """how often this endpoint has been ejected"""
    since_last_ms: int | None = None
    """since it came back, or for one that comes back since it was ejected"""
    success_rate: float = -1.0
    average: float = -1.0
    threshold: float = -1.0


@record(frozen=False)
class Counters:
    """Statistics of one cluster under Envoy's names; they outlive a change of its configuration."""

    active: int = 0
    enforced_total: int = 0
    overflow: int = 0
    detected: dict[EjectionType, int] = field(default_factory=lambda: dict.fromkeys(EjectionType, 0))
    enforced: dict[EjectionType, int] = field(default_factory=lambda: dict.fromkeys(EjectionType, 0))
    # Names that Envoy calls deprecated.
    total: int = 0
    consecutive_5xx: int = 0
    success_rate: int = 0


class RateThreshold(NamedTuple):
    """Mean of the success rates of a cluster, and the rate below which an endpoint is an outlier. Percent."""

    average: float
    threshold: float


NOT_EVALUATED = RateThreshold(-1.0, -1.0)


def rate_threshold(rates: Sequence[float], stdev_factor: int) -> RateThreshold:
    """Threshold of the given rates; the factor is in thousandths."""
    mean = sum(rates) / len(rates)
    stdev = sqrt(sum((rate - mean) ** 2 for rate in rates) / len(rates))
    return RateThreshold(mean, mean - stdev_factor / 1000.0 * stdev)


def has_room(settings: OutlierDetection, *, ejected: int, hosts: int) -> bool:
    """Whether one more of `hosts` may be ejected."""
    if settings.always_eject_one_host and ejected == 0:
        return True
    return 100.0 * (ejected + 1) / hosts <= min(100, settings.max_ejection_percent)


@record(frozen=False)
class _Monitor:
    """What is remembered of an endpoint that has been ejected at least once. Times in milliseconds."""

    ejected_at: int | None = None
    unejected_at: int | None = None
    ejections: int = 0
    backoff: int = 0
    jitter: int = 0
    type: EjectionType | None = None


class Detector(Generic[Host]):
    """State of one cluster. Times are milliseconds of one monotonic clock; `random` gives uniform 64-bit integers."""

    def __init__(self, settings: OutlierDetection, counters: Counters, random: Callable[[], int]) -> None:
        self._settings = settings
        self._counters = counters
        self._random = random
        self._monitors: dict[Host, _Monitor] = {}
        self._hosts = 0
        self._ejected = 0
        self.interval_ms = max(1, round(settings.interval_s * 1000))
        self._base_ms = round(settings.base_ejection_time_s * 1000)
        self._max_ms = round(settings.max_ejection_time_s * 1000)
        self._jitter_ms = round(settings.max_ejection_time_jitter_s * 1000)
        self.external = NOT_EVALUATED
        self.local_origin = NOT_EVALUATED
        self.success_rates: dict[Host, float] = {}
        """Of the last interval, by endpoint; those with too few connects are not in it."""

    @property
    def split(self) -> bool:
        """Whether failed connects are of local origin, with thresholds and rates of their own."""
        return self._settings.split_external_local_origin_errors

    @property
    def known(self) -> tuple[Host, ...]:
        """Endpoints that something is remembered of."""
        return tuple(self._monitors)

    def is_ejected(self, host: Host) -> bool:
        return (monitor := self._monitors.get(host)) is not None and monitor.ejected_at is not None

    def backoff(self, host: Host) -> int:
        """Multiplier of the last ejection, less what has been taken back since."""
        return self._monitors[host].backoff if host in self._monitors else 0

    def set_hosts(self, count: int, gone: Iterable[Host] = ()) -> None:
        """The cluster has `count` endpoints from now on. Those in `gone` are forgotten: should they return, as new."""
        self._hosts = count
        for host in gone:
            monitor = self._monitors.pop(host, None)
            self.success_rates.pop(host, None)
            if monitor is not None and monitor.ejected_at is not None:
                self._count_active(-1)

    def close(self) -> None:
        """Forget all: the cluster is gone or begins anew."""
        self.set_hosts(0, self.known)

    def crossed(self, host: Host, kind: EjectionType, now: int) -> Verdict[Host] | None:
        """A threshold of failures in a row was crossed. The caller begins to count anew unless the host is ejected."""
        if self.is_ejected(host):
            return None
        self._counters.detected[kind] += 1
        if kind is EjectionType.CONSECUTIVE_5XX:
            self._counters.consecutive_5xx += 1
        return self._eject(host, kind, now)

    def health_check_passed(self, host: Host, now: int) -> Verdict[Host] | None:
        """An active health check found the endpoint healthy: it comes back at once, unless the settings say no."""
        if not self.is_ejected(host) or not self._settings.successful_active_health_check_uneject_host:
            return None
        return self._uneject(host, now)

    def tick(
        self, now: int, external: Sequence[Volume[Host]] = (), local_origin: Sequence[Volume[Host]] = ()
    ) -> list[Verdict[Host]]:
        """The end of an interval. Volumes in the order of endpoints; those without any connect may be left out."""
        verdicts = [
            self._uneject(host, now)
            for host, monitor in self._monitors.items()
            if monitor.ejected_at is not None and now - monitor.ejected_at >= self._ejection_ms(monitor)
        ]
        self.success_rates.clear()
        self.external = self._judge_rates(
            now, external, EjectionType.SUCCESS_RATE, EjectionType.FAILURE_PERCENTAGE, verdicts
        )
        self.local_origin = self._judge_rates(
            now,
            local_origin,
            EjectionType.SUCCESS_RATE_LOCAL_ORIGIN,
            EjectionType.FAILURE_PERCENTAGE_LOCAL_ORIGIN,
            verdicts,
        )
        for monitor in self._monitors.values():
            back = monitor.ejected_at is None and monitor.unejected_at is not None
            if back and now - (monitor.unejected_at or 0) >= self.interval_ms:
                monitor.backoff = max(0, monitor.backoff - 1)
        return verdicts

    def _ejection_ms(self, monitor: _Monitor) -> int:
        return min(self._base_ms * monitor.backoff, self._max_ms) + monitor.jitter

    def _count_active(self, change: int) -> None:
        self._ejected += change
        self._counters.active += change

    def _is_enforced(self, kind: EjectionType) -> bool:
        percent = min(_enforcing(self._settings, kind), 100)
        if percent in (0, 100):
            return percent == 100
        return self._random() % 100 < percent

    def _eject(
        self, host: Host, kind: EjectionType, now: int, rates: tuple[float, float, float] = (-1.0, -1.0, -1.0)
    ) -> Verdict[Host] | None:
        if not has_room(self._settings, ejected=self._ejected, hosts=self._hosts):
            self._counters.overflow += 1
            return None
        if kind in (EjectionType.CONSECUTIVE_5XX, EjectionType.SUCCESS_RATE):
            self._counters.total += 1
        enforced = self._is_enforced(kind)
        monitor = self._monitors.get(host) or _Monitor()
        since = None if monitor.unejected_at is None else now - monitor.unejected_at
        if enforced:
            self._monitors[host] = monitor
            self._count_active(1)
            self._counters.enforced_total += 1
            self._counters.enforced[kind] += 1
            monitor.ejected_at = now
            monitor.ejections += 1
            monitor.type = kind
            monitor.jitter = self._random() % (self._jitter_ms + 1)
            if monitor.backoff * self._base_ms < self._max_ms + self._base_ms:
                monitor.backoff += 1
        return Verdict(host, True, kind, enforced, monitor.ejections, since, *rates)

    def _uneject(self, host: Host, now: int) -> Verdict[Host]:
        monitor = self._monitors[host]
        since = now - (monitor.ejected_at or 0)
        monitor.ejected_at = None
        monitor.unejected_at = now
        self._count_active(-1)
        return Verdict(host, False, monitor.type, True, monitor.ejections, since)

    def _judge_rates(
        self,
        now: int,
        volumes: Sequence[Volume[Host]],
        by_rate: EjectionType,
        by_percentage: EjectionType,
        verdicts: list[Verdict[Host]],
    ) -> RateThreshold:
        settings = self._settings
        if self._hosts < min(settings.success_rate_minimum_hosts, settings.failure_percentage_minimum_hosts):
            return NOT_EVALUATED
        taking_part = [volume for volume in volumes if volume.total and not self.is_ejected(volume.host)]
        rates = {volume.host: 100.0 * volume.successes / volume.total for volume in taking_part}
        least = min(settings.success_rate_request_volume, settings.failure_percentage_request_volume)
        self.success_rates |= {volume.host: rates[volume.host] for volume in taking_part if volume.total >= least}
        found = NOT_EVALUATED
        judged = [volume.host for volume in taking_part if volume.total >= settings.success_rate_request_volume]
        if judged and len(judged) >= settings.success_rate_minimum_hosts:
            found = rate_threshold([rates[host] for host in judged], settings.success_rate_stdev_factor)
            for host in judged:
                if rates[host] < found.threshold:
                    self._counters.success_rate += 1
                    self._judge(host, by_rate, now, (rates[host], *found), verdicts)
        judged = [volume.host for volume in taking_part if volume.total >= settings.failure_percentage_request_volume]
        if judged and len(judged) >= settings.failure_percentage_minimum_hosts:
            for host in judged:
                if 100.0 - rates[host] >= settings.failure_percentage_threshold:
                    self._judge(host, by_percentage, now, (rates[host], -1.0, -1.0), verdicts)
        return found

    def _judge(
        self,
        host: Host,
        kind: EjectionType,
        now: int,
        rates: tuple[float, float, float],
        verdicts: list[Verdict[Host]],
    ) -> None:
        self._counters.detected[kind] += 1
        # Ejected a moment ago for its success rate: a second ejection would count it twice for good.
        if self.is_ejected(host):
            return
        verdict = self._eject(host, kind, now, rates)
        if verdict is not None:
            verdicts.append(verdict)


def _enforcing(settings: OutlierDetection, kind: EjectionType) -> int:
    return {
        EjectionType.CONSECUTIVE_5XX: settings.enforcing_consecutive_5xx,
        EjectionType.CONSECUTIVE_GATEWAY_FAILURE: settings.enforcing_consecutive_gateway_failure,
        EjectionType.CONSECUTIVE_LOCAL_ORIGIN_FAILURE: settings.enforcing_consecutive_local_origin_failure,
        EjectionType.SUCCESS_RATE: settings.enforcing_success_rate,
        EjectionType.SUCCESS_RATE_LOCAL_ORIGIN: settings.enforcing_local_origin_success_rate,
        EjectionType.FAILURE_PERCENTAGE: settings.enforcing_failure_percentage,
        EjectionType.FAILURE_PERCENTAGE_LOCAL_ORIGIN: settings.enforcing_failure_percentage_local_origin,
    }[kind]
