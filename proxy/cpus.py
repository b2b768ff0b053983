"""How many CPUs this process may use: what its cgroup grants, within what it may be scheduled on."""

import math
import os
from pathlib import Path

from .cgroup import CGROUP, MOUNT, folders


def quota_of(group: Path) -> float | None:
    """CPUs that one cgroup (v2, or v1's cpu controller) grants; None without a limit."""
    try:
        quota, period = (group / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = (group / "cpu.cfs_quota_us").read_text().strip()
            period = (group / "cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    try:
        granted = int(quota) / int(period)
    except (ValueError, ZeroDivisionError):
        return None
    return granted if granted > 0 else None


def granted_cpus(cgroup: Path = CGROUP, mount: Path = MOUNT) -> int:
    """CPUs to use, at least 1; a part of one counts as one, as for Envoy in an Istio proxy."""
    usable = len(os.sched_getaffinity(0))
    quotas = [quota for folder in folders("cpu", cgroup, mount) if (quota := quota_of(folder)) is not None]
    return max(1, min([usable, *(math.ceil(quota) for quota in quotas)]))
