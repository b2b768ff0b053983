from collections.abc import Collection
from typing import NamedTuple

class ParsedProxyHeader(NamedTuple):
    status: str
    """complete, need_more, malformed or absent."""
    needed: int
    header_length: int
    source: tuple[str, int] | None
    destination: tuple[str, int] | None

def parse(data: bytes, *, versions: Collection[int] = (1, 2), optional: bool = False) -> ParsedProxyHeader: ...
