"""IP families of addresses: texts as Kubernetes, Istio and mesh files have them. Pure."""

from collections.abc import Sequence
from ipaddress import IPv6Address, ip_address
from typing import Literal

Family = Literal["IPv4", "IPv6"]


def family_of(text: str) -> Family:
    """Family of an address, or of a range of addresses."""
    return "IPv6" if ":" in text else "IPv4"


def plain_address(text: str) -> str:
    """An address that is one of a pod or service. Raises ValueError."""
    found = ip_address(text)
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        raise ValueError(f"{text!r} is an IPv4 address in the clothes of IPv6: write {found.ipv4_mapped}")
    if isinstance(found, IPv6Address) and found.scope_id is not None:
        raise ValueError(f"{text!r} has a zone: it is an address on one machine alone")
    return text


def one_of_each(texts: Sequence[str], name: str) -> None:
    """Raises ValueError where two of these addresses are of one family. ``name``: what they are called."""
    families = [family_of(one) for one in texts]
    for at, family in enumerate(families):
        if family in families[:at]:
            twin = texts[families.index(family)]
            raise ValueError(f"{name} {twin} and {texts[at]} are both {family}: there is at most one of each family")


def is_global_unicast(text: str) -> bool:
    """Whether it is one that others may reach a machine at (netip.Addr.IsGlobalUnicast of Go)."""
    try:
        found = ip_address(text)
    except ValueError:
        return False
    special = found.is_unspecified or found.is_loopback or found.is_multicast or found.is_link_local
    return not special and text != "255.255.255.255"
