from collections.abc import Iterable
from typing import NamedTuple, final

from .facts import Observed

class ListenerAddress(NamedTuple):
    """An address (4 or 16 bytes) that a listener stands for, under the number that is found."""

    name: str
    address: bytes
    port: int
    number: int
    ipv4_compat: bool = False
    """An IPv6 address that takes the IPv4 connections of a wildcard, or of a mapped address, as well."""

@final
class ListenerTable:
    """Numbers of listeners by address; immutable."""

    @staticmethod
    def compile(addresses: Iterable[ListenerAddress]) -> ListenerTable:
        """Raises ValueError, naming the listeners, for one address of two."""
    def find(self, observed: Observed) -> int | None:
        """Number of the listener that the destination belongs to: its exact address, else the wildcard; or None."""
    def __len__(self) -> int: ...
    def memory(self) -> int:
        """Bytes of this table."""
