"""cluster_manager.upstream_bind_config of a bootstrap: what sockets to endpoints come from where no cluster says.

In the words of the message that clusters bring by CDS, so that both are read by one reader.
"""

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from eastgate.xds.bind_config import Bind, decode_bind_config
from eastgate.xds.schema import ENUMS

from .bootstrap_reader import Reader

FIELD = "upstream_bind_config"
_DATAGRAM = b"\x12\x00"
_ENUMS = {
    "state": ENUMS["envoy.config.core.v3.SocketOptionSocketState"],
    "ip_version": ENUMS["envoy.config.core.v3.SocketOptionSocketIpVersion"],
}


def upstream_bind(reader: Reader, manager: Mapping[str, Any]) -> tuple[Bind | None, tuple[str, ...]]:
    """That of the bootstrap, None without one, and what of it is not honoured. `manager`: the cluster_manager.

    Raises BootstrapError for what Envoy does not start with either.
    """
    if reader.get(manager, FIELD) is None:
        return None, ()
    config, path = reader.mapping(manager, "cluster_manager", FIELD), f"cluster_manager.{FIELD}"
    message: dict[str, Any] = {"socket_options": _options(reader, config, path)}
    if source := reader.optional(config, path, "source_address"):
        message["source_address"] = _address(reader, source, f"{path}.source_address")
    freebind = reader.get(config, "freebind")
    if freebind is not None and not isinstance(freebind, bool):
        raise reader.fail(f"{path}.freebind", f"must be true or false, not {freebind!r}")
    message["freebind"] = freebind
    message["extra_source_addresses"] = [
        _extra(reader, one, at) for at, one in reader.items(config, path, "extra_source_addresses")
    ]
    message["additional_source_addresses"] = [
        _address(reader, one, at) for at, one in reader.items(config, path, "additional_source_addresses")
    ]
    message["local_address_selector"] = reader.optional(config, path, "local_address_selector")
    if selector := message["local_address_selector"]:
        message["local_address_selector"] = {
            "name": reader.text(selector, f"{path}.local_address_selector", "name"),
            "typed_config": reader.optional(selector, f"{path}.local_address_selector", "typed_config"),
        }
    warnings: list[str] = []
    try:
        bind = decode_bind_config(message, warnings)
    except ValueError as error:
        raise reader.fail("cluster_manager", str(error)) from None
    return bind, tuple(f"cluster_manager.{one}" for one in warnings)


def _address(reader: Reader, said: Mapping[str, Any], path: str) -> dict[str, Any]:
    return {
        "address": reader.text(said, path, "address", required=True),
        "port_value": reader.number(said, path, "port_value"),
    }


def _extra(reader: Reader, said: Mapping[str, Any], path: str) -> dict[str, Any]:
    found: dict[str, Any] = {"address": _address(reader, reader.mapping(said, path, "address"), f"{path}.address")}
    if reader.get(said, "socket_options") is not None:
        own = reader.mapping(said, path, "socket_options")
        found["socket_options"] = {"socket_options": _options(reader, own, f"{path}.socket_options")}
    return found


def _options(reader: Reader, parent: Mapping[str, Any], path: str) -> list[dict[str, Any]]:
    found = []
    for at, said in reader.items(parent, path, "socket_options"):
        one: dict[str, Any] = {"description": reader.text(said, at, "description")}
        for name in ("level", "name", "int_value"):
            if reader.get(said, name) is not None:
                one[name] = reader.number(said, at, name)
        if (value := reader.text(said, at, "buf_value")) and "int_value" not in one:
            one["buf_value"] = _bytes(reader, f"{at}.buf_value", value)
        for name, members in _ENUMS.items():
            one[name] = _enum(reader, f"{at}.{name}", reader.get(said, name) or 0, members)
        if reader.get(reader.optional(said, at, "type"), "datagram") is not None:
            one["type"] = _DATAGRAM
        found.append(one)
    return found


def _bytes(reader: Reader, path: str, value: str) -> bytes:
    try:
        return base64.b64decode(value, altchars=b"-_" if {"-", "_"} & set(value) else None, validate=True)
    except (binascii.Error, ValueError):
        raise reader.fail(path, f"must be base64, not {value!r}") from None


def _enum(reader: Reader, path: str, value: object, members: Mapping[int, str]) -> str:
    name = members.get(value) if isinstance(value, int) else value
    if name not in members.values():
        raise reader.fail(path, f"must be one of {', '.join(members.values())}, not {value!r}")
    return str(name)
