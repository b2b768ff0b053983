"""Which mTLS mode PeerAuthentications make of a workload's port: of the port, the workload, its namespace, the mesh.

Pure functions. Source of the rules: istio, pilot/pkg/security/authn/policy_applier.go (ComposePeerAuthentication).
Of two for the same, the older counts; UNSET is what stands above it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from .model import Mesh, Resource
from .security import PeerAuthenticationSpec

STRICT, PERMISSIVE, DISABLE = "STRICT", "PERMISSIVE", "DISABLE"
UNSET = "UNSET"


@dataclass(frozen=True, slots=True)
class PeerModes:
    """Mode of a workload, and of those of its ports that have one of their own."""

    mode: str = PERMISSIVE
    ports: Mapping[int, str] = field(default_factory=dict)

    def of(self, port: int) -> str:
        """Mode of one port."""
        return self.ports.get(port, self.mode)


def spec_of(resource: Resource) -> PeerAuthenticationSpec:
    """The spec of a PeerAuthentication."""
    assert isinstance(resource.spec, PeerAuthenticationSpec)
    return resource.spec


def _selects(resource: Resource) -> Mapping[str, str]:
    selector = spec_of(resource).selector
    return selector.match_labels if selector else {}


def _by_age(mesh: Mesh, cluster: str) -> list[Resource]:
    return sorted(mesh.of_kind("PeerAuthentication", cluster), key=lambda one: (one.created, one.name))


def namespace_mode(mesh: Mesh, cluster: str, namespace: str) -> str:
    """Mode of a namespace, else of the mesh; what PeerAuthentications of some workloads say is not asked."""
    found: dict[str, str] = {}
    for resource in _by_age(mesh, cluster):
        if not _selects(resource):
            found.setdefault(resource.namespace, spec_of(resource).mtls.mode)
    modes = (found.get(place, UNSET) for place in (namespace, mesh.config.root_namespace))
    return next((mode for mode in modes if mode != UNSET), PERMISSIVE)


def workload_modes(mesh: Mesh, cluster: str, namespace: str, labels: Mapping[str, str]) -> PeerModes:
    """Modes of a workload with these labels. One with a selector in the root namespace counts for nobody."""
    mode = namespace_mode(mesh, cluster, namespace)
    if namespace == mesh.config.root_namespace:
        return PeerModes(mode)
    for resource in _by_age(mesh, cluster):
        selected = _selects(resource)
        if resource.namespace == namespace and selected and selected.items() <= labels.items():
            spec = spec_of(resource)
            mode = mode if spec.mtls.mode == UNSET else spec.mtls.mode
            own = {port: one.mode for port, one in spec.port_level_mtls.items()}
            return PeerModes(mode, {port: mode if one == UNSET else one for port, one in own.items()})
    return PeerModes(mode)
