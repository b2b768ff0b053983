"""What a proxy is to its mesh: all that differs between a gateway and a sidecar, in one frozen record."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Role:
    """``command`` starts it, and names it in the log; ``node_type`` is what istiod knows it by.

    ``routed_only``: only assignments and secrets that a route leads to are asked for. A gateway has thousands of
    clusters that nothing leads to.
    """

    command: str
    node_type: str
    routed_only: bool


GATEWAY = Role("gateway", node_type="router", routed_only=True)
SIDECAR = Role("sidecar", node_type="sidecar", routed_only=False)
