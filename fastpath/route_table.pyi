from collections.abc import Sequence
from typing import final

from .chains import ChainSpec

@final
class RouteTable:
    """Filter chains of one listener, compiled; immutable."""

    @staticmethod
    def compile(chains: Sequence[ChainSpec], default_chain: ChainSpec | None = None) -> RouteTable:
        """Raises ValueError for two chains with the same criteria, bad wildcards, non-positive weights."""
    def match(
        self, *, server_name: str = "", application_protocols: Sequence[str] = (), tls: bool = True, destination_port: int = 0
    ) -> int:
        """Index into the chains given to compile (len(chains) for the default chain), or a negative Reason."""
    def nearest_server_name(self, server_name: str) -> str:
        """The known exact name most alike to an unknown one, empty when none is near. For admin; never on the hot path."""
    def __len__(self) -> int: ...
