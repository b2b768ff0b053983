"""Where the kernel says what a cgroup grants: folders of v2, or of one controller of v1. Reads no limits itself."""

from collections.abc import Iterator
from pathlib import Path

CGROUP = Path("/proc/self/cgroup")
MOUNT = Path("/sys/fs/cgroup")


def folders(controller: str, cgroup: Path = CGROUP, mount: Path = MOUNT) -> list[Path]:
    """Folders of this process's cgroup and of all above it, each of which may limit; the nearest first."""
    try:
        membership = cgroup.read_text()
    except OSError:
        return []
    return list(dict.fromkeys(_folders(membership, mount, controller)))


def _folders(membership: str, mount: Path, controller: str) -> Iterator[Path]:
    for line in membership.splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers and controller not in controllers.split(","):
            continue
        root = mount / controller if controllers else mount
        own = root / path.lstrip("/")
        # Inside a container the path may be the host's, and the mount the container's own.
        yield from (own, *(above for above in own.parents if above.is_relative_to(root)), root)
