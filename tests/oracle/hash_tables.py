"""Ring hash, Maglev and bounded load (Envoy: thread_aware_lb_impl, ring_hash_lb, maglev_lb)."""

import math
import random
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from .hashing import WORD, murmur2, xxh64

Host = tuple[str, int]
"""key and weight"""
HASHES: dict[str, Callable[[bytes], int]] = {"xx_hash": xxh64, "murmur_hash_2": murmur2}


class ConfigurationError(Exception):
    """What Envoy refuses; the message is Envoy's."""


def normalised(
    hosts: Sequence[Host], localities: Sequence[Sequence[Host]] | None = None, weights: Sequence[int] | None = None
) -> list[tuple[str, float]]:
    """Keys and weights that sum to one; to less when a locality with a weight has no usable host."""
    if localities is None or weights is None:
        total = sum(weight for _, weight in hosts)
        return [(key, weight * 1.0 / total) for key, weight in hosts]
    found = []
    whole = sum(weights)
    for members, locality_weight in zip(localities, weights, strict=True):
        if locality_weight:
            part = float(locality_weight) / whole
            total = sum(weight for _, weight in members)
            found += [(key, weight * part / total) for key, weight in members]
    return found


class Ring:
    """Entries (hash, key) in order; ``per_host`` in the order of the hosts."""

    def __init__(
        self,
        hosts: Sequence[tuple[str, float]],
        minimum: int = 1024,
        maximum: int = 8388608,
        hash_function: str = "xx_hash",
    ) -> None:
        if minimum > maximum:
            raise ConfigurationError(f"ring hash: minimum_ring_size ({minimum}) > maximum_ring_size ({maximum})")
        least = min([1.0, *(weight for _, weight in hosts)])
        scale = min(math.ceil(least * minimum) / least, float(maximum))
        self.size = math.ceil(scale)
        self.per_host: list[int] = []
        self.entries: list[tuple[int, str]] = []
        current = target = 0.0
        for key, weight in hosts:
            target += scale * weight
            number = 0
            while current < target:
                self.entries.append((HASHES[hash_function](f"{key}_{number}".encode()), key))
                number += 1
                current += 1.0
            self.per_host.append(number)
        self.entries.sort(key=lambda entry: entry[0])

    def pick(self, value: int) -> str | None:
        """The first entry at or behind the value, around the end."""
        if not self.entries:
            return None
        at = bisect_left(self.entries, value, key=lambda entry: entry[0])
        return self.entries[at % len(self.entries)][1]


def offset_and_skip(key: str, size: int) -> tuple[int, int]:
    """Where a host begins to look for free slots, and how far it goes each time."""
    return xxh64(key.encode()) % size, xxh64(key.encode(), 1) % (size - 1) + 1


class Maglev:
    """A full table of keys."""

    def __init__(self, hosts: Sequence[tuple[str, float]], size: int = 65537) -> None:
        if size < 2 or any(size % divisor == 0 for divisor in range(2, math.isqrt(size) + 1)):
            raise ConfigurationError("The table size of maglev must be prime number")
        self.size = size
        self.table: list[str] = [""] * size if hosts else []
        self.counts: Counter[str] = Counter()
        ordered = sorted(hosts)
        largest = max([0.0, *(weight for _, weight in ordered)])
        places = [offset_and_skip(key, size) for key, _ in ordered]
        targets, nexts = [0.0] * len(ordered), [0] * len(ordered)
        filled, iteration = 0, 0
        while filled < len(self.table):
            iteration += 1
            for index, (key, weight) in enumerate(ordered):
                if filled == size:
                    break
                if iteration * weight < targets[index]:
                    continue
                targets[index] += largest
                offset, skip = places[index]
                while self.table[(offset + skip * nexts[index]) % size]:
                    nexts[index] += 1
                self.table[(offset + skip * nexts[index]) % size] = key
                nexts[index] += 1
                self.counts[key] += 1
                filled += 1

    def pick(self, value: int, attempt: int = 0) -> str | None:
        """The slot of the value; attempts after the first look elsewhere."""
        if attempt:
            value ^= WORD - attempt + 1
        return self.table[value % self.size] if self.table else None


def mersenne(seed: int) -> random.Random:
    """std::mt19937: Python's generator, whose own seeding is another."""
    state = [seed & 0xFFFFFFFF]
    for index in range(1, 624):
        state.append((1812433253 * (state[-1] ^ state[-1] >> 30) + index) & 0xFFFFFFFF)
    generator = random.Random()
    generator.setstate((3, (*state, 624), None))
    return generator


def probing_order(value: int, hosts: int) -> list[int]:
    """In which order a busy candidate's alternatives are looked at."""
    generator = mersenne(value)
    order = list(range(hosts))
    for index in range(hosts):
        left = hosts - index
        scaling = (1 << 32) // left if left > 1 else 1 << 32
        drawn = generator.getrandbits(32) // scaling
        while drawn >= left:
            drawn = generator.getrandbits(32) // scaling
        order[index], order[index + drawn] = order[index + drawn], order[index]
    return order


def bounded(value: int, candidate: int, overload: Mapping[int, float], hosts: int) -> int:
    """The candidate if it is not overloaded, else the first that is not, else the least overloaded."""
    if overload[candidate] <= 1.0:
        return candidate
    least = candidate
    for index in probing_order(value, hosts):
        if index == candidate:
            continue
        if overload[index] <= 1.0:
            return index
        if overload[index] < overload[least]:
            least = index
    return least


def slots(active: int, factor: int, weight: float) -> tuple[int, int]:
    """How many connections all hosts may have, and how many of them one of this weight."""
    total = (((active + 1) * factor + 99) & 0xFFFFFFFF) // 100
    return total, max(math.ceil(total * weight), 1)


def hash_key(address: str, hostname: str, metadata: object, *, use_hostname: bool) -> str:
    """What stands for a host in a table."""
    if isinstance(metadata, str) and metadata:
        return metadata
    return hostname if use_hostname and hostname else address
