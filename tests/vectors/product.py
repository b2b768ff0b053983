"""Answers of the product: eastgate.fastpath asked the way the proxy asks it."""

from collections.abc import Callable, Sequence
from typing import Any

from eastgate.fastpath.match.chains import ChainSpec
from eastgate.fastpath.match.facts import Observed
from eastgate.fastpath.match.route_table import RouteTable
from eastgate.fastpath.reason import Reason
from eastgate.fastpath.tables.cluster_table import ClusterTable
from eastgate.fastpath.tables.priority_load import (
    PriorityLoads,
    choose_priority,
    classify_health,
    effective_locality_weight,
)
from eastgate.fastpath.tables.zone_routing import zone_parts
from eastgate.proxy.membership.outlier import Counters, Detector, EjectionType, Volume, has_room, rate_threshold
from eastgate.proxy.membership.slow_start import weight_factor
from eastgate.xds.resources import OutlierDetection, SlowStart, ZoneAware

from ..columns import columns
from ..oracle.shares import Endpoint, LocalityName
from .outcome import NoRuleError, Outcome

STATUS = ("UNKNOWN", "HEALTHY", "UNHEALTHY", "DRAINING", "TIMEOUT", "DEGRADED")
HEALTHY, UNHEALTHY, DRAINING, DEGRADED = 1, 2, 3, 5
FAILED_FLAGS = {"FAILED_ACTIVE_HC", "FAILED_OUTLIER_CHECK"}
STATUS_OF_FLAG = {
    "FAILED_EDS_HEALTH": "UNHEALTHY",
    "EDS_STATUS_DRAINING": "DRAINING",
    "DEGRADED_EDS_HEALTH": "DEGRADED",
}


def host(number: int, **fields: Any) -> Endpoint:
    """An endpoint with an address of its own."""
    return Endpoint(f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}:80", **fields)


def hosts_of(update: dict[str, Any], first: int) -> list[Endpoint]:
    """The hosts that an update of the priority group describes: healthy, degraded, excluded, the rest."""
    healthy, degraded, excluded = update["healthy"], update.get("degraded", 0), update.get("excluded", 0)
    health = [HEALTHY] * healthy + [DEGRADED] * degraded + [DRAINING] * excluded
    health += [UNHEALTHY] * (update["hosts"] - len(health))
    weights = update.get("host_weights_in_order_healthy_degraded_excluded_rest") or [1] * len(health)
    return [
        host(first + i, priority=update["priority"], eds_health=status, weight=weights[i])
        for i, status in enumerate(health)
    ]


def compare_loads(outcome: Outcome, what: str, expected: dict[str, Any], loads: Sequence[Sequence[Any]]) -> None:
    """Compare (healthy load, degraded load, panic) triples with the lists of a vector."""
    for position, name in enumerate(("healthy_load", "degraded_load", "panic")):
        if name in expected:
            outcome.expect(f"{what} {name}", expected[name], [load[position] for load in loads])


def table_loads(table: ClusterTable) -> list[tuple[int, int, bool]]:
    """(healthy load, degraded load, panic) by priority."""
    return [(p[4], p[5], p[7]) for p in table.priorities()]


def answer_priority(vector: dict[str, Any]) -> Outcome:
    """Each step from the stateful loads; and, when no earlier step can matter, from a compiled table too."""
    outcome = Outcome("product")
    given = vector["input"]
    loads = PriorityLoads(panic_threshold=given["healthy_panic_threshold"])
    for number, (step, expected) in enumerate(zip(given["steps"], vector["expect"]["after_step"], strict=True)):
        if "healthy_panic_threshold" in step:
            loads.panic_threshold = step["healthy_panic_threshold"]
        for update in step["updates"]:
            members = hosts_of(update, 0)
            sums = [sum(e.weight for e in members)]
            sums += [sum(e.weight for e in members if e.eds_health == h) for h in (HEALTHY, DEGRADED, DRAINING)]
            loads.update(
                update["priority"],
                hosts=update["hosts"],
                healthy=update["healthy"],
                degraded=update.get("degraded", 0),
                excluded=update.get("excluded", 0),
                overprovisioning_factor=update["overprovisioning_factor"],
                weights=(sums[0], sums[1], sums[2], sums[3]) if update.get("weighted_priority_health") else None,
            )
        triples = list(zip(loads.healthy_load, loads.degraded_load, loads.panic, strict=True))
        compare_loads(outcome, f"step {number}", expected, triples)
        updates = step["updates"]
        if len(updates) == len(triples) and any(u["healthy"] + u.get("degraded", 0) for u in updates):
            members = [e for u in updates for e in hosts_of(u, u["priority"] << 16)]
            table = ClusterTable.compile(
                columns(members),
                overprovisioning_factor=updates[0]["overprovisioning_factor"],
                panic_threshold=loads.panic_threshold,
                weighted_priority_health=bool(updates[0].get("weighted_priority_health")),
            )
            compare_loads(outcome, f"step {number} compiled", expected, table_loads(table))
    return outcome


def answer_priority_docs(vector: dict[str, Any]) -> Outcome:
    """A compiled table of so many hosts per priority."""
    outcome = Outcome("product")
    given = vector["input"]
    size = given["hosts_per_priority"]
    members = []
    for priority, healthy in enumerate(given["healthy_percent"]):
        counts = (healthy * size // 100, given["degraded_percent"][priority] * size // 100)
        update = {"priority": priority, "hosts": size, "healthy": counts[0], "degraded": counts[1]}
        members += hosts_of(update, priority << 16)
    table = ClusterTable.compile(
        columns(members),
        overprovisioning_factor=given["overprovisioning_factor"],
        panic_threshold=given["healthy_panic_threshold"],
    )
    # Where the published table and Envoy's code disagree, the code is what traffic sees.
    expected = vector["expect"]["code_result_with_100_hosts_per_priority"]
    compare_loads(outcome, "table", expected, table_loads(table))
    return outcome


def answer_choose_priority(vector: dict[str, Any]) -> Outcome:
    """The choice function that shares are derived from."""
    outcome = Outcome("product")
    given = vector["input"]
    priority, degraded = choose_priority(given["hash"], given["healthy_load"], given["degraded_load"])
    outcome.expect("priority", vector["expect"]["priority"], priority)
    outcome.expect("availability", vector["expect"]["availability"], "degraded" if degraded else "healthy")
    return outcome


def answer_panic(vector: dict[str, Any]) -> Outcome:
    """Predicate and flag of a single priority."""
    outcome = Outcome("product")
    given = vector["input"]
    loads = PriorityLoads(panic_threshold=given["healthy_panic_threshold"])
    counts = {name: given[name] for name in ("hosts", "healthy", "degraded", "excluded")}
    loads.update(0, **counts)
    outcome.expect("raw_predicate", vector["expect"]["raw_predicate"], loads.is_low(0))
    outcome.expect("in_panic", vector["expect"]["in_panic"], loads.panic[0])
    table = ClusterTable.compile(
        columns(hosts_of({"priority": 0, **counts}, 0)), panic_threshold=given["healthy_panic_threshold"]
    )
    outcome.expect("compiled in_panic", vector["expect"]["in_panic"], table.priorities()[0][7])
    return outcome


def answer_round_robin(vector: dict[str, Any]) -> Outcome:
    """Whether a host is picked in panic; the order of picks is the oracle's."""
    given = vector["input"]
    if "fail_traffic_on_panic" not in given:
        raise NoRuleError
    outcome = Outcome("product")
    members = hosts_of({"priority": 0, "hosts": given["hosts"], "healthy": given["healthy"]}, 0)
    table = ClusterTable.compile(columns(members), fail_on_panic=given["fail_traffic_on_panic"])
    picked = table.pick()
    outcome.expect("host", vector["expect"]["host"], None if picked < 0 else picked)
    outcome.expect("lb_healthy_panic", vector["expect"]["lb_healthy_panic"], int(picked == -Reason.PANIC))
    return outcome


def answer_health(vector: dict[str, Any]) -> Outcome:
    """Class and exclusion; panic traffic from a table in which the host is all there is."""
    outcome = Outcome("product")
    given, expected = vector["input"], vector["expect"]
    flags = given.get("flags", [])
    named = [STATUS_OF_FLAG[flag] for flag in flags if flag in STATUS_OF_FLAG]
    if len(named) > 1 or set(flags) - FAILED_FLAGS - set(STATUS_OF_FLAG):
        raise NoRuleError  # flags of active health checking are not among what a table is told
    status = given.get("eds_health_status") or (named[0] if named else "UNKNOWN")
    is_failed = bool(FAILED_FLAGS & set(flags))
    name, excluded = classify_health(STATUS.index(status), failed=is_failed)
    outcome.expect("coarse", expected["coarse"], name.capitalize())
    outcome.expect("excluded", expected["excluded"], excluded)
    if "in_panic_list" in expected:
        rest = [host(i, eds_health=UNHEALTHY) for i in range(1, 4)]
        table = ClusterTable.compile(columns([host(0, eds_health=STATUS.index(status)), *rest]))
        outcome.expect("in_panic_list", expected["in_panic_list"], table.priorities()[0][7] and table.shares()[0] > 0)
    return outcome


def locality_name(number: int) -> LocalityName:
    """A locality that sorts by its number."""
    return ("region", f"zone-{number:03}", "")


def locality_shares(given: dict[str, Any]) -> list[float]:
    """Share of each locality of P0 from a compiled table; the panic threshold is off, as the scheduler is alone."""
    members: list[Endpoint] = []
    totals = given["total_per_locality"]
    excluded = given.get("excluded_per_locality", [0] * len(totals))
    for number, total in enumerate(totals):
        eligible = given["eligible_per_locality"][number]
        health = [HEALTHY] * eligible + [DRAINING] * excluded[number]
        health += [UNHEALTHY] * (total - len(health))
        members += [host(len(members) + i, locality=locality_name(number), eds_health=h) for i, h in enumerate(health)]
    weights = {(0, locality_name(n)): weight for n, weight in enumerate(given["locality_weights"])}
    table = ClusterTable.compile(
        columns(members, weights),
        overprovisioning_factor=given["overprovisioning_factor"],
        panic_threshold=0,
        locality_weighted=True,
    )
    shares = table.shares()
    found = [0.0] * len(totals)
    for index, member in enumerate(members):
        found[int(member.locality[1][-3:])] += shares[index]
    return found


def answer_locality(vector: dict[str, Any]) -> Outcome:
    """Effective weights and long-run shares. The order of picks is not Envoy's by design: the oracle answers it."""
    outcome = Outcome("product")
    given, expected = vector["input"], vector["expect"]
    if "total_per_locality" not in given:
        raise NoRuleError
    if "effective_weights" in expected:
        excluded = given.get("excluded_per_locality", [0] * len(given["total_per_locality"]))
        for number, weight in enumerate(expected["effective_weights"]):
            answer = effective_locality_weight(
                given["locality_weights"][number],
                eligible=given["eligible_per_locality"][number],
                total=given["total_per_locality"][number],
                excluded=excluded[number],
                overprovisioning_factor=given["overprovisioning_factor"],
            )
            outcome.expect(f"effective weight {number}", weight, answer)
    if "histogram" in expected:
        picks = sum(expected["histogram"])
        for number, share in enumerate(locality_shares(given)):
            # A histogram of 100 picks is off by less than a pick on either side.
            outcome.expect_close(f"histogram {number}", expected["histogram"][number], share * picks, 1.0)
    return outcome


def answer_locality_docs(vector: dict[str, Any]) -> Outcome:
    """Shares of a compiled table with 100 hosts per locality."""
    outcome = Outcome("product")
    given, expected = vector["input"], vector["expect"]
    shares = locality_shares(
        {
            "total_per_locality": [100, 100],
            "eligible_per_locality": [given["x_healthy_percent"], given["y_healthy_percent"]],
            "locality_weights": given["weights"],
            "overprovisioning_factor": given["overprovisioning_factor"],
        }
    )
    outcome.expect_close("exact_percent_x", expected["exact_percent_x"], 100 * shares[0], 1e-9)
    # The document both truncates and rounds.
    outcome.expect_close("percent_x", expected["percent_x"], 100 * shares[0], 1.0)
    outcome.expect_close("percent_y", expected["percent_y"], 100 * shares[1], 1.0)
    return outcome


CHAIN_FIELDS = {"name", "destination_port", "server_names", "transport_protocol", "application_protocols"}


def answer_filter_chain(vector: dict[str, Any]) -> Outcome:
    """The compiled route table."""
    outcome = Outcome("product")
    given = vector["input"]
    if any(set(chain) - CHAIN_FIELDS for chain in given["chains"]):
        raise NoRuleError
    specs = [
        ChainSpec(
            name=chain["name"],
            destination_port=chain.get("destination_port", 0),
            server_names=tuple(chain.get("server_names", ())),
            transport_protocol=chain.get("transport_protocol", ""),
            application_protocols=tuple(chain.get("application_protocols", ())),
            targets=((0, 1),),
        )
        for chain in given["chains"]
    ]
    table = RouteTable.compile(specs)
    asked = Observed(
        server_name=given.get("sni", ""),
        application_protocols=given.get("application_protocols", ()),
        tls=given.get("transport_protocol", "tls") == "tls",
        destination_port=given.get("destination_port", 0),
    )
    found = table.match(asked)
    outcome.expect("chain", vector["expect"]["chain"], specs[found].name if found >= 0 else None)
    if vector["expect"].get("then") == "default_filter_chain":
        default = RouteTable.compile(specs, ChainSpec(name="default", targets=((0, 1),)))
        outcome.expect("default chain", len(specs), default.match(asked))
    return outcome


def keeps_state(before: Sequence[Endpoint], after: Sequence[Endpoint]) -> list[bool]:
    """Per endpoint of `after`, whether it has the state of the endpoint of `before` with its address."""
    table = ClusterTable.compile(columns(before))
    for index, endpoint in enumerate(before):
        for _ in range(1 + int(endpoint.address.split(".")[3].split(":")[0])):
            table.hold(index)
    follower = ClusterTable.compile(columns(after), previous=table)
    number = {e.address: 1 + int(e.address.split(".")[3].split(":")[0]) for e in after}
    return [follower.state(index)[0] == number[e.address] for index, e in enumerate(after)]


def answer_eds(vector: dict[str, Any]) -> Outcome:
    """Duplicates from shares; identity from the states that a table takes over from the one before."""
    outcome = Outcome("product")
    given, expected = vector["input"], vector["expect"]
    if "message_order" in given:
        members = [
            Endpoint(address, priority=int(priority[1:]), locality=("region", zone, ""))
            for priority, zone, address in given["message_order"]
        ]
        table = ClusterTable.compile(columns(members))
        shares = table.shares()
        kept = [entry for entry, share in zip(given["message_order"], shares, strict=True) if share > 0]
        outcome.expect("kept", expected["kept"], kept)
        outcome.expect("hosts counted", len(expected["kept"]), sum(p[0] for p in table.priorities()))
    elif "same_host_objects" in expected:
        sides = []
        for side in (given["before"], given["update"]):
            members = []
            for number, value in enumerate(side.values()):
                place = {"priority": value} if isinstance(value, int) else {"locality": ("region", value, "")}
                members.append(host(number, **place))
            sides.append(members)
        outcome.expect("same_host_objects", expected["same_host_objects"], all(keeps_state(sides[0], sides[1])))
    elif expected.get("rebuild") is False:
        order = {name: host(number) for number, name in enumerate(given["before"])}
        kept_states = keeps_state([order[n] for n in given["before"]], [order[n] for n in given["update"]])
        outcome.expect("states kept", [True] * len(order), kept_states)
    else:
        raise NoRuleError
    return outcome


def answer_weighted_clusters(vector: dict[str, Any]) -> Outcome:
    """The target of a compiled chain, for the value that the worker's generator would give."""
    outcome = Outcome("product")
    clusters = vector["input"]["clusters"]
    targets = tuple((slot, weight) for slot, (_, weight) in enumerate(clusters))
    slot = RouteTable.compile([ChainSpec("weighted", targets=targets)]).target(0, vector["input"]["random"])
    outcome.expect("cluster", vector["expect"]["cluster"], clusters[slot][0])
    return outcome


def answer_outlier(vector: dict[str, Any]) -> Outcome:
    """Limits and thresholds from the rules themselves, times from a detector of one endpoint."""
    outcome = Outcome("product")
    given, expected = vector["input"], vector["expect"]
    if "success_rates" in given:
        found = rate_threshold(given["success_rates"], given["stdev_factor_milli"])
        stdev = (found.average - found.threshold) * 1000 / given["stdev_factor_milli"]
        outcome.expect_close("mean", expected["mean"], found.average, 1e-9)
        outcome.expect_close("stdev", expected["stdev"], stdev, 1e-9)
        outcome.expect_close("threshold", expected["threshold"], found.threshold, 1e-9)
        settings = OutlierDetection(max_ejection_percent=100, success_rate_stdev_factor=given["stdev_factor_milli"])
        detector = Detector[int](settings, Counters(), lambda: 0)
        detector.set_hosts(len(given["success_rates"]))
        volumes = [Volume(number, rate, 100) for number, rate in enumerate(given["success_rates"])]
        ejected = [verdict.host for verdict in detector.tick(0, external=volumes)]
        outcome.expect("ejected", expected["ejected"], ejected)
    elif "events" in given:
        answer_ejection_times(outcome, given, expected)
    else:
        settings = OutlierDetection(
            max_ejection_percent=given["max_ejection_percent"], always_eject_one_host=given["always_eject_one_host"]
        )
        allowed = has_room(settings, ejected=given["already_ejected"], hosts=given["hosts"])
        outcome.expect("allowed", expected["allowed"], allowed)
    return outcome


def answer_ejection_times(outcome: Outcome, given: dict[str, Any], expected: dict[str, Any]) -> None:
    """One endpoint, ejected and asked at the given times; "50 healthy ticks until t=600" are ticks at each interval."""
    settings = OutlierDetection(
        max_ejection_percent=100, base_ejection_time_s=given["base_ejection_time_s"], interval_s=given["interval_s"]
    )
    detector = Detector[int](settings, Counters(), lambda: 0)
    detector.set_hosts(1)
    interval = given["interval_s"]
    events: list[tuple[int, str]] = []
    for event in given["events"]:
        time, _, what = event.rpartition("t=")[2].partition(" ")
        if "healthy ticks" in event:
            count = int(event.partition(" ")[0])
            events += [(int(time) - interval * (count - 1 - n), "tick") for n in range(count)]
        else:
            events.append((int(time), what))
    returned, multipliers = [], []
    for second, what in events:
        if what == "eject":
            detector.crossed(0, EjectionType.CONSECUTIVE_5XX, second * 1000)
            multipliers.append(detector.backoff(0))
        else:
            returned += [second for verdict in detector.tick(second * 1000) if not verdict.ejected]
    outcome.expect("unejected_at_s", expected["unejected_at_s"], returned)
    outcome.expect("multipliers", expected["backoff_multiplier_of_each_ejection"], multipliers)


def answer_slow_start(vector: dict[str, Any]) -> Outcome:
    """How a weight has grown; the order of picks that follows is the oracle's."""
    given = vector["input"]
    if "window_ms" not in given:
        raise NoRuleError
    outcome = Outcome("product")
    settings = SlowStart(given["window_ms"], given["aggression"], given["min_weight_fraction"] * 100)
    found = given["weight"] * weight_factor(settings, given["in_healthy_state_ms"])
    outcome.expect("effective_weight", vector["expect"]["effective_weight"], found)
    return outcome


def zone_hosts(listed: list[dict[str, Any]], key: str, net: int) -> list[Endpoint]:
    """Hosts of a vector's localities."""
    return [
        Endpoint(f"10.{net}.{number >> 8}.{number & 255}:{place + 1}", locality=("", one["zone"], ""))
        for place, one in enumerate(listed)
        for number in range(one[key])
    ]


def answer_zone(vector: dict[str, Any]) -> Outcome:
    """Numbers of the zones, and the parts that a table gives them; which zone a draw gives is the oracle's."""
    outcome = Outcome("product")
    given, expected = vector["input"], vector["expect"]
    upstream, mine = given["upstream_localities"], given["local_localities"]
    members = [zone_hosts(upstream, "healthy", 0), zone_hosts(mine, "hosts", 1)]
    own = ("", (upstream if given["upstream_has_local_locality"] else mine)[0]["zone"], "")
    census = ClusterTable.compile(columns(members[1])).census()
    table = ClusterTable.compile(
        columns(members[0]),
        own_locality=own,
        local=census,
        zone_aware=ZoneAware(min_cluster_size=given["min_cluster_size"]),
    )
    present = [one for one in upstream if one["healthy"]]
    if len(present) == len(upstream):
        # A table knows no locality without endpoints.
        outcome.expect("zoned", expected["state"] != "none", table.zoned)
    if expected["state"] == "none":
        return outcome
    hosts = {one["zone"]: one["hosts"] for one in mine}
    direct, percent, residuals, parts, picks = zone_parts(
        [one["healthy"] for one in upstream],
        [hosts.get(one["zone"], 0) for one in upstream],
        local_total=sum(hosts.values()),
        has_local=given["upstream_has_local_locality"],
    )
    outcome.expect("direct", expected["state"] == "direct", direct)
    outcome.expect("local_percent_to_route", expected["local_percent_to_route"], percent)
    outcome.expect("residual_capacity", expected["residual_capacity"], residuals)
    outcome.expect("percentages", [(one["local"], one["upstream"]) for one in expected["percentages"]], parts)
    if len(present) == len(upstream) and table.zoned:
        shares = table.shares()
        by_zone = [
            sum(share for one, share in zip(members[0], shares, strict=True) if one.locality[1] == zone["zone"])
            for zone in upstream
        ]
        outcome.expect("shares", [round(part, 9) for part in picks], [round(share, 9) for share in by_zone])
    return outcome


ANSWERS: dict[str, Callable[[dict[str, Any]], Outcome]] = {
    "priority": answer_priority,
    "priority_docs": answer_priority_docs,
    "choose_priority": answer_choose_priority,
    "panic": answer_panic,
    "round_robin": answer_round_robin,
    "health": answer_health,
    "locality": answer_locality,
    "locality_docs": answer_locality_docs,
    "filter_chain": answer_filter_chain,
    "eds": answer_eds,
    "weighted_clusters": answer_weighted_clusters,
    "outlier": answer_outlier,
    "slow_start": answer_slow_start,
    "zone": answer_zone,
}
