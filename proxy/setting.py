"""One setting of a process: its flag, its environment variable, what it may be, what it says of itself.

Declared once (`given`); the command line, the validation and the documents read the declaration. Knows nothing of any
of them, and imports next to nothing: `--help` needs it too.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any

from eastgate.xds.record import record

from .errors import SettingsError

PREFIX = "EASTGATE_"
# As click reads variables of flags.
WORDS = {
    **dict.fromkeys(("1", "true", "t", "yes", "y", "on"), True),
    **dict.fromkeys(("0", "false", "f", "no", "n", "off"), False),
}


@record
class Setting:
    """What is declared of a setting. ``kind``: str, int, float, bool, or tuple where it may be repeated.

    ``low`` and ``high`` are allowed themselves. ``default_text``: where the default comes from, when it is no fixed
    value. ``more``: what the documents say beyond ``help``, in Markdown. ``part``: which commands have it.
    """

    part: str
    kind: type
    default: Any
    help: str
    metavar: str = ""
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    default_text: str = ""
    more: str = ""
    name: str = ""

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        return PREFIX + self.name.upper()

    @property
    def shown_default(self) -> str:
        """The default in words; empty where there is none worth saying."""
        if self.default_text or self.kind in (bool, tuple) or self.default in ("", None):
            return self.default_text
        return figure(self.default) if self.kind in (int, float) else str(self.default)

    @property
    def range(self) -> str:
        """What is allowed, in words; empty where anything of the kind is."""
        if self.choices:
            return ", ".join(self.choices)
        if self.low is None or self.high is None:
            return ""
        return f"{figure(self.low)} to {figure(self.high)}"

    def read(self, value: Any, said_by: str) -> Any:
        """The value of text from a flag or variable; one that has its type already is only checked.

        Raises SettingsError naming `said_by`, the value and what is allowed.
        """
        if self.kind is tuple:
            return (value,) if isinstance(value, str) else tuple(value)
        if self.choices and value not in self.choices:
            raise SettingsError(said_by, value, f"expected one of {self.range}")
        if self.kind is bool and isinstance(value, str):
            if value.lower() not in WORDS:
                raise SettingsError(said_by, value, "expected true or false")
            return WORDS[value.lower()]
        if self.kind not in (int, float):
            return value
        try:
            number = self.kind(value)
        except ValueError:
            kind = "a whole number" if self.kind is int else "a number"
            raise SettingsError(said_by, value, f"expected {kind} from {self.range}") from None
        if self.low is not None and self.high is not None and not self.low <= number <= self.high:
            raise SettingsError(said_by, value, f"must be between {figure(self.low)} and {figure(self.high)}")
        return number


def declared(part: str, default: Any, metavar: str, text: str, **more: Any) -> Any:
    """A field of a dataclass that is a setting. ``kind`` is the default's type unless it is given."""
    kind = more.pop("kind", type(default))
    found = Setting(part, kind, default, text, metavar, **more)
    return field(default=default, metadata={"setting": found})


def figure(value: float) -> str:
    """A bound as people write it: 86400, 0.01, 2^64-1."""
    if isinstance(value, int) and value >= 1 << 53:
        bits = value.bit_length()
        return f"2^{bits}-1" if value == (1 << bits) - 1 else str(value)
    return f"{value:.12g}" if math.isfinite(value) else str(value)


def parse_host_port(said_by: str, text: str, *, allow_port_zero: bool = False) -> tuple[str, int]:
    """(host, port) of HOST:PORT or [IPV6]:PORT. Raises SettingsError."""
    # Late: --help parses nothing, and loads what it does not need of nobody.
    from eastgate.xds.outside_text import may_be_host

    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise SettingsError(said_by, text, "an IPv6 address needs brackets: [::1]:15010")
    if not colon or not host:
        raise SettingsError(said_by, text, "expected HOST:PORT")
    if not may_be_host(host):
        raise SettingsError(said_by, text, f"{host!r} is no name of a host")
    low = 0 if allow_port_zero else 1
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and low <= int(port) <= 65535):
        raise SettingsError(said_by, text, f"port {port!r} is not a number from {low} to 65535")
    return host, int(port)


def join_host_port(host: str, port: int) -> str:
    """HOST:PORT, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse_pairs(said_by: str, entries: Sequence[str]) -> dict[str, str]:
    """Mapping of repeated K=V. Raises SettingsError for an entry without = or an empty or repeated key."""
    pairs: dict[str, str] = {}
    for entry in entries:
        key, equals, value = entry.partition("=")
        if not equals or not key:
            raise SettingsError(said_by, entry, "expected KEY=VALUE")
        if key in pairs:
            raise SettingsError(said_by, entry, f"{key} is given twice")
        pairs[key] = value
    return pairs


NOTHING_SAID: Mapping[str, str] = {}
