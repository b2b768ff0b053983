"""Filter chain matching without backtracking (Envoy: filter_chain_manager_impl.cc)."""

from collections.abc import Mapping, Sequence
from typing import Any

Chain = Mapping[str, Any]
FIELDS = {"name", "destination_port", "server_names", "transport_protocol", "application_protocols"}


def _narrow(chains: Sequence[Chain], field: str, wanted: Sequence[Any]) -> list[Chain]:
    """Chains that name the first of `wanted` that any names; else those that do not name the field."""
    for value in wanted:
        named = [c for c in chains if value in c.get(field, ())]
        if named:
            return named
    return [c for c in chains if not c.get(field)]


def match(
    chains: Sequence[Chain], *, port: int = 0, sni: str = "", transport: str = "tls", alpn: Sequence[str] = ()
) -> str | None:
    """Name of the chain, or None. Each level picks one branch and never comes back."""
    left: list[Chain] = [{**c, "ports": [c["destination_port"]] if c.get("destination_port") else []} for c in chains]
    left = [{**c, "transports": [c["transport_protocol"]] if c.get("transport_protocol") else []} for c in left]
    left = _narrow(left, "ports", [port])
    labels = sni.lower().split(".")
    names = [sni.lower()] + ["*." + ".".join(labels[i:]) for i in range(1, len(labels))] if sni else []
    left = _narrow(left, "server_names", names)
    left = _narrow(left, "transports", [transport])
    left = _narrow(left, "application_protocols", alpn)
    return left[0]["name"] if left else None
