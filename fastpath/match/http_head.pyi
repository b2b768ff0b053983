from typing import NamedTuple

class ParsedHead(NamedTuple):
    """What the first bytes of a client say."""

    status: str
    """complete, need_more, not_http, malformed, oversize or no_authority."""
    needed: int
    protocol: str = ""
    """http/1.0, http/1.1 or h2c; with status complete."""
    authority: str = ""
    """Lower case, port included; with status complete, and empty for h2c."""

def inspect_bytes(data: bytes) -> ParsedHead:
    """Which protocol the bytes that a client has sent so far begin. Never raises for what they hold."""

def parse(data: bytes) -> ParsedHead:
    """The same with the host that HTTP/1 asks for."""

def protocols_of(protocol: str) -> tuple[str, ...]:
    """Application protocols that stand for `http/1.0`, `http/1.1` or `h2c`."""
