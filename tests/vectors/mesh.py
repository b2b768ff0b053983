"""Answers of the product to istio's vectors of endpoint picking: eastgate.mesh, asked as its control plane asks it."""

from collections.abc import Callable, Iterable
from typing import Any

from eastgate.mesh.clusters import outlier_detection
from eastgate.mesh.istio import MeshConfig, OutlierDetection, Policy
from eastgate.mesh.locality import (
    Candidate,
    Group,
    LocalitySetting,
    apply,
    distribute,
    matches,
    parse_locality,
    zone_aware,
)
from eastgate.mesh.policy import LocalityChoice, locality_choice
from eastgate.mesh.split_horizon import (
    Member,
    NetworkGateway,
    Seen,
    View,
    mtls_only,
    scale_factor,
    split_horizon,
)

from .outcome import Outcome

Vector = dict[str, Any]


def _group(text: str | None, weight: int | None = 1) -> Group:
    return Group(parse_locality(text or ""), (Candidate(1, {}, text),), weight)


def _rules(entries: Iterable[dict[str, str]]) -> tuple[tuple[str, str], ...]:
    return tuple((entry["from"], entry["to"]) for entry in entries)


def answer_distribute(vector: Vector) -> Outcome:
    """Weights by `distribute`, and which localities lose their endpoints."""
    outcome, given, expected = Outcome("product"), vector["input"], vector["expected"]
    groups = distribute(
        [_group(entry["locality"], entry["weight"]) for entry in given["localities"]],
        parse_locality(given["proxy_locality"]),
        [(rule["from"], rule["to"]) for rule in given["distribute"]],
    )
    outcome.expect("weights", expected["weights"], [one.weight or 0 for one in groups])
    outcome.expect("emptied", expected["emptied_indexes"], [i for i, one in enumerate(groups) if not one.candidates])
    outcome.expect("priorities", expected["priorities"], [one.priority for one in groups])
    return outcome


def answer_failover(vector: Vector) -> Outcome:
    """Priorities by locality."""
    outcome, given = Outcome("product"), vector["input"]
    absent = given.get("setting", "given") is None
    setting = None if absent else LocalitySetting(failover=_rules(given["failover"]))
    groups = apply(
        [_group(text) for text in given["localities"]],
        parse_locality(given["proxy_locality"]),
        {},
        setting,
        outlier_detection=given["outlier_detection"],
    )
    outcome.expect("priorities", vector["expected"]["priorities"], [one.priority for one in groups])
    return outcome


PLACES = {
    "proxy region": "r1/z1",
    "proxy region, other zone": "r1/z2",
    "failover To region": "r2",
    "third region": "r3",
}
"""Localities for the places that one vector describes in words; its proxy is in r1/z1, its rule leads to r2."""


def answer_zone_aware(vector: Vector) -> Outcome:
    """Priorities by region alone."""
    outcome, given, expected = Outcome("product"), vector["input"], vector["expected"]
    if "localities" in given:
        groups = [_group(text) for text in given["localities"]]
        got = zone_aware(groups, parse_locality(given["proxy_locality"]), _rules(given["failover"]))
        outcome.expect("priorities", expected["priorities"], [one.priority for one in got])
    else:
        groups = [
            Group.of(parse_locality(PLACES[place]), [Candidate(1, {}, name)])
            for name, place in given["endpoints"].items()
        ]
        got = zone_aware(groups, parse_locality("r1/z1"), (("r1", "r2"),))
        by_address = {str(one.candidates[0].endpoint): one.priority for one in got}
        outcome.expect("priorities", expected["priority_by_address"], by_address)
    return outcome


def answer_failover_priority(vector: Vector) -> Outcome:
    """Groups split and ordered by labels, then by region where both are set."""
    outcome, given, expected = Outcome("product"), vector["input"], vector["expected"]
    groups = [
        Group.of(
            parse_locality(entry["locality"]),
            (Candidate(one["weight"], one["labels"], one["address"]) for one in entry["endpoints"]),
        )
        for entry in given["groups"]
    ]
    setting = LocalitySetting(
        failover_priority=tuple(given["failoverPriority"]), failover=_rules(given.get("failover", []))
    )
    locality = parse_locality(given.get("proxy_locality", ""))
    got = apply(groups, locality, given["proxy_labels"], setting, outlier_detection=True)
    if "groups" in expected:
        said = [
            {
                "locality": str(one.locality),
                "priority": one.priority,
                "weight": one.weight,
                "addresses": [candidate.endpoint for candidate in one.candidates],
            }
            for one in got
        ]
        outcome.expect("groups", expected["groups"], said)
    else:
        outcome.expect("priorities", expected["priorities"], [one.priority for one in got])
        outcome.expect("weights", expected["weights"], [one.weight for one in got])
    return outcome


def answer_locality_match(vector: Vector) -> Outcome:
    """Patterns of localities."""
    outcome = Outcome("product")
    for case in vector["cases"]:
        outcome.expect(f"{case}", case["match"], matches(parse_locality(case["locality"]), case["rule"]))
    return outcome


def choice_for(given: Iterable[str]) -> LocalityChoice:
    """The setting that wins among these, in the words of the vectors: "dr.locality enabled=false"."""
    policy: Vector = {}
    config: Vector = {"localityLbSetting": None}
    distribution = ""
    for word in given:
        name, _, state = word.partition(" ")
        owner, _, kind = name.partition(".")
        if owner == "service":
            distribution = kind
        else:
            (policy if owner == "dr" else config)[f"{kind}LbSetting"] = {"enabled": state != "enabled=false"}
    rule = Policy.model_validate({"loadBalancer": policy} if policy else {})
    return locality_choice(rule, distribution, MeshConfig.model_validate(config))


def answer_effective_setting(vector: Vector) -> Outcome:
    """Which setting wins, whether it forces failover, and whether zones are left to the proxy."""
    outcome = Outcome("product")
    for case in vector["cases"]:
        choice = choice_for(case["given"])
        wins = choice.winner or None
        if choice.setting and choice.setting.failover_priority and str(case["wins"]).startswith("failoverPriority"):
            wins = f"failoverPriority[{', '.join(choice.setting.failover_priority)}]"
        outcome.expect(f"{case['given']} wins", case["wins"], wins)
        if "force" in case:
            outcome.expect(f"{case['given']} force", case["force"], choice.forced)
        if "routing_enabled" in case:
            outcome.expect(f"{case['given']} routing", case["routing_enabled"], choice.routing_enabled)
    return outcome


def answer_outlier_mapping(vector: Vector) -> Outcome:
    """The cluster's outlier detection of a rule's."""
    outcome = Outcome("product")
    for case in vector["cases"]:
        message = None
        if case["given"] is not None:
            found = outlier_detection(OutlierDetection.model_validate(case["given"]))
            names = [name for name in found.__dataclass_fields__ if not name.startswith("_")]
            message = {name: getattr(found, name) for name in names if type(getattr(found, name)) in (int, bool)}
            message = {name: value for name, value in message.items() if value is not False}
        outcome.expect(f"{case['given']}", case["cluster_outlier_detection"], message)
    return outcome


def answer_locality_weights(vector: Vector) -> Outcome:
    """A locality weighs what its endpoints weigh together."""
    outcome, found = Outcome("product"), {}
    for name in vector["expected"]["locality_weight"]:
        members = (Candidate(one["weight"], {}, one) for one in vector["input"]["endpoints"] if one["locality"] == name)
        found[name] = Group.of(parse_locality(name), members).weight
    outcome.expect("weights", vector["expected"]["locality_weight"], found)
    return outcome


def _gateways(given: Vector) -> list[NetworkGateway]:
    return [
        NetworkGateway(one["network"], one["address"], one.get("port", 15443), one.get("cluster", ""))
        for one in given["gateways"]
    ]


def _members(given: Vector) -> list[Member]:
    return [
        Member(one["address"], one["network"], one.get("cluster", ""), one.get("weight", 1), one.get("mtls", True), one)
        for one in given["endpoints"]
    ]


def _said(seen: Iterable[Seen]) -> Vector:
    entries = list(seen)
    direct = {one.member.address: one.weight for one in entries if one.member}
    through = {one.gateway.address: one.weight for one in entries if one.gateway}
    return {"direct": direct, "gateways": through, "total": sum((*direct.values(), *through.values()))}


FAMILIES = {
    "proxy_ipv4_only": View("here", ipv6=False),
    "proxy_ipv6_only": View("here", ipv4=False),
    "proxy_dual_stack": View("here"),
}


def answer_split_horizon(vector: Vector) -> Outcome:
    """What each network sees: its own endpoints, and gateways for the others."""
    outcome, given, expected = Outcome("product"), vector["input"], vector["expected"]
    if "scale" in given:
        outcome.expect("scale", given["scale"], scale_factor(_gateways(given)))
    for network, wanted in expected.get("from", {}).items():
        got = _said(split_horizon(_members(given), View(network), _gateways(given)))
        if "weights" in wanted:
            outcome.expect(f"from {network}", wanted["weights"], {**got["direct"], **got["gateways"]})
        else:
            outcome.expect(f"from {network}", wanted, got)
    for name, view in FAMILIES.items():
        if name in expected:
            got = _said(split_horizon(_members(given), view, _gateways(given)))
            outcome.expect(name, expected[name], got["gateways"])
    if "only_incompatible_gateways" in expected:
        four = [one for one in _gateways(given) if ":" not in one.address]
        got = _said(split_horizon(_members(given), FAMILIES["proxy_ipv6_only"], four))
        outcome.expect("only incompatible gateways", expected["only_incompatible_gateways"], got["gateways"])
    for subset, wanted in expected.get("subset", {}).items():
        chosen = [
            member
            for member, one in zip(_members(given), given["endpoints"], strict=True)
            if not subset or one["labels"]["version"] == subset
        ]
        got = _said(split_horizon(chosen, View(given["proxy_network"]), _gateways(given)))
        outcome.expect(f"subset {subset!r}", wanted, {**got["direct"], **got["gateways"]})
    return outcome


def answer_sni_dnat_filter(vector: Vector) -> Outcome:
    """SNI-DNAT clusters keep what speaks mesh mTLS. The mesh is that of the vector which `as` names."""
    outcome = Outcome("product")
    given, expected = vector["input"]["as"], vector["expected"]
    own_network_only = "requested_network_view" in vector["input"]
    for network, wanted in expected["from"].items():
        view = View(network, frozenset({network} if own_network_only else ()))
        outcome.expect(
            f"from {network}", wanted, _said(mtls_only(split_horizon(_members(given), view, _gateways(given))))
        )
    if "from_any_when_mtls_disabled" in expected:
        plain = [Member(m.address, m.network, m.cluster, m.weight, False) for m in _members(given)]
        for network in expected["from"]:
            got = _said(mtls_only(split_horizon(plain, View(network), _gateways(given))))
            outcome.expect(f"without mTLS from {network}", expected["from_any_when_mtls_disabled"], got)
    return outcome


def answer_network_view(vector: Vector) -> Outcome:
    """REQUESTED_NETWORK_VIEW hides other networks."""
    outcome = Outcome("product")
    for case in vector["cases"]:
        view = View("network1", frozenset(case["requested_network_view"] or ()))
        outcome.expect(f"{case}", case["visible"], view.sees(case["endpoint_network"]))
    return outcome


ANSWERS: dict[str, Callable[[Vector], Outcome]] = {
    "distribute": answer_distribute,
    "failover": answer_failover,
    "zone_aware": answer_zone_aware,
    "failover_priority": answer_failover_priority,
    "failover_priority_then_failover": answer_failover_priority,
    "locality_match": answer_locality_match,
    "effective_setting": answer_effective_setting,
    "outlier_mapping": answer_outlier_mapping,
    "locality_weights": answer_locality_weights,
    "split_horizon": answer_split_horizon,
    "sni_dnat_filter": answer_sni_dnat_filter,
    "network_view": answer_network_view,
}
