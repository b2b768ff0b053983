"""Answers of the oracle: Envoy's exact rules, the order of picks included."""

import re
from collections import Counter
from collections.abc import Callable
from itertools import repeat
from typing import Any

from ..oracle import edf, eds, filter_chain, health, locality, outlier, policies, priority
from . import reference_tables
from .outcome import NoRuleError, Outcome


def answer_priority(vector: dict[str, Any]) -> Outcome:
    """All steps on one load balancer."""
    outcome = Outcome("oracle")
    state = priority.LoadBalancerState(vector["input"]["healthy_panic_threshold"])
    for number, (step, expected) in enumerate(
        zip(vector["input"]["steps"], vector["expect"]["after_step"], strict=True)
    ):
        state.panic_threshold = step.get("healthy_panic_threshold", state.panic_threshold)
        for update in step["updates"]:
            sums = None
            if update.get("weighted_priority_health"):
                listed = iter(update["host_weights_in_order_healthy_degraded_excluded_rest"])
                parts = [sum(next(listed) for _ in range(update[k])) for k in ("healthy", "degraded", "excluded")]
                sums = (sum(parts) + sum(listed), parts[0], parts[1], parts[2])
            state.update(
                update["priority"],
                hosts=update["hosts"],
                healthy=update["healthy"],
                degraded=update.get("degraded", 0),
                excluded=update.get("excluded", 0),
                overprovisioning_factor=update["overprovisioning_factor"],
                weights=sums,
            )
        for name in expected:
            outcome.expect(f"step {number} {name}", expected[name], [getattr(p, name) for p in state.priorities])
    return outcome


def answer_priority_docs(vector: dict[str, Any]) -> Outcome:
    """One update per priority."""
    outcome = Outcome("oracle")
    given = vector["input"]
    size = given["hosts_per_priority"]
    state = priority.LoadBalancerState(given["healthy_panic_threshold"])
    for number, percent in enumerate(given["healthy_percent"]):
        state.update(
            number,
            hosts=size,
            healthy=percent * size // 100,
            degraded=given["degraded_percent"][number] * size // 100,
            overprovisioning_factor=given["overprovisioning_factor"],
        )
    expected = vector["expect"]["code_result_with_100_hosts_per_priority"]
    for name in expected:
        outcome.expect(name, expected[name], [getattr(p, name) for p in state.priorities])
    return outcome


def answer_choose_priority(vector: dict[str, Any]) -> Outcome:
    """One bucket walk."""
    outcome = Outcome("oracle")
    given = vector["input"]
    index, availability = priority.choose_priority(given["hash"], given["healthy_load"], given["degraded_load"])
    outcome.expect("priority", vector["expect"]["priority"], index)
    outcome.expect("availability", vector["expect"]["availability"], availability)
    return outcome


def answer_panic(vector: dict[str, Any]) -> Outcome:
    """A single priority."""
    outcome = Outcome("oracle")
    given = vector["input"]
    state = priority.LoadBalancerState(given["healthy_panic_threshold"])
    state.update(0, **{name: given[name] for name in ("hosts", "healthy", "degraded", "excluded")})
    low = priority.is_low(state.priorities[0], given["healthy_panic_threshold"])
    outcome.expect("raw_predicate", vector["expect"]["raw_predicate"], low)
    outcome.expect("in_panic", vector["expect"]["in_panic"], state.priorities[0].panic)
    return outcome


def answer_health(vector: dict[str, Any]) -> Outcome:
    """Flags and what they mean."""
    outcome = Outcome("oracle")
    given, expected = vector["input"], vector["expect"]
    if "eds_health_status" in given:
        flags = list(health.FLAGS_OF_STATUS[given["eds_health_status"]])
        outcome.expect("flags", expected["flags"], flags)
    else:
        flags = given["flags"]
    outcome.expect("coarse", expected["coarse"], health.coarse_health(flags))
    outcome.expect("excluded", expected["excluded"], health.is_excluded(flags))
    return outcome


def effective_weights(given: dict[str, Any]) -> list[float]:
    """Of all localities of a locality vector."""
    weights = given["locality_weights"]
    if "total_per_locality" not in given:
        return [float(weight) for weight in weights]
    excluded = given.get("excluded_per_locality", [0] * len(weights))
    return [
        locality.effective_weight(
            weight,
            given["eligible_per_locality"][i],
            given["total_per_locality"][i],
            excluded[i],
            given["overprovisioning_factor"],
        )
        for i, weight in enumerate(weights)
    ]


def answer_locality(vector: dict[str, Any]) -> Outcome:
    """Effective weights and the order of picks by seed."""
    outcome = Outcome("oracle")
    given, expected = vector["input"], vector["expect"]
    weights = effective_weights(given)
    if "effective_weights" in expected:
        outcome.expect("effective_weights", expected["effective_weights"], weights)
    if "first_pick_per_seed" in expected:
        picks = [locality.LocalityScheduler(weights, seed).pick() for seed in given["seeds"]]
        outcome.expect("first_pick_per_seed", expected["first_pick_per_seed"], picks)
    else:
        scheduler = locality.LocalityScheduler(weights, given["seed"])
        picks = [scheduler.pick() for _ in range(given["picks"])]
    if "sequence" in expected:
        outcome.expect("sequence", expected["sequence"], picks)
    if "histogram" in expected:
        counts = Counter(picks)
        outcome.expect("histogram", expected["histogram"], [counts[i] for i in range(len(weights))])
    return outcome


def answer_locality_docs(vector: dict[str, Any]) -> Outcome:
    """Two localities of 100 hosts."""
    outcome = Outcome("oracle")
    given = vector["input"]
    x, y = (
        locality.effective_weight(weight, given[f"{name}_healthy_percent"], 100, 0, given["overprovisioning_factor"])
        for name, weight in zip("xy", given["weights"], strict=True)
    )
    outcome.expect_close("exact_percent_x", vector["expect"]["exact_percent_x"], 100 * x / (x + y), 1e-9)
    return outcome


def answer_filter_chain(vector: dict[str, Any]) -> Outcome:
    """Level by level, without coming back."""
    outcome = Outcome("oracle")
    given = vector["input"]
    if any(set(chain) - filter_chain.FIELDS for chain in given["chains"]):
        raise NoRuleError
    found = filter_chain.match(
        given["chains"],
        port=given.get("destination_port", 0),
        sni=given.get("sni", ""),
        transport=given.get("transport_protocol", "tls"),
        alpn=given.get("application_protocols", ()),
    )
    outcome.expect("chain", vector["expect"]["chain"], found)
    return outcome


def answer_eds(vector: dict[str, Any]) -> Outcome:
    """Host objects across an update."""
    outcome = Outcome("oracle")
    given, expected = vector["input"], vector["expect"]
    if "message_order" in given:
        outcome.expect("kept", expected["kept"], eds.keep_first(given["message_order"]))
    elif "rebuild" in expected:
        after, rebuilt = eds.reorder(given["before"], given["update"])
        outcome.expect("after", expected["after"], after)
        outcome.expect("rebuild", expected["rebuild"], rebuilt)
    elif "same_host_objects" not in expected:
        raise NoRuleError
    else:
        sides = [
            {a: ("", v) if isinstance(v, int) else (v, 0) for a, v in given[side].items()}
            for side in ("before", "update")
        ]
        same, added, removed = eds.replace_hosts(sides[0], sides[1])
        outcome.expect("same_host_objects", expected["same_host_objects"], same == set(given["update"]))
        for name, hosts in (("added", added), ("removed", removed)):
            key = f"hosts_{name}" if f"hosts_{name}" in expected else f"net_{name}"
            outcome.expect(key, expected[key], sorted(hosts))
    return outcome


def answer_edf(vector: dict[str, Any]) -> Outcome:
    """Order of picks from a number of emulated ones; weights given as a range are added one by one."""
    outcome = Outcome("oracle")
    given, expected = vector["input"], vector["expect"]
    if isinstance(given["weights"], str):
        first, last = (int(part) for part in given["weights"].split(".."))
        weights = [float(w) for w in range(first, last + 1)]
        scheduler = edf.EdfScheduler()
        for number, weight in enumerate(weights):
            scheduler.add(number, weight)
        counts = Counter(scheduler.pick(weights.__getitem__) for _ in range(given["picks"]))
        outcome.expect("counts", [i + 1 for i in range(len(weights))], [counts[i] for i in range(len(weights))])
        return outcome
    scheduler = edf.EdfScheduler.with_picks(given["weights"], given["pre_picks"])
    picks = [scheduler.pick(given["weights"].__getitem__) for _ in range(given["picks"])]
    outcome.expect("sequence", expected["sequence"], picks)
    return outcome


def answer_round_robin(vector: dict[str, Any]) -> Outcome:
    """Order of picks by seed over updates of the host list."""
    outcome = Outcome("oracle")
    given, expected = vector["input"], vector["expect"]
    if "steps" not in given:
        return answer_round_robin_once(vector)
    sources: dict[str, policies.RoundRobin] = {}
    panics = 0
    for number, step in enumerate(given["steps"]):
        name, size = "healthy", step.get("hosts")
        if "healthy" in step:
            state = priority.LoadBalancerState()
            state.update(0, hosts=size, healthy=step["healthy"])
            in_panic = state.priorities[0].panic
            panics += step["picks"] if in_panic else 0
            name, size = ("all", size) if in_panic else ("healthy", step["healthy"])
        source = sources.setdefault(name, policies.RoundRobin(given["seed"]))
        weights = step.get("weights") or [1] * size
        if step.get("rebuild", True):
            source.refresh(weights)
        else:
            source.change_weights(weights)
        picks = [source.pick() for _ in range(step["picks"])]
        wanted = expected["sequences"][number]
        if isinstance(wanted, dict):
            outcome.expect(f"step {number} source", wanted["source"], name)
            wanted = wanted["indices"]
        outcome.expect(f"step {number}", wanted, picks)
    if "lb_healthy_panic" in expected:
        outcome.expect("lb_healthy_panic", expected["lb_healthy_panic"], panics)
    return outcome


def answer_round_robin_once(vector: dict[str, Any]) -> Outcome:
    """Vectors of a single host set: availability by draw, and no host in panic when that is asked for."""
    outcome = Outcome("oracle")
    given, expected = vector["input"], vector["expect"]
    state = priority.LoadBalancerState()
    state.update(0, hosts=given["hosts"], healthy=given["healthy"], degraded=given.get("degraded", 0))
    only = state.priorities[0]
    if "fail_traffic_on_panic" in given:
        outcome.expect("host", expected["host"], None if only.panic else 0)
        outcome.expect("lb_healthy_panic", expected["lb_healthy_panic"], int(only.panic))
        return outcome
    outcome.expect("healthy_load", expected["healthy_load"], [only.healthy_load])
    outcome.expect("degraded_load", expected["degraded_load"], [only.degraded_load])
    picked = [priority.choose_priority(d, [only.healthy_load], [only.degraded_load])[1] for d in given["draws"]]
    outcome.expect("availability", expected["availability"], picked)
    return outcome


def answer_least_request(vector: dict[str, Any]) -> Outcome:
    """Samples by the given draws; unequal weights by the scheduler."""
    outcome = Outcome("oracle")
    given, expected = vector["input"], vector["expect"]
    if "weights" in given:
        steps = given.get("steps") or [given]
        active = list(steps[0]["rq_active"])
        policy = policies.WeightedLeastRequest(given["weights"], active, given["seed"], given["active_request_bias"])
        sequences = []
        for step in steps:
            active[:] = step["rq_active"]
            sequences.append([policy.pick() for _ in range(step["picks"])])
        outcome.expect("sequences", expected.get("sequences") or [expected["sequence"]], sequences)
    elif given.get("selection_method") == "FULL_SCAN":
        found = policies.least_request_full_scan(given["rq_active"], iter(given.get("draws", ())))
        outcome.expect("host", expected["host"], found)
    else:
        found = policies.least_request(given["rq_active"], iter(given["draws"]), given["choice_count"])
        outcome.expect("host", expected["host"], found)
    return outcome


def answer_random(vector: dict[str, Any]) -> Outcome:
    """The draw that chose the priority is the index too."""
    outcome = Outcome("oracle")
    outcome.expect("host", vector["expect"]["host"], vector["input"]["draw"] % vector["input"]["hosts"])
    return outcome


def answer_weighted_clusters(vector: dict[str, Any]) -> Outcome:
    """One interval walk."""
    outcome = Outcome("oracle")
    given = vector["input"]
    found = policies.weighted_cluster(given["random"], [(name, weight) for name, weight in given["clusters"]])
    outcome.expect("cluster", vector["expect"]["cluster"], found)
    return outcome


def outlier_settings(given: dict[str, Any]) -> dict[str, int]:
    """Everything off but what the vector says."""
    off = dict.fromkeys(["always_eject_one_host", "split_external_local_origin_errors", "max_ejection_time_jitter"], 0)
    off |= dict.fromkeys(outlier.KINDS[:3], 0)
    off |= {f"enforcing_{kind}": 100 for kind in (*outlier.KINDS, "failure_percentage_local_origin")}
    off |= dict.fromkeys(["success_rate_minimum_hosts", "failure_percentage_minimum_hosts"], 100)
    off |= dict.fromkeys(["success_rate_request_volume", "failure_percentage_request_volume"], 100)
    off |= {"failure_percentage_threshold": 100, "success_rate_stdev_factor": given.get("stdev_factor_milli", 0)}
    off |= {"interval": 1000 * given.get("interval_s", 10), "max_ejection_time": 300_000, "consecutive_5xx": 1}
    off |= {"base_ejection_time": 1000 * given.get("base_ejection_time_s", 30)}
    off |= {"max_ejection_percent": given.get("max_ejection_percent", 100)}
    return off | {"always_eject_one_host": given.get("always_eject_one_host", 0)}


def answer_outlier(vector: dict[str, Any]) -> Outcome:
    """Hosts that fail at the given times."""
    outcome = Outcome("oracle")
    given, expected = vector["input"], vector["expect"]
    settings = outlier_settings(given)
    if "success_rates" in given:
        settings["success_rate_minimum_hosts"] = len(given["success_rates"])
    model = outlier.Detector(settings, repeat(0))
    if "success_rates" in given:
        for number, rate in enumerate(given["success_rates"]):
            model.add(str(number))
            model.hosts[str(number)].external = outlier.Bucket(rate, 100)
        model.tick(0)
        mean, threshold = outlier.rate_threshold(given["success_rates"], given["stdev_factor_milli"])
        outcome.expect("mean and threshold", [expected["mean"], expected["threshold"]], [mean, threshold])
        ejected = [int(name) for name, host in model.hosts.items() if host.ejected]
        outcome.expect("ejected", expected["ejected"], ejected)
    elif "hosts" in given:
        for number in range(given["hosts"]):
            model.add(str(number))
            model.hosts[str(number)].ejected = number < given["already_ejected"]
        last = str(given["hosts"] - 1)
        model.failed(last, 0)
        outcome.expect("allowed", expected["allowed"], model.hosts[last].ejected)
    else:
        model.add("only")
        returned, multipliers = [], []
        for event in given["events"]:
            second, what = int(re.findall(r"t=(\d+)", event)[0]), event.rpartition(" ")[2]
            if what == "eject":
                model.failed("only", 1000 * second)
                multipliers.append(model.hosts["only"].backoff)
                continue
            count = int(event.split()[0]) if event[0] != "t" else 1
            for number in range(count):
                was_out = model.hosts["only"].ejected
                model.tick(1000 * (second - given["interval_s"] * (count - 1 - number)))
                if was_out and not model.hosts["only"].ejected:
                    returned.append(second)
        outcome.expect("unejected_at_s", expected["unejected_at_s"], returned)
        outcome.expect("multipliers", expected["backoff_multiplier_of_each_ejection"], multipliers)
    return outcome


ANSWERS: dict[str, Callable[[dict[str, Any]], Outcome]] = {
    name.removeprefix("answer_"): rule
    for name, rule in list(globals().items())
    if name.startswith("answer_") and name != "answer_round_robin_once"
}
ANSWERS.update(reference_tables.ANSWERS)


def answer(vector: dict[str, Any]) -> Outcome:
    """NoRuleError for a group that the oracle does not know."""
    rule = ANSWERS.get(vector.get("group", ""))
    if rule is None:
        raise NoRuleError
    return rule(vector)
