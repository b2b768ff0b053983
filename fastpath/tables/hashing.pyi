def xxh64(data: bytes, seed: int = 0) -> int:
    """XXH64 of some bytes."""

def murmur2(data: bytes) -> int:
    """64-bit MurmurHash2, with the seed of libstdc++."""

def source_ip_hash(address: str) -> int:
    """Hash of a client by its IP address. ValueError for a text that is none."""
