"""What an EDS update does to host objects (Envoy: eds.cc, upstream_impl.cc)."""

from collections.abc import Mapping, Sequence


def keep_first(message_order: Sequence[Sequence[str]]) -> list[list[str]]:
    """(priority, locality, address) triples without later occurrences of an address."""
    seen: set[str] = set()
    kept = []
    for entry in message_order:
        if entry[2] not in seen:
            seen.add(entry[2])
            kept.append(list(entry))
    return kept


def reorder(before: Sequence[str], update: Sequence[str]) -> tuple[list[str], bool]:
    """(hosts afterwards, rebuilt): a permutation is no change and the old order stays."""
    if sorted(before) == sorted(update):
        return list(before), False
    return list(update), True


def replace_hosts(
    before: Mapping[str, tuple[str, int]], update: Mapping[str, tuple[str, int]]
) -> tuple[set[str], set[str], set[str]]:
    """(same objects, added, removed) for address -> (locality, priority): another locality is another host."""
    same = {a for a in before if a in update and before[a][0] == update[a][0]}
    return same, set(update) - same, set(before) - same
