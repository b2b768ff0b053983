"""Which endpoints a connection with metadata criteria may use, and their columns. Compiles nothing.

Rules, as in Envoy (source/extensions/load_balancing_policies/subset/subset_lb.cc):
- criteria select a subset when their keys are exactly those of a selector and an endpoint has all their values. The
  subset is balanced like a cluster of its own: its health, priorities and panic are those of its own endpoints;
- no such endpoint, or no such selector: the selector's fallback policy, and where it has none the cluster's.
  KEYS_SUBSET asks again with fewer keys;
- without criteria it is the cluster's fallback policy at once;
- panic_mode_any: where the cluster's fallback finds nobody to pick, all endpoints are tried.

Worked example: selectors {stage} and {stage, version}, fallback ANY_ENDPOINT. {stage: prod} finds its endpoints;
{version: 1} matches no selector: all endpoints; {stage: prod, version: 7} that nobody has: all endpoints.
"""

import struct
from collections.abc import Sequence
from dataclasses import replace

from eastgate.xds.record import record
from eastgate.xds.resources import Columns, Criteria, Subsets
from eastgate.xds.subsets import EndpointMetadata, matches


@record
class Selection:
    """Rows that may be used; ``then_any``: all of them when none of these can be picked."""

    rows: tuple[int, ...]
    then_any: bool = False


def select(subsets: Subsets, criteria: Criteria, metadata: Sequence[EndpointMetadata]) -> Selection:
    """Rows for a connection with these criteria; `metadata` by row."""
    everyone = tuple(range(len(metadata)))

    def having(wanted: Criteria) -> tuple[int, ...]:
        return tuple(row for row, own in enumerate(metadata) if matches(wanted, own, list_as_any=subsets.list_as_any))

    while criteria:
        keys = tuple(key for key, _ in criteria)
        selector = next((one for one in subsets.selectors if one.keys == keys), None)
        if selector is None:
            break
        rows = having(criteria)
        if rows:
            return Selection(rows)
        if selector.fallback_policy == "KEYS_SUBSET":
            criteria = tuple(pair for pair in criteria if pair[0] in selector.fallback_keys)
            continue
        if selector.fallback_policy == "NO_FALLBACK":
            return Selection(())
        if selector.fallback_policy == "ANY_ENDPOINT":
            return Selection(everyone)
        if selector.fallback_policy == "DEFAULT_SUBSET":
            return Selection(having(subsets.default_subset))
        break
    if subsets.fallback_policy == "NO_FALLBACK":
        return Selection(())
    if subsets.fallback_policy == "DEFAULT_SUBSET":
        return Selection(having(subsets.default_subset), then_any=subsets.panic_mode_any)
    return Selection(everyone, then_any=subsets.panic_mode_any)


def subset_columns(columns: Columns, rows: Sequence[int], *, scale_weights: bool) -> Columns:
    """The columns of these rows. `scale_weights`: a locality's weight is cut with the part of its endpoints."""
    localities, entries = columns.places, columns.localities
    if scale_weights:
        before, after = [0] * len(entries), [0] * len(entries)
        for row in range(columns.count):
            before[localities[row]] += 1
        for row in rows:
            after[localities[row]] += 1
        entries = tuple(
            entry
            if entry.weight is None or not before[index]
            # Half up, in single precision, as Envoy rounds.
            else replace(entry, weight=int(_single(entry.weight * _single(after[index] / before[index])) + 0.5))
            for index, entry in enumerate(entries)
        )
    return replace(columns.take(rows), localities=entries)


def _single(value: float) -> float:
    (rounded,) = struct.unpack("=f", struct.pack("=f", value))
    return float(rounded)
