"""Filter chain matching without backtracking (Envoy: filter_chain_manager_impl.cc)."""

from collections.abc import Mapping, Sequence
from ipaddress import ip_address, ip_network
from typing import Any

Chain = Mapping[str, Any]
FIELDS = {
    "name",
    "destination_port",
    "destination_prefixes",
    "server_names",
    "transport_protocol",
    "application_protocols",
    "direct_source_prefixes",
    "source_type",
    "source_prefixes",
    "source_ports",
}
# What Envoy takes for the address of a peer that has none.
NO_ADDRESS = "255.255.255.255"


def _narrow(chains: Sequence[Chain], field: str, wanted: Sequence[Any]) -> list[Chain]:
    """Chains that name the first of `wanted` that any names; else those that do not name the field."""
    for value in wanted:
        named = [c for c in chains if value in c.get(field, ())]
        if named:
            return named
    return [c for c in chains if not c.get(field)]


def _around(chains: Sequence[Chain], field: str, address: str) -> list[str]:
    """Prefixes of the chains that hold the address, the longest first."""
    found = {prefix for c in chains for prefix in c.get(field, ()) if ip_address(address) in ip_network(prefix)}
    return sorted(found, key=lambda prefix: ip_network(prefix).prefixlen, reverse=True)


def _is_local(source: str, destination: str) -> bool:
    return source in ("127.0.0.1", "::1") or source == destination


def match(
    chains: Sequence[Chain],
    *,
    port: int = 0,
    destination: str = NO_ADDRESS,
    sni: str = "",
    transport: str = "tls",
    alpn: Sequence[str] = (),
    direct_source: str = NO_ADDRESS,
    source: str = NO_ADDRESS,
    source_port: int = 0,
) -> str | None:
    """Name of the chain, or None. Each level picks one branch and never comes back. Addresses as `ipaddress` has them,
    prefixes as text without host bits."""
    left: list[Chain] = [{**c, "ports": [c["destination_port"]] if c.get("destination_port") else []} for c in chains]
    left = [{**c, "transports": [c["transport_protocol"]] if c.get("transport_protocol") else []} for c in left]
    left = [{**c, "types": [c["source_type"]] if c.get("source_type", "ANY") != "ANY" else []} for c in left]
    left = _narrow(left, "ports", [port])
    left = _narrow(left, "destination_prefixes", _around(left, "destination_prefixes", destination))
    labels = sni.lower().split(".")
    names = [sni.lower()] + ["*." + ".".join(labels[i:]) for i in range(1, len(labels))] if sni else []
    left = _narrow(left, "server_names", names)
    left = _narrow(left, "transports", [transport])
    left = _narrow(left, "application_protocols", alpn)
    left = _narrow(left, "direct_source_prefixes", _around(left, "direct_source_prefixes", direct_source))
    left = _narrow(left, "types", ["SAME_IP_OR_LOOPBACK" if _is_local(source, destination) else "EXTERNAL"])
    left = _narrow(left, "source_prefixes", _around(left, "source_prefixes", source))
    left = _narrow(left, "source_ports", [source_port])
    return left[0]["name"] if left else None
