from collections.abc import Iterable
from typing import NamedTuple, Protocol, final

from .facts import Observed

class Decision(NamedTuple):
    """What a PolicySet says of a connection."""

    allowed: bool
    policy: str = ""
    """Name of the one that denied; empty where none allowed it."""
    unknown: bool = False
    """It was denied for lack of knowledge."""
    shadow_allowed: int = 0
    shadow_denied: int = 0
    logged: int = 0

class _RbacFilter(Protocol):
    """See xds.rbac.RbacFilter."""

    @property
    def is_http(self) -> bool: ...

@final
class PolicySet:
    """The RBAC filters of one chain, compiled; immutable."""

    names: tuple[str, ...]
    """Of policies, by number."""
    unknown: tuple[tuple[str, str], ...]
    """(Name of a policy, what it asks that is not known.)"""
    @staticmethod
    def compile(filters: Iterable[_RbacFilter]) -> PolicySet:
        """`filters`: RBAC filters in their order, as xds.rbac has them. Raises ValueError naming the policy."""
    def judge(self, observed: Observed, peer: str | None = None) -> Decision:
        """`peer`: URI of its certificate; None: it showed none."""
