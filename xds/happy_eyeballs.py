"""In which order the addresses of an endpoint with several are tried. Knows no address."""

from collections.abc import Mapping
from typing import Any

from .fields import number
from .record import record

_FAMILIES = {"DEFAULT": 0, "V4": 4, "V6": 6}


@record
class HappyEyeballs:
    """``first_count`` of one family, then one of the other. ``first_family``: 4, 6, or 0 for that of the first one."""

    first_family: int = 0
    first_count: int = 1


def decode_happy_eyeballs(options: Mapping[str, Any]) -> HappyEyeballs:
    """Of the UpstreamConnectionOptions of a cluster. Raises ValueError."""
    config = options.get("happy_eyeballs_config", {})
    family = config.get("first_address_family_version", "DEFAULT")
    if family not in _FAMILIES:
        raise ValueError(f"happy_eyeballs_config.first_address_family_version is {family}, must be DEFAULT, V4 or V6")
    return HappyEyeballs(_FAMILIES[family], number(config, "first_address_family_count", 1, low=1))
