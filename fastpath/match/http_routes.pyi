from typing import NamedTuple, final

from .http_specs import HttpRoutesSpec

class ChosenRoute(NamedTuple):
    """What becomes of a request: `found`, `more`, `nobody`, `unknown` or `closed`; of the first its cluster slot."""

    choice: str
    slot: int = -1

@final
class HttpRoutes:
    """Virtual hosts and routes, compiled; immutable."""

    @staticmethod
    def compile(spec: HttpRoutesSpec) -> HttpRoutes:
        """Raises ValueError for two equal domains and for weights that are not positive or sum past 2^32-1."""
    def choose(self, data: bytes, draw: int = 0) -> ChosenRoute:
        """Of a first request of HTTP/1, whose head up to its host is complete."""
    def choose_authority(self, authority: str, draw: int = 0) -> ChosenRoute:
        """Of a connection of HTTP/2 that wants to go to this address."""
