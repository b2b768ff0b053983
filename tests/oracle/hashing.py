"""The hashes that Envoy's ring and Maglev tables are made with, written out from their definitions."""

from ipaddress import ip_address

WORD = (1 << 64) - 1
P1, P2, P3, P4, P5 = (
    0x9E3779B185EBCA87,
    0xC2B2AE3D27D4EB4F,
    0x165667B19E3779F9,
    0x85EBCA77C2B2AE63,
    0x27D4EB2F165667C5,
)
MURMUR = 0xC6A4A7935BD1E995
MURMUR_SEED = 0xC70F6907


def _rotate(value: int, bits: int) -> int:
    return ((value << bits) | (value >> (64 - bits))) & WORD


def _round(lane: int, word: int) -> int:
    return _rotate((lane + word * P2) & WORD, 31) * P1 & WORD


def xxh64(data: bytes, seed: int = 0) -> int:
    """XXH64."""
    at, end = 0, len(data)
    if end >= 32:
        lanes = [(seed + P1 + P2) & WORD, (seed + P2) & WORD, seed, (seed - P1) & WORD]
        while at + 32 <= end:
            for lane in range(4):
                lanes[lane] = _round(lanes[lane], int.from_bytes(data[at : at + 8], "little"))
                at += 8
        total = sum(_rotate(value, bits) for value, bits in zip(lanes, (1, 7, 12, 18), strict=True)) & WORD
        for value in lanes:
            total = ((total ^ _round(0, value)) * P1 + P4) & WORD
    else:
        total = (seed + P5) & WORD
    total = (total + end) & WORD
    while at + 8 <= end:
        total = (_rotate(total ^ _round(0, int.from_bytes(data[at : at + 8], "little")), 27) * P1 + P4) & WORD
        at += 8
    if at + 4 <= end:
        total = (_rotate(total ^ (int.from_bytes(data[at : at + 4], "little") * P1 & WORD), 23) * P2 + P3) & WORD
        at += 4
    for byte in data[at:]:
        total = _rotate(total ^ (byte * P5 & WORD), 11) * P1 & WORD
    total = (total ^ total >> 33) * P2 & WORD
    total = (total ^ total >> 29) * P3 & WORD
    return total ^ total >> 32


def murmur2(data: bytes, seed: int = MURMUR_SEED) -> int:
    """MurmurHash2 in its 64-bit form, as libstdc++ hashes strings."""

    def mixed(value: int) -> int:
        return value ^ value >> 47

    total = seed ^ (len(data) * MURMUR & WORD)
    whole = len(data) & ~7
    for at in range(0, whole, 8):
        word = mixed(int.from_bytes(data[at : at + 8], "little") * MURMUR & WORD) * MURMUR & WORD
        total = (total ^ word) * MURMUR & WORD
    if len(data) > whole:
        total = (total ^ int.from_bytes(data[whole:], "little")) * MURMUR & WORD
    return mixed(mixed(total) * MURMUR & WORD)


def source_ip(address: str) -> int:
    """Hash of a connection by the address that it comes from."""
    return xxh64(str(ip_address(address)).encode())
