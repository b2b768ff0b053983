"""How many CPUs this process may use: what its cgroup grants, within what it may be scheduled on."""

import math
import os
from pathlib import Path

CGROUP = Path("/proc/self/cgroup")
MOUNT = Path("/sys/fs/cgroup")


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


def cgroup_folders(membership: str, mount: Path) -> list[Path]:
    """Folders of the cgroup in /proc/self/cgroup and of all above it, each of which may limit."""
    folders = []
    for line in membership.splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = mount / "cpu" if controllers else mount
        own = root / path.lstrip("/")
        # Inside a container the path may be the host's, and the mount the container's own.
        folders += [own, *(above for above in own.parents if above.is_relative_to(root)), root]
    return list(dict.fromkeys(folders))


def granted_cpus(cgroup: Path = CGROUP, mount: Path = MOUNT) -> int:
    """CPUs to use, at least 1; a part of one counts as one, as for Envoy in an Istio proxy."""
    usable = len(os.sched_getaffinity(0))
    try:
        membership = cgroup.read_text()
    except OSError:
        return usable
    quotas = [quota for folder in cgroup_folders(membership, mount) if (quota := quota_of(folder)) is not None]
    return max(1, min([usable, *(math.ceil(quota) for quota in quotas)]))
