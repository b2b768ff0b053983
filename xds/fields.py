"""Values of decoded fields, brought into the range of what holds them later on. Raises ValueError in words for an
operator.

Whatever a message says passes here before a C field, a timer or a path of the system gets it: nobody behind the
decoders checks again. Times end in 32-bit milliseconds: longer ones mean the same as LONGEST_S, 49 days; shorter ones
than SHORTEST_S are that long, for 0 may say "never".
"""

import math
import re
from collections.abc import Mapping
from typing import Any

UINT32_MAX = 2**32 - 1
PORT_MAX = 65535
LONGEST_S = 4_294_967.0
SHORTEST_S = 0.001
# What Linux takes for TCP_KEEPCNT, and for TCP_KEEPIDLE and TCP_KEEPINTVL.
KEEPALIVE_PROBES_MAX = 127
KEEPALIVE_S_MAX = 32767
# A pick draws so often at most: more choices than this find the same endpoint, and would hold up a worker.
CHOICES_MAX = 1024

# Controls, and the two other characters that end a line.
_CONTROL = re.compile("[\\x00-\\x1f\\x7f-\\x9f\u2028\u2029]")


def seconds(message: Mapping[str, Any], name: str, default: float, *, positive: bool = False) -> float:
    """The Duration `name` in seconds, `default` when absent; negative ones, and 0 if `positive`, raise ValueError."""
    text = message.get(name)
    return default if text is None else duration(name, text, positive=positive)


def duration(name: str, text: str, *, positive: bool = False) -> float:
    """The seconds of a Duration as the wire reader answers it, within what a timer can hold; see `seconds`."""
    value = float(text[:-1])
    if value < 0 or (positive and value == 0):
        raise ValueError(f"{name} is {text}, must be {'above' if positive else 'at least'} 0s")
    return min(max(value, SHORTEST_S), LONGEST_S) if value else 0.0


def number(message: Mapping[str, Any], name: str, default: int, *, low: int = 0, high: int = UINT32_MAX) -> int:
    """The integer `name`, `default` when absent; outside low..high it raises ValueError."""
    value = message.get(name)
    if value is None:
        return default
    if not low <= value <= high:
        limit = f"at least {low}" if value < low else f"at most {high}"
        raise ValueError(f"{name} is {value}, must be {limit}")
    return int(value)


def percent(message: Mapping[str, Any], name: str, default: float, *, where: str) -> float:
    """The Percent message `name`, `default` when absent; outside 0 to 100, or no number, it raises ValueError."""
    if name not in message:
        return default
    value = float(message[name].get("value", 0.0))
    if not 0 <= value <= 100:
        raise ValueError(f"{where}.{name} is {value}, must be 0 to 100")
    return value


def runtime_double(message: Mapping[str, Any], name: str, default: float) -> float:
    """The default value of the RuntimeDouble `name`, `default` when absent. Raises ValueError for what is no number."""
    if name not in message:
        return default
    value = float(message[name].get("default_value", 0.0))
    if not math.isfinite(value):
        raise ValueError(f"{name} is {value}, must be a finite number")
    return value


def clamped(message: Mapping[str, Any], name: str, *, low: int, high: int) -> int | None:
    """The integer `name` brought into low..high, None when absent: where more or less says the same."""
    value = message.get(name)
    return None if value is None else int(min(max(value, low), high))


def has_controls(text: str) -> bool:
    """Whether there are control characters, the ends of lines included."""
    return not text.isprintable() and _CONTROL.search(text) is not None


def checked_text(what: str, text: str) -> str:
    """The text. Raises ValueError for control characters in it: they cut C strings, and forge lines of a log."""
    if has_controls(text):
        raise ValueError(f"{what} {printable(text)} holds control characters")
    return text


def checked_texts(message: Mapping[str, Any], *names: str) -> None:
    """checked_text for fields of a message, with their names; lists and absent ones too."""
    for name in names:
        value = message.get(name, "")
        for text in (value,) if isinstance(value, str) else value:
            checked_text(name, text)


def printable(text: str) -> str:
    """The text for one line: what cannot be seen is escaped as Python does."""
    return text if text.isprintable() else "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)


def whole_percent(percent: float) -> int:
    """A Percent that Envoy reads as a whole number, in its very arithmetic: 29.9 is 29, and 29 is 28."""
    return int(100 * (percent / 100.0))


def type_name(typed_config: Mapping[str, Any]) -> str:
    """Message name of an Any as the wire reader answers it; empty when there is none."""
    return str(typed_config.get("@type", "")).rpartition("/")[2]
