"""RBAC filters by their bytes: what they say is kept, and what they may mean is not lost."""

from collections.abc import Iterator
from typing import Any

import pytest
from eastgate.fastpath.match.facts import Observed
from eastgate.fastpath.match.policy import PolicySet
from eastgate.xds.decode_rbac import HTTP_RBAC, NETWORK_RBAC, decode_rbac, rbac_filter
from eastgate.xds.fields import type_name
from eastgate.xds.message import encode, read
from eastgate.xds.rbac import Policy, Predicate, RbacFilter, Rules, TextMatch
from eastgate.xds.resources import CidrRange

from ..support.encoded import field
from ..support.recordings import LDS, recorded

ANY = Predicate("any")
SLEEP = TextMatch("exact", "spiffe://cluster.local/ns/sleep/sa/sleep")


def decoded(message: dict[str, Any], kind: str = NETWORK_RBAC) -> RbacFilter:
    return decode_rbac(encode(kind, message), kind)


def one_policy(**fields: Any) -> Policy:
    policy = {"permissions": [{"any": True}], "principals": [{"any": True}], **fields}
    rules = decoded({"rules": {"policies": {"p": policy}}}).rules
    assert rules is not None
    return rules.policies[0]


def principal(**fields: Any) -> Predicate:
    return one_policy(principals=[fields]).principals[0]


def permission(**fields: Any) -> Predicate:
    return one_policy(permissions=[fields]).permissions[0]


def test_empty_rules_are_not_missing_rules():
    assert decoded({}) == RbacFilter(None)
    assert decoded({"rules": {}}) == RbacFilter(Rules("ALLOW", ()))
    assert decoded({"shadow_rules": {"action": "DENY"}}) == RbacFilter(None, Rules("DENY", ()))
    assert decoded({"rules": {"action": "LOG"}}, HTTP_RBAC) == RbacFilter(Rules("LOG", ()), is_http=True)


def test_policies_are_asked_in_the_order_of_their_names():
    policy = {"permissions": [{"any": True}], "principals": [{"any": True}]}
    rules = decoded({"rules": {"policies": {"b": policy, "a": policy, "c": policy}}}).rules
    assert rules is not None
    assert [one.name for one in rules.policies] == ["a", "b", "c"]


def test_permissions():
    assert permission(any=True) == ANY
    assert permission(any=False) == Predicate("not", parts=(ANY,))
    assert permission(destination_port=80) == Predicate("destination_port", first=80, end=81)
    assert permission(destination_port_range={"start": 80, "end": 90}) == Predicate(
        "destination_port", first=80, end=90
    )
    assert permission(destination_ip={"address_prefix": "10.1.2.3", "prefix_len": 8}) == Predicate(
        "destination_ip", range=CidrRange(bytes((10, 0, 0, 0)), 8)
    )
    assert permission(requested_server_name={"suffix": ".a", "ignore_case": True}) == Predicate(
        "server_name", match=TextMatch("suffix", ".a", ignore_case=True)
    )
    assert permission(not_rule={"or_rules": {"rules": [{"any": True}, {"and_rules": {"rules": [{"any": True}]}}]}}) == (
        Predicate("not", parts=(Predicate("or", parts=(ANY, Predicate("and", parts=(ANY,)))),))
    )


def test_principals():
    assert principal(authenticated={}) == Predicate("authenticated")
    assert principal(authenticated={"principal_name": {"exact": SLEEP.text}}) == Predicate("authenticated", match=SLEEP)
    for kind in ("prefix", "suffix", "contains"):
        assert principal(authenticated={"principal_name": {kind: "a"}}).match == TextMatch(kind, "a")
    assert principal(authenticated={"principal_name": {"safe_regex": {"regex": ".+"}}}).match == TextMatch(
        "regex", ".+"
    )
    for kind in ("source_ip", "direct_remote_ip", "remote_ip"):
        found = principal(**{kind: {"address_prefix": "fd00::1", "prefix_len": 8}})
        assert found == Predicate(kind, range=CidrRange(b"\xfd" + bytes(15), 8))
    assert principal(not_id={"and_ids": {"ids": [{"any": True}]}}) == Predicate(
        "not", parts=(Predicate("and", parts=(ANY,)),)
    )


@pytest.mark.parametrize("kind", ["header", "url_path", "metadata", "filter_state", "sourced_metadata"])
def test_what_nobody_here_evaluates_is_unknown(kind):
    value = {"name": "x"} if kind == "header" else b""
    assert principal(**{kind: value}) == Predicate("unknown", what=kind)


def test_predicate_of_nothing_or_of_a_field_from_the_future_is_unknown():
    assert principal() == Predicate("unknown", what="nothing")
    assert principal(authenticated={"principal_name": {}}).kind == "unknown"
    future = field(99, b"x")
    policy = field(1, encode("envoy.config.rbac.v3.Permission", {"any": True})) + field(2, future)
    rules = decode_rbac(field(1, field(2, field(1, b"p") + field(2, policy))), NETWORK_RBAC).rules
    assert rules is not None
    assert rules.policies[0].principals[0].kind == "unknown"


def test_condition_makes_its_policy_uncertain():
    found = one_policy(condition=b"\x0a\x00")
    wanted = Predicate("and", parts=(Predicate("or", parts=(ANY,)), Predicate("unknown", what="condition")))
    assert found == Policy("p", (ANY,), (wanted,))


def test_matcher_in_place_of_rules_denies_for_lack_of_knowledge():
    unknown = (Predicate("unknown", what="matcher"),)
    assert decoded({"matcher": b""}).rules == Rules("DENY", (Policy("matcher", unknown, unknown),))
    assert decoded({"shadow_matcher": b""}).rules is None


@pytest.mark.parametrize(
    ("policy", "sentence"),
    [
        ({"principals": [{"any": True}]}, "policy p has no permissions"),
        ({"permissions": [{"any": True}]}, "policy p has no principals"),
        ({"permissions": [{"and_rules": {}}], "principals": [{"any": True}]}, "and_rules of nothing"),
        ({"permissions": [{"any": True}], "principals": [{"or_ids": {}}]}, "or_ids of nothing"),
        ({"permissions": [{"destination_port": 65536}], "principals": [{"any": True}]}, "destination_port is 65536"),
        (
            {"permissions": [{"destination_port_range": {"start": 9, "end": 8}}], "principals": [{"any": True}]},
            "destination_port_range: 9 to 8 are no ports",
        ),
        (
            {"permissions": [{"any": True}], "principals": [{"source_ip": {"address_prefix": "x"}}]},
            "source_ip: 'x' is not an IP address",
        ),
    ],
)
def test_what_envoy_does_not_load_either(policy, sentence):
    with pytest.raises(ValueError, match=sentence):
        decoded({"rules": {"policies": {"p": policy}}})


@pytest.mark.parametrize("place", ["filter", "rules", "policy"])
def test_field_from_the_future_is_an_error(place):
    future = field(99, b"x")
    raw = {"filter": future, "rules": field(1, future), "policy": field(1, field(2, field(1, b"p") + field(2, future)))}
    with pytest.raises(ValueError, match="unknown fields"):
        decode_rbac(raw[place], NETWORK_RBAC)


def recorded_filters(role: str) -> Iterator[RbacFilter]:
    """RBAC filters that istiod sent under an AuthorizationPolicy, those of connection managers too."""
    for payload in recorded("11-strict-authz", role)[LDS].values():
        listener = read("envoy.config.listener.v3.Listener", payload)
        for raw in listener.get("filter_chains", ()):
            for one in read("envoy.config.listener.v3.FilterChain", raw).get("filters", ()):
                config = one.get("typed_config", {})
                for inner in (config, *(each.get("typed_config", {}) for each in config.get("http_filters", ()))):
                    if type_name(inner) in (NETWORK_RBAC, HTTP_RBAC):
                        message = {name: value for name, value in inner.items() if name != "@type"}
                        yield rbac_filter(message, is_http=type_name(inner) == HTTP_RBAC)


def test_recorded_policy_lets_in_whom_it_names():
    found = [*recorded_filters("anthos-sidecar-echo")]
    assert {one.is_http for one in found} == {False, True}
    here = Observed(destination="10.0.0.1", destination_port=8080, source="10.0.0.2")
    elsewhere = Observed(destination="10.0.0.1", destination_port=8081, source="10.0.0.2")
    for one in found:
        assert one.rules is not None
        policies = PolicySet.compile([one])
        assert policies.names == ("ns[default]-policy[lab]-rule[0]",)
        assert policies.unknown == ()
        assert policies.judge(here, SLEEP.text).allowed
        for judged in (
            policies.judge(here, SLEEP.text + "y"),
            policies.judge(here),
            policies.judge(elsewhere, SLEEP.text),
        ):
            assert not judged.allowed
            assert not judged.unknown
