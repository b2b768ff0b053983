"""Kinds of Istio's resources that the embedded control plane applies, with their models."""

from .istio import DestinationRuleSpec
from .part import Part
from .security import AuthorizationPolicySpec, PeerAuthenticationSpec
from .service_entry import ServiceEntrySpec, WorkloadEntrySpec
from .sidecar import SidecarSpec
from .virtual_service import GatewaySpec, VirtualServiceSpec

SPECS: dict[str, type[Part]] = {
    "DestinationRule": DestinationRuleSpec,
    "VirtualService": VirtualServiceSpec,
    "Gateway": GatewaySpec,
    "PeerAuthentication": PeerAuthenticationSpec,
    "AuthorizationPolicy": AuthorizationPolicySpec,
    "ServiceEntry": ServiceEntrySpec,
    "Sidecar": SidecarSpec,
    "WorkloadEntry": WorkloadEntrySpec,
}
GROUPS = {
    "DestinationRule": "networking.istio.io",
    "VirtualService": "networking.istio.io",
    "Gateway": "networking.istio.io",
    "PeerAuthentication": "security.istio.io",
    "AuthorizationPolicy": "security.istio.io",
    "ServiceEntry": "networking.istio.io",
    "Sidecar": "networking.istio.io",
    "WorkloadEntry": "networking.istio.io",
}
