"""Authorization policies of filter chains, compiled; istiod sends the same ones for many chains."""

from functools import lru_cache

from eastgate.fastpath.match.policy import PolicySet
from eastgate.xds.rbac import RbacFilter
from eastgate.xds.resources import FilterChain

# Different ones; those that are in use are kept by their chains.
_KEPT = 1024


def policies_of(chain: FilterChain) -> PolicySet | None:
    """Whom the chain lets in; None for everybody. Raises ValueError for what cannot be compiled."""
    return _compiled(chain.policies) if chain.policies else None


@lru_cache(maxsize=_KEPT)
def _compiled(filters: tuple[RbacFilter, ...]) -> PolicySet:
    return PolicySet.compile(filters)


def unknown_parts(chain: FilterChain) -> tuple[str, ...]:
    """What its policies ask and nobody here knows, in sentences."""
    policies = policies_of(chain)
    if policies is None:
        return ()
    return tuple(
        f"policy {name} asks for {what}, which is not known here: DENY acts as if it were so, ALLOW as if it were not"
        for name, what in policies.unknown
    )
