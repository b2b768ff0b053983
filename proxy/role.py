"""What a proxy is to its mesh: all that differs between a gateway and a sidecar, in one frozen record."""

from eastgate.xds.record import record


@record
class Role:
    """``command`` starts it, and names it in the log; ``node_type`` is what istiod knows it by.

    ``routed_only``: only assignments and secrets that a route leads to are asked for. A gateway has thousands of
    clusters that nothing leads to.
    ``guards_names``: a server name of a mesh service (``outbound_.``) is served only by a chain that names it, and only
    to clients that offer an ALPN of Istio's. To a sidecar each client of the mesh comes with such a name, and chains
    of its inbound ports name none.
    ``own_network_only``: unless told otherwise it asks for endpoints of its own network alone. A gateway would hand
    connections on to other gateways; a sidecar reaches other networks through theirs.
    ``namespace``: where it is unless told otherwise. Rules of istio-system hold for the whole mesh: a workload that
    took that for its own would be judged by them, and ask istiod for a name there.
    """

    command: str
    node_type: str
    routed_only: bool
    guards_names: bool
    own_network_only: bool
    namespace: str


GATEWAY = Role(
    "gateway",
    node_type="router",
    routed_only=True,
    guards_names=True,
    own_network_only=True,
    namespace="istio-system",
)
SIDECAR = Role(
    "sidecar",
    node_type="sidecar",
    routed_only=False,
    guards_names=False,
    own_network_only=False,
    namespace="default",
)
