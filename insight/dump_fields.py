"""Fields of the documents that an admin interface writes, by their proto names. Makes no model of them."""

from collections.abc import Mapping
from functools import cache
from typing import Any


@cache
def camel_case(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.title() for part in rest)


def get(message: Mapping[str, Any], name: str, default: Any = None) -> Any:
    """A field by its proto name, also when the document has the camelCase form."""
    if name in message:
        return message[name]
    return message.get(camel_case(name), default)


def number(message: Mapping[str, Any], name: str, default: int) -> int:
    """An integer, also from a wrapper that is written as a message."""
    value = get(message, name)
    if isinstance(value, Mapping):
        value = value.get("value", 0)
    return default if value is None else int(value)


def text(value: Any) -> str:
    """A name. Raises TypeError for anything but a string, which would only fail later and elsewhere."""
    if not isinstance(value, str):
        raise TypeError(f"{value!r} where a name belongs")
    return value


def flat_address(address: Mapping[str, Any]) -> str:
    """host:port, [host]:port or the path of a Unix socket; empty for an address that has neither."""
    pipe = get(address, "pipe")
    if pipe is not None:
        return text(pipe["path"])
    socket = get(address, "socket_address")
    if socket is None:
        return ""
    host, port = text(socket["address"]), int(get(socket, "port_value", 0))
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
