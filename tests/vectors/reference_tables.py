"""Answers of the oracle for what hashes, zones and slow start decide."""

import hashlib
import re
from collections import Counter
from typing import Any

from ..oracle import edf, hash_tables, hashing, slow_start
from ..oracle.zone import ZoneRouting
from .outcome import NoRuleError, Outcome

HASHES = {"xxhash64": hashing.xxh64, "murmur2_64": hashing.murmur2}
# Hosts of the unit test behind "others".
BOUNDED_HOSTS = 5


def answer_hash(vector: dict[str, Any]) -> Outcome:
    """A text, or the address that a connection comes from."""
    outcome = Outcome("oracle")
    given = vector["input"]
    if given.get("policy") == "source_ip":
        found = hashing.source_ip(given["downstream_ip"])
    else:
        found = HASHES[given["algorithm"]](given["text"].encode(), given["seed"])
    outcome.expect("hash", vector["expect"]["hash"], found)
    return outcome


def localities_of(given: dict[str, Any]) -> list[list[tuple[str, int]]]:
    """Hosts and weights by locality; one locality where the vector has none."""
    localities = given.get("hosts_per_locality")
    if isinstance(localities, str):
        named = []
        for text in re.findall(r"\[([^\[\]]+)\]", localities):
            first, _, last = text.partition(" .. ")
            host, _, port = first.rpartition(":")
            end = int(last.rpartition(":")[2]) if last else int(port)
            named.append([(f"{host}:{number}", 1) for number in range(int(port), end + 1)])
        localities = named
    hosts = given.get("hosts") or []
    if isinstance(hosts, int):
        hosts = [(f"127.0.0.1:{90 + number}", 1) for number in range(hosts)]
    return [[(key, weight) for key, weight in members] for members in (localities or [hosts])]


def hosts_of(given: dict[str, Any]) -> list[tuple[str, float]]:
    """Normalised hosts; ranges of addresses are written with two dots."""
    localities = localities_of(given)
    if given.get("hosts_per_locality") is None:
        return hash_tables.normalised(localities[0])
    return hash_tables.normalised([], localities, given.get("locality_weights"))


def histogram(table: Any, expected: dict[str, Any]) -> dict[str, int]:
    """Evenly spaced hashes."""
    step = hashing.WORD // expected["samples"]
    return dict(Counter(table.pick(number * step) for number in range(expected["samples"])))


def answer_ring_hash(vector: dict[str, Any]) -> Outcome:
    """Sizes, entries, picks."""
    outcome = Outcome("oracle")
    given, expected = vector["input"], vector["expect"]
    sizes = (given["minimum_ring_size"], given.get("maximum_ring_size", 8388608))
    if "error" in expected:
        try:
            hash_tables.Ring([], *sizes)
        except hash_tables.ConfigurationError as error:
            outcome.expect("error", expected["error"], str(error))
        return outcome
    ring = hash_tables.Ring(hosts_of(given), *sizes, given.get("hash_function") or "xx_hash")
    digest = hashlib.sha256("".join(f"{value} {key}\n" for value, key in ring.entries).encode()).hexdigest()
    found = {
        "size": ring.size,
        "size_stat": ring.size,
        "min_hashes_per_host": min(ring.per_host),
        "max_hashes_per_host": max(ring.per_host),
        "actual_entries": len(ring.entries),
        "ring": [list(entry) for entry in ring.entries],
        "first": [list(entry) for entry in ring.entries[:4]],
        "last": [list(entry) for entry in ring.entries[-4:]],
        "sha256": digest,
        "host": ring.pick(given.get("hash", 0)),
        # All hosts are in the ring because none is healthy.
        "lb_healthy_panic": int(given.get("healthy") == 0),
    }
    compare_table(outcome, ring, found, expected)
    return outcome


def compare_table(outcome: Outcome, table: Any, found: dict[str, Any], expected: dict[str, Any]) -> None:
    """What a vector of a table asks for."""
    for name, wanted in expected.items():
        if name == "picks":
            answers = [table.pick(pick["hash"]) for pick in wanted]
            outcome.expect("picks", [pick["host"] for pick in wanted], answers)
        elif name == "histogram":
            outcome.expect("histogram", wanted["counts"], histogram(table, wanted))
        elif name == "source_ip_picks":
            outcome.expect(name, wanted, {address: table.pick(hashing.source_ip(address)) for address in wanted})
        elif name in found:
            outcome.expect(name, wanted, found[name])
        else:
            raise NoRuleError


BASIC = {"hosts": [[f"127.0.0.1:{90 + number}", 1] for number in range(6)], "table_size": 7}


def answer_maglev(vector: dict[str, Any]) -> Outcome:
    """Tables, picks, and what is refused."""
    outcome = Outcome("oracle")
    given, expected = vector["input"], vector["expect"]
    if "error" in expected:
        try:
            hash_tables.Maglev([], given["table_size"])
        except hash_tables.ConfigurationError as error:
            outcome.expect("error", expected["error"], str(error))
        return outcome
    if "key" in given:
        place = hash_tables.offset_and_skip(given["key"], given["table_size"])
        outcome.expect("offset and skip", (expected["offset"], expected["skip"]), place)
        return outcome
    if given.get("table") == "maglev/basic":
        basic = hash_tables.Maglev(hosts_of(BASIC), 7)
        found_hosts = [basic.pick(given["hash"], attempt) for attempt in given["attempts"]]
        outcome.expect("hosts", expected["hosts"], found_hosts)
        return outcome
    if given == {"locality_weights": [0]}:
        given = {"hosts_per_locality": [[["127.0.0.1:90", 1]]], "locality_weights": [0]}
    table = hash_tables.Maglev(hosts_of(given), given.get("table_size", 65537))
    found = {
        "table": table.table,
        "first_32": table.table[:32],
        "counts": dict(table.counts),
        "min_entries_per_host": min(table.counts.values(), default=0),
        "max_entries_per_host": max(table.counts.values(), default=0),
        "sha256_of_newline_terminated_entries": hashlib.sha256(
            "".join(f"{key}\n" for key in table.table).encode()
        ).hexdigest(),
        "host": table.pick(0),
    }
    compare_table(outcome, table, found, expected)
    return outcome


def answer_bounded_load(vector: dict[str, Any]) -> Outcome:
    """Order of probing, who is taken, how much is allowed, what is hashed."""
    outcome = Outcome("oracle")
    given, expected = vector["input"], vector["expect"]
    if "order" in expected:
        outcome.expect("order", expected["order"], hash_tables.probing_order(given["hash"], given["hosts"]))
    elif "slots" in expected:
        found = hash_tables.slots(given["cluster_rq_active"], given["hash_balance_factor"], given["normalized_weight"])
        outcome.expect("slots", (expected["total_slots"], expected["slots"]), found)
    elif "overload_factors" in given:
        listed = {int(index): factor for index, factor in given["overload_factors"].items()}
        count = BOUNDED_HOSTS if "others" in given else len(listed)
        overload = {index: listed.get(index, given.get("others", 0.0)) for index in range(count)}
        found_host = hash_tables.bounded(given["hash"], given["hash"] % count, overload, count)
        outcome.expect("host", expected["host"], found_host)
    else:
        keys = {
            "use_hostname_false": hash_tables.hash_key(given["address"], given["hostname"], None, use_hostname=False),
            "use_hostname_true": hash_tables.hash_key(given["address"], given["hostname"], None, use_hostname=True),
            "string_metadata": hash_tables.hash_key(
                given["address"], given["hostname"], "hash_key value", use_hostname=True
            ),
            "number_metadata": hash_tables.hash_key(given["address"], given["hostname"], 1.0, use_hostname=False),
        }
        outcome.expect("keys", expected, keys)
    return outcome


def answer_zone(vector: dict[str, Any]) -> Outcome:
    """Percentages, state, and picks by draws."""
    outcome = Outcome("oracle")
    given, expected = vector["input"], vector["expect"]
    routing = ZoneRouting(
        [(one["zone"], one["healthy"]) for one in given["upstream_localities"]],
        [(one["zone"], one["hosts"]) for one in given["local_localities"]],
        has_local=given["upstream_has_local_locality"],
        minimum=given["min_cluster_size"],
    )
    outcome.expect("state", expected["state"], routing.state)
    outcome.expect("local_percent_to_route", expected["local_percent_to_route"], routing.local_percent)
    outcome.expect("residual_capacity", expected["residual_capacity"], routing.residual)
    wanted = expected["percentages"]
    pairs = wanted and [(one["local"], one["upstream"]) for one in wanted]
    outcome.expect("percentages", pairs, routing.percentages)
    for pick in expected["picks"]:
        draws = pick["draws_after_priority_draw"]
        outcome.expect(f"pick by {draws}", pick["locality_index"], routing.pick(iter(draws)))
    return outcome


def answer_slow_start(vector: dict[str, Any]) -> Outcome:
    """A weight, or the order of picks that weights lead to."""
    outcome = Outcome("oracle")
    given, expected = vector["input"], vector["expect"]
    if "window_ms" in given:
        found = slow_start.weight_now(
            given["weight"],
            given["in_healthy_state_ms"],
            given["window_ms"],
            given["aggression"],
            given["min_weight_fraction"],
        )
        outcome.expect("effective_weight", expected["effective_weight"], found)
        return outcome
    built = given.get("build_weights") or given["effective_weights"]
    now = given.get("pick_weights") or built
    scheduler = edf.EdfScheduler.with_picks(built, given["seed"])
    picks = [scheduler.pick(now.__getitem__) for _ in range(given["picks"])]
    outcome.expect("sequence", expected["sequence"], picks)
    return outcome


ANSWERS = {
    "hash": answer_hash,
    "ring_hash": answer_ring_hash,
    "maglev": answer_maglev,
    "bounded_load": answer_bounded_load,
    "zone": answer_zone,
    "slow_start": answer_slow_start,
}
