"""What a snapshot changes, compiled and not yet visible; and what came of it the last time."""

from collections.abc import Mapping
from dataclasses import field
from types import MappingProxyType

from eastgate.xds.errors import XdsError
from eastgate.xds.record import record

from .compiled import CompiledCluster, CompiledListener

Key = tuple[str, str]
"""(kind, name) of a resource."""


@record(frozen=False)
class Changes:
    """One snapshot's. ``attempts``: what was tried, for its outcome; ``acquired``: names of all slots that were taken.

    ``rejected`` says why, and whether the last good one serves on. ``viewed``: clusters of which routes ask for subsets
    that they did not ask for before, perhaps. ``local_cluster``: name of the local cluster, if there is one.
    """

    local_cluster: str = ""
    clusters: dict[str, CompiledCluster] = field(default_factory=dict)
    listeners: dict[str, CompiledListener] = field(default_factory=dict)
    errors: list[XdsError] = field(default_factory=list)
    rejected: dict[Key, tuple[str, bool]] = field(default_factory=dict)
    attempts: dict[Key, tuple[object, ...]] = field(default_factory=dict)
    acquired: list[str] = field(default_factory=list)
    viewed: set[str] = field(default_factory=set)

    def reject(self, kind: str, name: str, reason: str, *, kept: bool, culprit: tuple[str, str] | None = None) -> None:
        """`culprit`: (kind, name) of the resource that is at fault, unless it is the one that is rejected."""
        self.errors.append(XdsError(*(culprit or (kind, name)), reason))
        self.rejected[kind, name] = (reason, kept)


def fault_reason(error: Exception | None) -> str:
    """What istiod is told of a fault of ours."""
    return f"it cannot be compiled: {type(error).__name__}: {error}"


class Outcomes:
    """What was tried last of each resource: the same input is not compiled, and complained about, at each push."""

    def __init__(self) -> None:
        self._rejected: dict[Key, str] = {}
        self._attempted: dict[Key, tuple[object, ...]] = {}

    @property
    def rejected(self) -> Mapping[Key, str]:
        """Reasons, of resources whose newest version could not be compiled."""
        return MappingProxyType(self._rejected)

    def was_rejected(self, kind: str, name: str, version: tuple[object, ...]) -> bool:
        """Whether this very input was rejected before."""
        before = self._attempted.get((kind, name), ())
        same = len(before) == len(version) and all(
            a is b or (isinstance(a, bytes) and a == b) for a, b in zip(before, version, strict=True)
        )
        return same and (kind, name) in self._rejected

    def note(self, changes: Changes) -> None:
        self._attempted.update(changes.attempts)
        for key in changes.attempts:
            if key not in changes.rejected:
                self._rejected.pop(key, None)
        self._rejected.update({key: reason for key, (reason, _) in changes.rejected.items()})

    def forget(self, kind: str, name: str) -> None:
        self._rejected.pop((kind, name), None)
        self._attempted.pop((kind, name), None)
