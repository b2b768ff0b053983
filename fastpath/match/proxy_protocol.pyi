from typing import NamedTuple

class ParsedProxyHeader(NamedTuple):
    status: str
    """complete, need_more or malformed."""
    needed: int
    header_length: int
    source: tuple[str, int] | None
    destination: tuple[str, int] | None

def parse(data: bytes) -> ParsedProxyHeader: ...
