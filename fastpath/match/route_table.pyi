from collections.abc import Generator, Sequence
from typing import final

from .chains import NO_INSPECTION, ChainSpec, Inspection
from .facts import Observed

@final
class RouteTable:
    """Filter chains of one listener, compiled; immutable."""

    @staticmethod
    def compile(
        chains: Sequence[ChainSpec],
        default_chain: ChainSpec | None = None,
        inspection: Inspection = NO_INSPECTION,
        *,
        guards_names: bool = True,
    ) -> RouteTable:
        """`guards_names`: names of mesh services are served by the rules of a gateway only; see route_nodes.

        Raises ValueError for two chains with the same criteria, bad wildcards, non-positive weights.

        Of two chains with the same criteria one of which refuses, that one is taken.
        """
    @staticmethod
    def steps(
        chains: Sequence[ChainSpec],
        default_chain: ChainSpec | None = None,
        inspection: Inspection = NO_INSPECTION,
        *,
        guards_names: bool = True,
    ) -> Generator[None, None, RouteTable]:
        """`compile` in slices of some 0.2 ms: a generator that returns the table."""
    @property
    def asks_destination(self) -> bool:
        """Whether anything depends on the address that connections were going to."""
    def match(self, observed: Observed) -> int:
        """Index into the chains given to compile (len(chains) for the default chain), or a negative Reason."""
    def target(self, chain: int, draw: int) -> int:
        """Cluster slot that a connection of `chain` goes to when the worker's generator answers `draw` (64 bits).

        `chain` as `match` numbers them. Raises ValueError for a chain that there is not, or one that only refuses.
        """
    def spin(self, server_names: Sequence[str], count: int, *, application_protocols: Sequence[str] = ()) -> int:
        """Match `count` hellos natively, `server_names` in turn, and return how many are served. For benchmarks."""
    def nearest_server_name(self, server_name: str) -> str:
        """The known exact name with the fewest changed letters, at most one in five; empty when none is near.

        For admin; never on the hot path.
        """
    def __len__(self) -> int: ...
    def memory(self) -> int:
        """Bytes of this table."""
