from array import array
from collections.abc import Generator
from typing import final

from .chains import ChainSpec

@final
class RouteBuilder:
    """Collects the chains of one table (`add`), then writes its words (`steps`)."""

    def __init__(self, seed: int) -> None: ...
    @property
    def chains(self) -> list[ChainSpec]:
        """Those that were added, in their order."""
    @property
    def words(self) -> array[int]:
        """What a RouteTable reads; 32 bits each."""
    @property
    def name_nodes(self) -> list[int]:
        """Offsets of the nodes that decide by server name."""
    @property
    def asks_destination(self) -> bool:
        """Whether anything depends on the address that connections were going to."""
    def add(self, chain: ChainSpec) -> None:
        """Raises ValueError naming the chain and the field whose value is none."""
    def steps(self) -> Generator[None, None, int]:
        """Write all in slices: a generator that returns the reference of the root.

        Raises ValueError, naming the chains, for equal criteria of two, unless one of them refuses: that one is taken.
        """
    def decide_in_slices(self, kind: int, indexes: list[int]) -> Generator[None, None, int]:
        """The same for some chains from one level on: a generator that returns a reference."""
