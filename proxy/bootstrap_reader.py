"""Values of a bootstrap by path, with errors that name it. Field names may be snake_case or lowerCamelCase."""

import re
from collections.abc import Mapping
from typing import Any

from .errors import EastgateError


class BootstrapError(EastgateError):
    """A bootstrap that cannot be used: where it was given, which JSON path, why."""

    def __init__(self, source: str, path: str, reason: str) -> None:
        super().__init__(f"{source}: {path + ': ' if path else ''}{reason}")


class Reader:
    """Values by path, with errors that name it. ``source``: the flag and the file that they come from."""

    def __init__(self, source: str) -> None:
        self.source = source

    def fail(self, path: str, reason: str) -> BootstrapError:
        return BootstrapError(self.source, path, reason)

    def get(self, parent: Mapping[str, Any], name: str) -> Any:
        camel = re.sub(r"_(\w)", lambda match: match[1].upper(), name)
        return parent.get(name, parent.get(camel))

    def mapping(self, parent: Mapping[str, Any], path: str, name: str) -> dict[str, Any]:
        """The object `name`; missing is an error."""
        value = self.get(parent, name)
        where = f"{path}.{name}" if path else name
        if not isinstance(value, dict):
            raise self.fail(where, "is missing" if value is None else f"must be an object, not {value!r}")
        return value

    def optional(self, parent: Mapping[str, Any], path: str, name: str) -> dict[str, Any]:
        return {} if self.get(parent, name) is None else self.mapping(parent, path, name)

    def items(self, parent: Mapping[str, Any], path: str, name: str) -> list[tuple[str, dict[str, Any]]]:
        """(path, object) of each item of the list `name`; a missing list is empty."""
        value = self.get(parent, name)
        where = f"{path}.{name}" if path else name
        if value is None:
            return []
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise self.fail(where, "must be a list of objects")
        return [(f"{where}[{index}]", item) for index, item in enumerate(value)]

    def text(self, parent: Mapping[str, Any], path: str, name: str, *, required: bool = False) -> str:
        value = self.get(parent, name)
        if value is None and not required:
            return ""
        if not isinstance(value, str) or (required and not value):
            raise self.fail(f"{path}.{name}", "is missing" if not value else f"must be a string, not {value!r}")
        return value

    def number(self, parent: Mapping[str, Any], path: str, name: str) -> int:
        """A whole number, which protobuf's JSON may write as a string too."""
        value = self.get(parent, name)
        if isinstance(value, str) and value.removeprefix("-").isdecimal() and value.isascii() and len(value) < 20:
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.fail(f"{path}.{name}", "is missing" if value is None else f"must be a number, not {value!r}")
        return value

    def address(self, parent: Mapping[str, Any], path: str, *, pipes: bool) -> str:
        """HOST:PORT or unix:PATH of the Address message `address`."""
        address, where = self.mapping(parent, path, "address"), f"{path}.address"
        pipe = self.optional(address, where, "pipe")
        if pipe and pipes:
            return "unix:" + self.text(pipe, f"{where}.pipe", "path", required=True)
        socket = self.mapping(address, where, "socket_address")
        where += ".socket_address"
        host = self.text(socket, where, "address", required=True)
        port = self.get(socket, "port_value")
        if not isinstance(port, int) or isinstance(port, bool) or not 0 <= port <= 65535:
            raise self.fail(f"{where}.port_value", f"must be a port number, not {port!r}")
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
