"""Values of decoded fields that both resource decoders check alike. Raises ValueError in words for an operator."""

from collections.abc import Mapping
from typing import Any


def seconds(message: Mapping[str, Any], name: str, default: float, *, positive: bool = False) -> float:
    """The Duration `name` in seconds, `default` when absent; negative ones, and 0 if `positive`, raise ValueError."""
    text = message.get(name)
    if text is None:
        return default
    value = float(text[:-1])
    if value < 0 or (positive and value == 0):
        raise ValueError(f"{name} is {text}, must be {'above' if positive else 'at least'} 0s")
    return value


def number(message: Mapping[str, Any], name: str, default: int, *, low: int = 0, high: int = 2**32 - 1) -> int:
    """The integer `name`, `default` when absent; outside low..high it raises ValueError."""
    value = message.get(name)
    if value is None:
        return default
    if not low <= value <= high:
        limit = f"at least {low}" if value < low else f"at most {high}"
        raise ValueError(f"{name} is {value}, must be {limit}")
    return int(value)


def whole_percent(percent: float) -> int:
    """A Percent that Envoy reads as a whole number, in its very arithmetic: 29.9 is 29, and 29 is 28."""
    return int(100 * (percent / 100.0))


def type_name(typed_config: Mapping[str, Any]) -> str:
    """Message name of an Any as the wire reader answers it; empty when there is none."""
    return str(typed_config.get("@type", "")).rpartition("/")[2]
