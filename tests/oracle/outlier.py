"""Envoy's outlier detection, event by event and host by host (outlier_detection_impl.cc). Times are milliseconds.

One object per host with every counter that Envoy has; nothing is skipped because it is known to be zero.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

KINDS = ("consecutive_5xx", "consecutive_gateway_failure", "consecutive_local_origin_failure")
KINDS += ("success_rate", "local_origin_success_rate", "failure_percentage", "local_origin_failure_percentage")


@dataclass
class Bucket:
    """Results of one interval."""

    success: int = 0
    total: int = 0


@dataclass
class Host:
    """DetectorHostMonitorImpl and the host's flag."""

    ejected: bool = False
    consecutive_5xx: int = 0
    gateway: int = 0
    local_origin: int = 0
    backoff: int = 0
    jitter: int = 0
    last_ejection: int | None = None
    last_unejection: int | None = None
    external: Bucket = field(default_factory=Bucket)
    local: Bucket = field(default_factory=Bucket)


class Detector:
    """DetectorImpl. `settings` by the names of the API, times in milliseconds; `draws` are the random numbers."""

    def __init__(self, settings: Mapping[str, int], draws: Iterator[int]) -> None:
        self.settings = settings
        self.draws = draws
        self.hosts: dict[str, Host] = {}
        self.overflow = 0
        self.detected = dict.fromkeys(KINDS, 0)
        self.enforced = dict.fromkeys(KINDS, 0)

    def add(self, name: str) -> None:
        self.hosts[name] = Host()

    def remove(self, name: str) -> None:
        del self.hosts[name]

    def connected(self, name: str) -> None:
        """LOCAL_ORIGIN_CONNECT_SUCCESS_FINAL."""
        host = self.hosts[name]
        if self.settings["split_external_local_origin_errors"]:
            host.local.success += 1
            host.local.total += 1
            host.local_origin = 0
        else:
            host.external.success += 1
            host.external.total += 1
            host.consecutive_5xx = 0
            host.gateway = 0

    def failed(self, name: str, now: int) -> None:
        """LOCAL_ORIGIN_CONNECT_FAILED or LOCAL_ORIGIN_TIMEOUT."""
        host = self.hosts[name]
        if self.settings["split_external_local_origin_errors"]:
            host.local.total += 1
            host.local_origin += 1
            if host.local_origin == self.settings["consecutive_local_origin_failure"]:
                self.on_consecutive(host, "consecutive_local_origin_failure", now)
            return
        host.external.total += 1
        host.gateway += 1
        if host.gateway == self.settings["consecutive_gateway_failure"]:
            self.on_consecutive(host, "consecutive_gateway_failure", now)
        host.consecutive_5xx += 1
        if host.consecutive_5xx == self.settings["consecutive_5xx"]:
            self.on_consecutive(host, "consecutive_5xx", now)

    def on_consecutive(self, host: Host, kind: str, now: int) -> None:
        if host.ejected:
            return
        self.detected[kind] += 1
        self.eject(host, kind, now)
        if kind == "consecutive_5xx":
            host.consecutive_5xx = 0
        elif kind == "consecutive_gateway_failure":
            host.gateway = 0
        else:
            host.local_origin = 0

    def eject(self, host: Host, kind: str, now: int) -> None:
        active = sum(one.ejected for one in self.hosts.values())
        allowed = 100.0 * (active + 1) / len(self.hosts) <= min(100, self.settings["max_ejection_percent"])
        if self.settings["always_eject_one_host"]:
            allowed = active == 0 or allowed
        if not allowed:
            self.overflow += 1
            return
        if not self.is_enabled(self.settings[f"enforcing_{ENFORCING.get(kind, kind)}"]):
            return
        self.enforced[kind] += 1
        host.ejected = True
        host.last_ejection = now
        host.jitter = next(self.draws) % (self.settings["max_ejection_time_jitter"] + 1)
        base, longest = self.settings["base_ejection_time"], self.settings["max_ejection_time"]
        if host.backoff * base < longest + base:
            host.backoff += 1

    def is_enabled(self, percent: int) -> bool:
        """Runtime featureEnabled: certain cases draw nothing."""
        if percent <= 0:
            return False
        return percent >= 100 or next(self.draws) % 100 < percent

    def tick(self, now: int) -> None:
        """onIntervalTimer."""
        finished: dict[str, tuple[Bucket, Bucket]] = {}
        for name, host in self.hosts.items():
            if host.ejected:
                assert host.last_ejection is not None
                time = min(self.settings["base_ejection_time"] * host.backoff, self.settings["max_ejection_time"])
                if time + host.jitter <= now - host.last_ejection:
                    host.ejected = False
                    host.consecutive_5xx = host.gateway = host.local_origin = 0
                    host.last_unejection = now
            finished[name] = (host.external, host.local)
            host.external, host.local = Bucket(), Bucket()
        self.judge({name: both[0] for name, both in finished.items()}, "success_rate", "failure_percentage", now)
        local = {name: both[1] for name, both in finished.items()}
        self.judge(local, "local_origin_success_rate", "local_origin_failure_percentage", now)
        for host in self.hosts.values():
            back = not host.ejected and host.last_unejection is not None
            if back and now - host.last_unejection >= self.settings["interval"]:
                host.backoff = max(0, host.backoff - 1)

    def judge(self, buckets: Mapping[str, Bucket], by_rate: str, by_percentage: str, now: int) -> None:
        """processSuccessRateEjections."""
        settings = self.settings
        too_few = len(self.hosts) < settings["success_rate_minimum_hosts"]
        if too_few and len(self.hosts) < settings["failure_percentage_minimum_hosts"]:
            return
        rates = {
            name: (100.0 * bucket.success / bucket.total, bucket.total)
            for name, bucket in buckets.items()
            if bucket.total and not self.hosts[name].ejected
        }
        judged = {
            name: rate for name, (rate, total) in rates.items() if total >= settings["success_rate_request_volume"]
        }
        if judged and len(judged) >= settings["success_rate_minimum_hosts"]:
            _, threshold = rate_threshold(list(judged.values()), settings["success_rate_stdev_factor"])
            for name, rate in judged.items():
                if rate < threshold:
                    self.detected[by_rate] += 1
                    self.eject(self.hosts[name], by_rate, now)
        volume = settings["failure_percentage_request_volume"]
        judged = {name: rate for name, (rate, total) in rates.items() if total >= volume}
        if judged and len(judged) >= settings["failure_percentage_minimum_hosts"]:
            for name, rate in judged.items():
                if 100.0 - rate >= settings["failure_percentage_threshold"]:
                    self.detected[by_percentage] += 1
                    # Envoy only asserts that it is not out already.
                    if not self.hosts[name].ejected:
                        self.eject(self.hosts[name], by_percentage, now)


# Where the setting is not named as the statistic is.
ENFORCING = {"local_origin_failure_percentage": "failure_percentage_local_origin"}


def rate_threshold(rates: list[float], stdev_factor: int) -> tuple[float, float]:
    """(mean, rate below which a host is an outlier)."""
    mean = sum(rates) / len(rates)
    variance = sum((rate - mean) ** 2 for rate in rates) / len(rates)
    return mean, mean - stdev_factor / 1000.0 * variance**0.5
