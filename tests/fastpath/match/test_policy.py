import copy
import pickle

import pytest
from eastgate.fastpath.match.facts import Observed
from eastgate.fastpath.match.policy import Decision, PolicySet
from eastgate.xds.rbac import Policy, Predicate, RbacFilter, Rules, TextMatch
from eastgate.xds.resources import CidrRange

ANY = Predicate("any")
NEVER = Predicate("not", parts=(ANY,))
UNKNOWN = Predicate("unknown", what="header")
SLEEP = "spiffe://cluster.local/ns/sleep/sa/sleep"


def peer(kind: str, text: str, *, ignore_case: bool = False) -> Predicate:
    return Predicate("authenticated", match=TextMatch(kind, text, ignore_case))


def rules(action: str, *principals: Predicate) -> Rules:
    """A policy for each principal, p0, p1 and so on."""
    return Rules(action, tuple(Policy(f"p{number}", (ANY,), (one,)) for number, one in enumerate(principals)))


def judged(
    *filters: Rules | RbacFilter, peer: str | None = None, is_http: bool = False, **observed: object
) -> Decision:
    chain = [one if isinstance(one, RbacFilter) else RbacFilter(one, is_http=is_http) for one in filters]
    return PolicySet.compile(chain).judge(Observed(**observed), peer)


def holds(one: Predicate, who: str | None = None, **asked: object) -> bool | None:
    """Whether a predicate is true; None: unknown."""
    if judged(rules("ALLOW", one), peer=who, **asked).allowed:
        return True
    return None if judged(rules("DENY", one), peer=who, **asked).unknown else False


# ---- actions


def test_without_rules_everybody_passes():
    assert judged() == Decision(True)
    assert judged(RbacFilter(None)) == Decision(True)


def test_allow_without_policies_lets_nobody_in_and_deny_everybody():
    assert judged(rules("ALLOW")) == Decision(False)
    assert judged(rules("DENY")) == Decision(True)
    assert judged(rules("LOG")) == Decision(True)


def test_allow_needs_true():
    assert judged(rules("ALLOW", NEVER, ANY)).allowed
    assert judged(rules("ALLOW", NEVER)) == Decision(False)
    assert judged(rules("ALLOW", NEVER, UNKNOWN)) == Decision(False, unknown=True)
    assert judged(rules("ALLOW", UNKNOWN, ANY)).allowed


def test_deny_acts_on_true_and_on_unknown_and_names_the_policy():
    assert judged(rules("DENY", NEVER)).allowed
    assert judged(rules("DENY", NEVER, ANY)) == Decision(False, "p1")
    assert judged(rules("DENY", UNKNOWN)) == Decision(False, "p0", unknown=True)
    # What is certain is told before what is not.
    assert judged(rules("DENY", UNKNOWN, ANY)) == Decision(False, "p1")


def test_all_filters_must_pass():
    allow, deny = rules("ALLOW", ANY), rules("DENY", NEVER)
    assert judged(deny, allow, RbacFilter(None)).allowed
    assert not judged(allow, deny, rules("ALLOW")).allowed
    assert judged(allow, rules("DENY", NEVER, ANY), rules("ALLOW")).policy == "p1"


def test_log_and_shadow_rules_are_counted_and_deny_nobody():
    assert judged(rules("LOG", ANY), rules("LOG", NEVER), rules("LOG", UNKNOWN)) == Decision(True, logged=2)
    shadows = [
        RbacFilter(None, rules("DENY", ANY)),
        RbacFilter(None, rules("ALLOW")),
        RbacFilter(None, rules("ALLOW", ANY)),
    ]
    assert judged(*shadows) == Decision(True, shadow_allowed=1, shadow_denied=2)
    # Those of a filter that denies are counted, those behind it are not.
    assert judged(RbacFilter(rules("ALLOW"), rules("DENY", ANY)), *shadows) == Decision(False, shadow_denied=1)


def test_permission_and_principal_must_both_hold():
    for permission, principal, allowed in ((ANY, ANY, True), (NEVER, ANY, False), (ANY, NEVER, False)):
        assert judged(Rules("ALLOW", (Policy("p", (permission,), (principal,)),))).allowed == allowed
    assert judged(Rules("ALLOW", (Policy("p", (NEVER, ANY), (ANY, NEVER)),))).allowed
    # False beside unknown is false.
    assert judged(Rules("DENY", (Policy("p", (UNKNOWN,), (NEVER,)),))).allowed


# ---- three values


@pytest.mark.parametrize(
    ("kind", "parts", "value"),
    [
        ("and", (ANY, ANY), True),
        ("and", (ANY, UNKNOWN), None),
        ("and", (UNKNOWN, NEVER), False),
        ("or", (NEVER, NEVER), False),
        ("or", (NEVER, UNKNOWN), None),
        ("or", (UNKNOWN, ANY), True),
        ("not", (UNKNOWN,), None),
        ("not", (NEVER,), True),
    ],
)
def test_three_values(kind, parts, value):
    assert holds(Predicate(kind, parts=parts)) is value


# ---- peers


@pytest.mark.parametrize(
    ("one", "value"),
    [
        (Predicate("authenticated"), True),
        (peer("exact", SLEEP), True),
        (peer("exact", SLEEP + "x"), False),
        (peer("exact", SLEEP[:-1]), False),
        (peer("exact", SLEEP.upper()), False),
        (peer("exact", SLEEP.upper(), ignore_case=True), True),
        (peer("prefix", "spiffe://cluster.local/ns/sleep/"), True),
        (peer("prefix", "spiffe://cluster.local/ns/sleep/x"), False),
        (peer("suffix", "/sa/sleep"), True),
        (peer("suffix", "/sa/sleepy"), False),
        (peer("suffix", "x" * 100), False),
        (peer("contains", "/NS/SLEEP/", ignore_case=True), True),
        (peer("contains", "/ns/sle/"), False),
        (peer("contains", ""), True),
        (peer("regex", ".*/ns/sleep/.*"), True),
        (peer("regex", ".*/ns/slee/.*"), False),
        (peer("regex", ".*/ns/sl.*/.*"), True),
        (peer("regex", "spiffe://.+/ns/sleep/(.+/|)sa/sleep(/.+)?"), True),
        (peer("regex", "spiffe://.+/ns/sleep/(.+/|)sa/slee(/.+)?"), False),
        (peer("regex", ".+"), True),
        # Of the whole text.
        (peer("regex", "/ns/sleep/"), False),
        (peer("regex", "[a-z:/.]+"), None),
    ],
)
def test_peer(one, value):
    assert holds(one, SLEEP) is value
    # Who shows no certificate is nobody, which is known.
    assert holds(one) is False


def test_any_name_of_the_peer_may_match():
    # URI, DNS name and subject of one certificate.
    names = f"{SLEEP}\0sleep.example\0O=Acme"
    for one in ("O=Acme", "sleep.example", SLEEP):
        assert holds(peer("exact", one), names) is True
        assert holds(Predicate("not", parts=(peer("exact", one),)), names) is False
    assert holds(peer("exact", "O=Acm"), names) is False
    assert holds(peer("suffix", "sleep\0"), names) is False
    assert holds(peer("exact", names), names) is False
    # An empty subject is a name.
    assert holds(peer("exact", ""), SLEEP + "\0") is True
    assert holds(peer("exact", ""), SLEEP) is False
    assert holds(peer("regex", ".*/ns/sleep/.*"), "ä\0" + SLEEP) is True
    assert holds(peer("regex", ".*/ns/sleepy/.*"), "ä\0" + SLEEP) is None


@pytest.mark.parametrize("name", ["spiffe://a/ns/b/sa/\n", "spiffe://a/ns/b/sa/ä"])
def test_peer_whose_name_no_pattern_can_judge_by_bytes(name):
    assert holds(peer("regex", ".*/ns/b/.*"), name) is None
    assert holds(peer("prefix", "spiffe://a/ns/b/"), name) is True


def test_patterns_take_back_what_a_wildcard_took():
    assert holds(peer("regex", ".*ab.*abc"), "ababxabcabc") is True
    assert holds(peer("regex", ".*a.b.*c"), "aaxbaac") is True
    assert holds(peer("regex", ".*a.b.*c"), "aabbaa") is False
    assert holds(peer("regex", "(.*a)?(.*a)?(.*a)?(.*a)?.*b"), "a" * 2000) is False


# ---- the connection


def cidr(text: str, length: int) -> CidrRange:
    packed = bytes(int(part) for part in text.split("."))
    return CidrRange(packed, length)


def test_addresses():
    ten = cidr("10.0.0.0", 8)
    ends = {"destination": "10.0.0.1", "source": "11.0.0.1", "direct_source": "12.0.0.1"}
    assert holds(Predicate("destination_ip", range=ten), **ends) is True
    assert holds(Predicate("destination_ip", range=cidr("10.0.0.2", 32)), **ends) is False
    assert holds(Predicate("direct_remote_ip", range=cidr("12.0.0.0", 8)), **ends) is True
    assert holds(Predicate("direct_remote_ip", range=cidr("11.0.0.0", 8)), **ends) is False
    for kind in ("source_ip", "remote_ip"):
        assert holds(Predicate(kind, range=cidr("11.0.0.0", 8)), **ends) is True
        assert holds(Predicate(kind, range=cidr("12.0.0.0", 8)), **ends) is False
    assert holds(Predicate("source_ip", range=CidrRange(bytes(16), 0)), **ends) is False
    assert holds(Predicate("destination_ip", range=ten)) is None


def test_remote_ip_of_http_is_unknown():
    one = Predicate("remote_ip", range=cidr("0.0.0.0", 0))
    assert holds(one, source="1.2.3.4", is_http=True) is None
    assert holds(one, source="1.2.3.4") is True
    assert holds(Predicate("direct_remote_ip", range=cidr("0.0.0.0", 0)), source="1.2.3.4", is_http=True) is True


def test_ports_and_server_name():
    ports = Predicate("destination_port", first=80, end=82)
    assert [holds(ports, destination_port=port) for port in (79, 80, 81, 82)] == [False, True, True, False]
    name = Predicate("server_name", match=TextMatch("suffix", ".example"))
    assert holds(name, server_name="a.example") is True
    assert holds(name, server_name="example") is False
    assert holds(name, tls=False) is False


# ---- compile


def test_what_is_not_known_is_named():
    filters = [
        RbacFilter(rules("ALLOW", UNKNOWN, ANY, peer("regex", "[a]"), UNKNOWN)),
        RbacFilter(rules("DENY", Predicate("remote_ip", range=cidr("0.0.0.0", 0))), is_http=True),
    ]
    policies = PolicySet.compile(filters)
    assert policies.names == ("p0", "p1", "p2", "p3", "p0")
    assert policies.unknown == (
        ("p0", "header"),
        ("p2", "authenticated [a]"),
        ("p3", "header"),
        ("p0", "remote_ip of HTTP"),
    )


def nested(depth: int) -> Predicate:
    one = ANY
    for _ in range(depth):
        one = Predicate("not", parts=(one,))
    return one


@pytest.mark.parametrize(
    ("one", "sentence"),
    [
        (nested(65), "nested deeper than 64"),
        (Predicate("source_ip", range=CidrRange(bytes(4), 33)), "source_ip is no prefix"),
        (Predicate("source_ip", range=CidrRange(bytes(5), 3)), "source_ip is no prefix"),
        (Predicate("destination_port", first=2, end=1), "2 to 1 are no ports"),
        (Predicate("destination_port", first=0, end=65537), "are no ports"),
        (Predicate("weather"), "no predicate is called weather"),
        (peer("sounds like", "a"), "no text is matched by sounds like"),
    ],
)
def test_policies_that_cannot_be_compiled(one, sentence):
    with pytest.raises(ValueError, match=sentence) as caught:
        judged(rules("DENY", ANY, one))
    assert "policy p1: " in str(caught.value)


def test_as_deep_as_allowed():
    assert holds(nested(64)) is True


def test_is_not_made_or_copied_otherwise():
    with pytest.raises(TypeError, match=r"PolicySet\.compile"):
        PolicySet()
    with pytest.raises(TypeError, match="pickled"):
        pickle.dumps(PolicySet.compile([]))
    with pytest.raises(TypeError, match="pickled"):
        copy.copy(PolicySet.compile([]))
