"""What ends by itself unless it is said again, and when. Knows no clock: times are seconds of whoever asks."""

from collections.abc import Collection
from enum import Enum
from typing import NamedTuple


class Kind(Enum):
    """Why something ends: a resource's ttl, an assignment's endpoint_stale_after, a first fetch's timeout."""

    TTL = "ttl"
    STALE = "endpoint_stale_after"
    FETCH = "initial_fetch_timeout"


class Key(NamedTuple):
    kind: Kind
    type_url: str
    name: str


class Deadlines:
    """One time for each key."""

    def __init__(self) -> None:
        self._at_s: dict[Key, float] = {}

    def __bool__(self) -> bool:
        return bool(self._at_s)

    def set(self, key: Key, at_s: float) -> None:
        """End at this time, whatever was said before."""
        self._at_s[key] = at_s

    def begin(self, key: Key, at_s: float) -> None:
        """End at this time, unless a time is set already."""
        self._at_s.setdefault(key, at_s)

    def clear(self, key: Key) -> None:
        """Stay; a key without a time stays anyway."""
        self._at_s.pop(key, None)

    def retain(self, kind: Kind, type_url: str, names: Collection[str]) -> None:
        """Clear what has this kind and type and none of these names."""
        for key in [one for one in self._at_s if one[:2] == (kind, type_url) and one.name not in names]:
            del self._at_s[key]

    @property
    def next_s(self) -> float | None:
        """The earliest time; None when nothing ends."""
        return min(self._at_s.values(), default=None)

    def due(self, now_s: float) -> list[Key]:
        """Keys whose time has come; they are cleared."""
        found = [key for key, at_s in self._at_s.items() if at_s <= now_s]
        for key in found:
            del self._at_s[key]
        return found
