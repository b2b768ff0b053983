"""What a proxy is to its mesh: all that differs between a gateway and a sidecar, in one frozen record."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Role:
    """``command`` starts it, and names it in the log; ``node_type`` is what istiod knows it by.

    ``routed_only``: only assignments and secrets that a route leads to are asked for. A gateway has thousands of
    clusters that nothing leads to.
    ``guards_names``: a server name of a mesh service (``outbound_.``) is served only by a chain that names it, and only
    to clients that offer an ALPN of Istio's. To a sidecar each client of the mesh comes with such a name, and chains
    of its inbound ports name none.
    """

    command: str
    node_type: str
    routed_only: bool
    guards_names: bool


GATEWAY = Role("gateway", node_type="router", routed_only=True, guards_names=True)
SIDECAR = Role("sidecar", node_type="sidecar", routed_only=False, guards_names=False)
