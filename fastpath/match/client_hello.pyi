from typing import NamedTuple

class ParsedHello(NamedTuple):
    status: str
    """complete, need_more, not_tls, malformed, oversize or bad_sni."""
    needed: int
    version: int
    server_name: str
    application_protocols: tuple[str, ...]
    protocols_incomplete: bool = False
    """More ALPN values were offered than are kept."""

def parse(data: bytes, *, limit: int = 16384) -> ParsedHello: ...
def spin(data: bytes, count: int) -> int:
    """Parse `data` natively `count` times and return how many answers were complete. For benchmarks."""
