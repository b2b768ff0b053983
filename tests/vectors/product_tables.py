"""Answers of the product for what hashes decide: rings, Maglev tables, bounded load, and the draw of RANDOM."""

import hashlib
from collections import Counter
from dataclasses import dataclass
from typing import Any

from eastgate.fastpath.tables.bounded_load import choose_by_overload, probing_order, slots
from eastgate.fastpath.tables.cluster_table import ClusterTable
from eastgate.fastpath.tables.hash_ring import ring_size
from eastgate.fastpath.tables.hashing import murmur2, source_ip_hash, xxh64
from eastgate.fastpath.tables.maglev_table import offset_and_skip
from eastgate.xds.hashing import hash_key

from ..columns import columns
from ..oracle.shares import Endpoint, LocalityName
from .outcome import NoRuleError, Outcome
from .reference_tables import BASIC, BOUNDED_HOSTS, hosts_of, localities_of

UNHEALTHY = 2


@dataclass(frozen=True)
class Hashing:
    """Settings as the proxy hands them over."""

    hash_function: str = "XX_HASH"
    minimum_ring_size: int = 1024
    maximum_ring_size: int = 8388608
    table_size: int = 65537
    balance_factor: int = 0


class Hosts:
    """A table of the hosts of a vector, and picks by their keys."""

    def __init__(self, given: dict[str, Any], policy: str, hashing: Hashing) -> None:
        localities = localities_of(given)
        health = UNHEALTHY if given.get("healthy") == 0 else 1
        weights: dict[tuple[int, LocalityName], int | None] = {}
        members: list[Endpoint] = []
        for number, hosts in enumerate(localities):
            name = ("region", f"zone-{number:03}", "")
            if given.get("locality_weights"):
                weights[0, name] = given["locality_weights"][number]
            # A locality without a usable host has one that is not.
            members += [
                Endpoint(f"198.51.100.{index}:80" if given.get("named") else key, 0, name, weight, health)
                for index, (key, weight) in enumerate(hosts)
            ] or [Endpoint(f"192.0.2.{number}:80", locality=name, eds_health=UNHEALTHY)]
        self.keys = [one.address for one in members]
        if given.get("named"):
            self.keys = [key for hosts in localities for key, _ in hosts]
        self.table = ClusterTable.compile(
            columns(members, weights),
            policy=policy,
            hashing=hashing,
            hash_keys=[key.encode() for key in self.keys] if given.get("named") else None,
            locality_weighted=bool(weights),
        )
        # Localities without a weight give no hosts; one that is unhealthy stands for none.
        self.listed = [
            key
            for key, one in zip(self.keys, members, strict=True)
            if weights.get((0, one.locality)) != 0 and not one.address.startswith("192.0.2.")
        ]
        self.entries: list[Any] = next(iter(self.table.hash_entries()), [])

    def pick(self, value: int, attempt: int = 0) -> str | None:
        """Key of the host that a hash leads to."""
        row = self.table.pick_hash(value, attempt)
        return self.keys[row] if row >= 0 else None

    def compare(self, outcome: Outcome, found: dict[str, Any], expected: dict[str, Any]) -> None:
        """What a vector asks for, of `found` or by picks."""
        for name, wanted in expected.items():
            if name == "picks":
                outcome.expect(name, [one["host"] for one in wanted], [self.pick(one["hash"]) for one in wanted])
            elif name == "histogram":
                step = ((1 << 64) - 1) // wanted["samples"]
                counts = dict(Counter(self.pick(number * step) for number in range(wanted["samples"])))
                outcome.expect(name, wanted["counts"], counts)
            elif name == "source_ip_picks":
                outcome.expect(name, wanted, {address: self.pick(source_ip_hash(address)) for address in wanted})
            elif name in found:
                outcome.expect(name, wanted, found[name])
            else:
                raise NoRuleError


def error_of(policy: str, hashing: Hashing) -> str:
    """Why these settings are refused; empty when they are not."""
    try:
        ClusterTable.compile(
            columns([Endpoint("10.0.0.1:80"), Endpoint("10.0.0.2:80")]), policy=policy, hashing=hashing
        )
    except ValueError as error:
        return str(error)
    return ""


def answer_hash(vector: dict[str, Any]) -> Outcome:
    """A text, or the address that a connection comes from."""
    outcome = Outcome("product")
    given = vector["input"]
    if given.get("policy") == "source_ip":
        found = source_ip_hash(given["downstream_ip"])
    elif given["algorithm"] == "xxhash64":
        found = xxh64(given["text"].encode(), given["seed"])
    else:
        found = murmur2(given["text"].encode())
    outcome.expect("hash", vector["expect"]["hash"], found)
    return outcome


def answer_ring_hash(vector: dict[str, Any]) -> Outcome:
    """Sizes, entries, picks."""
    outcome = Outcome("product")
    given, expected = vector["input"], vector["expect"]
    function = (given.get("hash_function") or "xx_hash").upper()
    sizes = given["minimum_ring_size"], given.get("maximum_ring_size", 8388608)
    hashing = Hashing(function, *sizes)
    if "error" in expected:
        outcome.expect("error", expected["error"], error_of("RING_HASH", hashing))
        return outcome
    weights = [weight for _, weight in hosts_of(given)]
    size, entries = ring_size(weights, *sizes)
    hosts = Hosts(given, "RING_HASH", hashing)
    ring = [[value, hosts.keys[row]] for value, row in hosts.entries]
    if not ring:
        # One host has no ring: it takes everything. Its size is what it would be.
        sums = {"min_hashes_per_host": entries, "max_hashes_per_host": entries}
    else:
        outcome.expect("entries", entries, len(ring))
        counts = Counter(key for _, key in ring)
        of_each = [counts[key] for key in hosts.listed]
        sums = {"min_hashes_per_host": min(of_each), "max_hashes_per_host": max(of_each)}
    found = {
        **sums,
        "size": size,
        "size_stat": size,
        "actual_entries": entries,
        "ring": ring,
        "first": ring[:4],
        "last": ring[-4:],
        "sha256": hashlib.sha256("".join(f"{value} {key}\n" for value, key in ring).encode()).hexdigest(),
        "host": hosts.pick(given.get("hash", 0)),
        "lb_healthy_panic": int(hosts.table.priorities()[0][7]),
    }
    hosts.compare(outcome, found, expected)
    return outcome


def answer_maglev(vector: dict[str, Any]) -> Outcome:
    """Tables, picks, and what is refused."""
    outcome = Outcome("product")
    given, expected = vector["input"], vector["expect"]
    if "error" in expected:
        error = error_of("MAGLEV", Hashing(table_size=given["table_size"]))
        outcome.expect("error", expected["error"], error.partition(":")[0])
        return outcome
    if "key" in given:
        place = offset_and_skip(given["key"].encode(), given["table_size"])
        outcome.expect("offset and skip", (expected["offset"], expected["skip"]), place)
        return outcome
    if given.get("table") == "maglev/basic":
        basic = Hosts(BASIC, "MAGLEV", Hashing(table_size=7))
        outcome.expect("hosts", expected["hosts"], [basic.pick(given["hash"], one) for one in given["attempts"]])
        return outcome
    if given == {"locality_weights": [0]}:
        given = {"hosts_per_locality": [[["127.0.0.1:90", 1], ["127.0.0.1:91", 1]]], "locality_weights": [0]}
    # Hosts that are told apart by their names, not by their addresses.
    named = any(":" not in key for hosts in localities_of(given) for key, _ in hosts)
    hosts = Hosts({**given, "named": named}, "MAGLEV", Hashing(table_size=given.get("table_size", 65537)))
    table = [hosts.keys[row] for row in hosts.entries]
    counts = Counter(table)
    found = {
        "table": table,
        "first_32": table[:32],
        "counts": dict(counts),
        "min_entries_per_host": min((counts[key] for key in hosts.listed), default=0),
        "max_entries_per_host": max(counts.values(), default=0),
        "sha256_of_newline_terminated_entries": hashlib.sha256("".join(f"{k}\n" for k in table).encode()).hexdigest(),
        "host": hosts.pick(0),
    }
    hosts.compare(outcome, found, expected)
    return outcome


def answer_bounded_load(vector: dict[str, Any]) -> Outcome:
    """Order of probing, who is taken, how much is allowed, what is hashed."""
    outcome = Outcome("product")
    given, expected = vector["input"], vector["expect"]
    if "order" in expected:
        outcome.expect("order", expected["order"], probing_order(given["hash"], given["hosts"]))
    elif "slots" in expected:
        found = slots(given["cluster_rq_active"], given["hash_balance_factor"], given["normalized_weight"])
        outcome.expect("slots", (expected["total_slots"], expected["slots"]), found)
    elif "overload_factors" in given:
        listed = {int(index): factor for index, factor in given["overload_factors"].items()}
        count = BOUNDED_HOSTS if "others" in given else len(listed)
        overloads = [listed.get(index, given.get("others", 0.0)) for index in range(count)]
        outcome.expect("host", expected["host"], choose_by_overload(given["hash"], given["hash"] % count, overloads))
    else:
        asked: dict[str, tuple[object, bool]] = {
            "use_hostname_false": (None, False),
            "use_hostname_true": (None, True),
            "string_metadata": ("hash_key value", True),
            "number_metadata": (1.0, False),
        }
        keys = {
            name: hash_key(said, given["hostname"], use_hostname=use_hostname) or given["address"]
            for name, (said, use_hostname) in asked.items()
        }
        outcome.expect("keys", expected, keys)
    return outcome


def answer_random(vector: dict[str, Any]) -> Outcome:
    """The draw that chose the priority is the index too."""
    outcome = Outcome("product")
    members = [Endpoint(f"10.0.0.{number}:80") for number in range(vector["input"]["hosts"])]
    table = ClusterTable.compile(columns(members), policy="RANDOM")
    outcome.expect("host", vector["expect"]["host"], table.pick_hash(vector["input"]["draw"]))
    return outcome


ANSWERS = {
    "hash": answer_hash,
    "ring_hash": answer_ring_hash,
    "maglev": answer_maglev,
    "bounded_load": answer_bounded_load,
    "random": answer_random,
}
