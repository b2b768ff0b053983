"""upstream_bind_config of a cluster: what sockets to its endpoints come from, and what is set on them.

Rules of Envoy's BindConfig: the address of the endpoint's family holds, and where none is of that family the kernel
chooses; there are at most two, one of each family. An address may have socket options of its own, which then hold
instead of those of all. What a cluster says of addresses holds instead of what the process's bootstrap says, of options
and of freebind where it says something.
Options of other states than PREBIND are set on no connection, in Envoy neither.
"""

import socket
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from .fields import PORT_MAX, number, type_name
from .socket_options import FREEBIND, decode_upstream_options

_SELECTOR = "envoy.config.upstream.local_address_selector.v3.DefaultLocalAddressSelector"


class SourceAddress(NamedTuple):
    """An address to connect from: 4 or 16 bytes in network order. Port 0: any."""

    address: bytes
    port: int

    @property
    def version(self) -> int:
        """4 or 6."""
        return 4 if len(self.address) == 4 else 6


class FamilyOption(NamedTuple):
    """A socket option of connections to endpoints of one family, 4 or 6."""

    family: int
    level: int
    name: int
    value: int


class Bind(NamedTuple):
    """How sockets are made before they connect. ``options``: of all; None: it says nothing of them. ``own``: by family,
    those that hold in their place, of an address with some of its own. ``freebind``: None: it says nothing of it.
    """

    sources: tuple[SourceAddress, ...] = ()
    options: tuple[FamilyOption, ...] | None = None
    freebind: bool | None = None
    own: tuple[tuple[int, tuple[FamilyOption, ...]], ...] = ()

    def over(self, process: "Bind") -> "Bind":
        """That of a cluster, with what it says nothing of from the process's, as in Envoy: never an address."""
        return self._replace(
            options=self.options if self.options is not None else process.options,
            freebind=self.freebind if self.freebind is not None else process.freebind,
        )

    def socket_options(self) -> tuple[FamilyOption, ...]:
        """What is set, in order, family by family."""
        own = dict(self.own)
        found: list[FamilyOption] = []
        for family in (4, 6):
            if self.freebind:
                found.append(FamilyOption(family, *FREEBIND[family], 1))
            everywhere = (one for one in self.options or () if one.family == family)
            found += own.get(family, everywhere)
        return tuple(found)


NO_BIND = Bind()


def decode_bind_config(config: Mapping[str, Any], warnings: list[str]) -> Bind:
    """The addresses, the first one first, and the options. Raises ValueError for what Envoy rejects, too."""
    selector = config.get("local_address_selector", {})
    if selector and type_name(selector.get("typed_config", {})) != _SELECTOR:
        raise ValueError(f"upstream_bind_config.local_address_selector: {selector.get('name', '')!r} is not known")
    extra = config.get("extra_source_addresses", ())
    more = [*(one.get("address", {}) for one in extra), *config.get("additional_source_addresses", ())]
    if config.get("extra_source_addresses") and config.get("additional_source_addresses"):
        raise ValueError("upstream_bind_config: both extra_source_addresses and additional_source_addresses")
    if "source_address" not in config and more:
        raise ValueError("upstream_bind_config: extra_source_addresses without source_address")
    found = [_source("source_address", config["source_address"])] if "source_address" in config else []
    found += [_source("extra_source_addresses", one) for one in more]
    if len({len(one.address) for one in found}) != len(found):
        raise ValueError("upstream_bind_config: two source addresses of one IP version")
    everywhere = config.get("socket_options", ())
    own = {
        source.version: one["socket_options"].get("socket_options", ())
        for one, source in zip(extra, found[1:], strict=False)
        if "socket_options" in one
    }
    _warn("upstream_bind_config.socket_options", everywhere, warnings)
    for said in own.values():
        _warn("upstream_bind_config.extra_source_addresses.socket_options", said, warnings)
    return Bind(
        tuple(found),
        (*_options(everywhere, 4), *_options(everywhere, 6)) if everywhere else None,
        config.get("freebind"),
        tuple((family, tuple(_options(said, family))) for family, said in own.items()),
    )


def _options(said: Sequence[Mapping[str, Any]], family: int) -> list[FamilyOption]:
    return [FamilyOption(family, *one) for one in decode_upstream_options("", said, family, [])]


def _warn(where: str, said: Sequence[Mapping[str, Any]], warnings: list[str]) -> None:
    for family in (4, 6):
        named: list[str] = []
        decode_upstream_options(where, said, family, named)
        warnings += [one for one in named if one not in warnings]


def _source(field: str, message: Mapping[str, Any]) -> SourceAddress:
    text = message.get("address", "")
    try:
        address = socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)
    except (OSError, ValueError):
        raise ValueError(f"upstream_bind_config.{field}: {text!r} is not an IP address") from None
    return SourceAddress(address, number(message, "port_value", 0, high=PORT_MAX))
