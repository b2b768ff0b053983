"""Who we are, as istiod wants to hear it: node id and metadata. A wrong kind of value is found here, not by istiod."""

import json
import re
from collections.abc import Mapping
from dataclasses import field, replace
from ipaddress import ip_address
from typing import Any

from .errors import XdsError
from .record import record
from .resources import Locality

NODE_TYPES = ("router", "sidecar")
USER_AGENT = "eastgate"
# What pilot-agent says when nobody told it.
DEFAULT_CLUSTER_ID = "Kubernetes"
# The Istio that the gateway is tested with, as pilot-agent tells its own: istioctl lists it, EnvoyFilters match it, and
# istiod leaves out what older proxies cannot read. Without one it warns, and takes the proxy for the newest.
DEFAULT_ISTIO_VERSION = "1.31.0"
_ENVIRONMENT_PREFIX = "ISTIO_META_"
_JSON_PREFIX = "ISTIO_METAJSON_"

# Kinds that istiod parses into; one value of another kind ends the stream. Keys not listed are plain strings when
# istiod knows them, and harmless otherwise.
_BOOLEAN_TEXT = frozenset({
    "ENABLE_HBONE", "DISABLE_HBONE_SEND", "DNS_CAPTURE", "DNS_AUTO_ALLOCATE", "ENABLE_SELF_DISCOVERY",
    "METADATA_DISCOVERY", "OUTBOUND_LISTENER_EXACT_BALANCE", "INBOUND_LISTENER_EXACT_BALANCE", "UNPRIVILEGED_POD",
})  # fmt: skip
_COMMA_LISTS = frozenset({"INSTANCE_IPS", "REQUESTED_NETWORK_VIEW"})
_TEXT_MAPS = frozenset({"LABELS", "STATIC_LABELS", "ANNOTATIONS", "PLATFORM_METADATA"})
_NUMBERS = frozenset({"ENVOY_STATUS_PORT", "ENVOY_PROMETHEUS_PORT"})
_OBJECTS = frozenset({"PROXY_CONFIG"})
_TEXTS = frozenset({
    "NAMESPACE", "CLUSTER_ID", "NETWORK", "ISTIO_VERSION", "SERVICE_ACCOUNT", "INTERCEPTION_MODE", "GENERATOR",
    "MESH_ID", "WORKLOAD_NAME", "OWNER", "APP_CONTAINERS", "IDLE_TIMEOUT", "POD_PORTS", "NAME", "NODE_NAME",
})  # fmt: skip
_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")


def _check(key: str, value: Any) -> None:
    """Raise XdsError unless `value` is of the JSON kind that istiod parses `key` into."""
    if key in _BOOLEAN_TEXT:
        fits, wanted = value in ("true", "false"), 'the string "true" or "false"'
    elif key in _COMMA_LISTS:
        fits, wanted = isinstance(value, str), "a comma separated string"
    elif key in _TEXT_MAPS:
        fits = isinstance(value, Mapping) and all(isinstance(one, str) for pair in value.items() for one in pair)
        wanted = "a map of strings to strings"
    elif key in _NUMBERS:
        fits, wanted = isinstance(value, int | float) and not isinstance(value, bool), "a number"
    elif key in _OBJECTS:
        fits, wanted = isinstance(value, Mapping), "an object"
    elif key in _TEXTS:
        fits, wanted = isinstance(value, str), "a string"
    else:
        return
    if not fits:
        raise XdsError("node metadata", key, f"it must be {wanted}, not {value!r}")


def _check_text(name: str, value: Any) -> None:
    """Raise XdsError for text that UTF-8 cannot hold: bytes of a flag or variable, half a surrogate pair in JSON."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise XdsError("node", name, f"{value!r} is no text in UTF-8") from None
    elif isinstance(value, Mapping):
        for key, one in value.items():
            _check_text(f"key of {name}", key)
            _check_text(str(key), one)
    elif isinstance(value, list | tuple):
        for one in value:
            _check_text(name, one)


@record(kw_only=True)
class NodeIdentity:
    """One xDS node. Checked when made: XdsError names the setting that istiod would refuse.

    ``type``: router or sidecar; ``ips``: all addresses of the pod, the first is the identity; ``dns_domain``: empty for
    ``<namespace>.svc.cluster.local``; ``network_view``: networks whose endpoints a gateway wants; ``meta``: further
    metadata, which wins over what the other fields say; ``istio_version``: empty to leave it out. ``id``: given to take
    a node id as it is. ``cluster``: empty for one made of the label `app`, or of the pod's name, and the namespace.
    """

    type: str
    ips: tuple[str, ...]
    pod_name: str
    namespace: str
    dns_domain: str = ""
    cluster_id: str = DEFAULT_CLUSTER_ID
    network: str = ""
    network_view: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    locality: Locality = field(default_factory=Locality)
    service_account: str = ""
    istio_version: str = DEFAULT_ISTIO_VERSION
    meta: Mapping[str, Any] = field(default_factory=dict)
    id: str = ""
    cluster: str = ""

    def __post_init__(self) -> None:
        if self.type not in NODE_TYPES:
            raise XdsError("node", "type", f"{self.type!r} is none of {', '.join(NODE_TYPES)}")
        if not self.ips:
            raise XdsError("node", "address", "no IP address")
        for address in self.ips:
            try:
                ip_address(address)
            except ValueError:
                raise XdsError("node", "address", f"{address!r} is not an IP address") from None
        for name, value in (("pod name", self.pod_name), ("namespace", self.namespace)):
            if not _LABEL.fullmatch(value):
                raise XdsError("node", name, f"{value!r} is not a Kubernetes name")
        if not self.id:
            domain = self.dns_domain or f"{self.namespace}.svc.cluster.local"
            object.__setattr__(
                self, "id", "~".join((self.type, self.ips[0], f"{self.pod_name}.{self.namespace}", domain))
            )
        parts = self.id.split("~")
        if len(parts) != 4 or parts[0] != self.type:
            raise XdsError("node", "id", f"{self.id!r} is not {self.type}~<ip>~<pod>.<namespace>~<dns domain>")
        for key, value in self.metadata.items():
            _check(key, value)
        _check_text("node", self.message)

    @property
    def metadata(self) -> dict[str, Any]:
        """The metadata Struct as plain values."""
        values: dict[str, Any] = {
            "NAME": self.pod_name,
            "NAMESPACE": self.namespace,
            "CLUSTER_ID": self.cluster_id,
            "INSTANCE_IPS": ",".join(self.ips),
            "INTERCEPTION_MODE": "REDIRECT",
            # Without a field in it istioctl proxy-status does not list the proxy.
            "PROXY_CONFIG": {"discoveryAddress": "istiod.istio-system.svc:15012"},
        }
        optional = {
            "NETWORK": self.network,
            "REQUESTED_NETWORK_VIEW": ",".join(self.network_view),
            "LABELS": dict(self.labels),
            "SERVICE_ACCOUNT": self.service_account,
            "ISTIO_VERSION": self.istio_version,
        }
        values.update({key: value for key, value in optional.items() if value})
        values.update(self.meta)
        return values

    @property
    def message(self) -> dict[str, Any]:
        """The Node message, in the shape that message.encode takes."""
        node: dict[str, Any] = {
            "id": self.id,
            "cluster": self.cluster or f"{self.labels.get('app', self.pod_name)}.{self.namespace}",
            "metadata": self.metadata,
            "user_agent_name": USER_AGENT,
        }
        if any(self.locality):
            node["locality"] = {name: value for name, value in self.locality._asdict().items() if value}
        return node

    @property
    def warning(self) -> str:
        """What is likely a mistake in these settings, as a sentence; empty when nothing is."""
        metadata = self.metadata
        if self.type == "router" and metadata.get("NETWORK") and not metadata.get("REQUESTED_NETWORK_VIEW"):
            return (
                "REQUESTED_NETWORK_VIEW is empty on a router of network "
                f"{metadata['NETWORK']}: connections may be handed on to other gateways, and back"
            )
        return ""

    def with_environment(self, environment: Mapping[str, str]) -> "NodeIdentity":
        """Add metadata from ISTIO_META_<KEY> and ISTIO_METAJSON_<KEY>, as pilot-agent reads them.

        What this identity already says wins over the environment. Raises XdsError for JSON that is none.
        """
        said = set(self.metadata) - {"INTERCEPTION_MODE", "PROXY_CONFIG", "LABELS"}
        if self.cluster_id == DEFAULT_CLUSTER_ID:
            said.discard("CLUSTER_ID")
        if self.istio_version == DEFAULT_ISTIO_VERSION and "ISTIO_VERSION" not in self.meta:
            said.discard("ISTIO_VERSION")
        found: dict[str, Any] = {}
        for variable, text in sorted(environment.items()):
            if variable.startswith(_ENVIRONMENT_PREFIX):
                key = variable.removeprefix(_ENVIRONMENT_PREFIX)
                found[key] = _number(key, text) if key in _NUMBERS else text
            elif variable.startswith(_JSON_PREFIX):
                try:
                    found[variable.removeprefix(_JSON_PREFIX)] = json.loads(text)
                except ValueError as error:
                    raise XdsError("node metadata", variable, f"not JSON: {error}") from None
        if self.labels and isinstance(found.get("LABELS"), dict):
            found["LABELS"] = {**found["LABELS"], **self.labels}
        return replace(self, meta={**{key: value for key, value in found.items() if key not in said}, **self.meta})


def _number(key: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise XdsError("node metadata", key, f"it must be a number, not {text!r}") from None
