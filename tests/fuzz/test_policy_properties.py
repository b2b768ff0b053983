"""Random policies and connections: the compiled ones beside the slow model."""

from ipaddress import ip_network
from typing import Any

from eastgate.fastpath.match.facts import Observed
from eastgate.fastpath.match.policy import PolicySet
from eastgate.xds.rbac import Policy, Predicate, RbacFilter, Rules, TextMatch
from eastgate.xds.resources import CidrRange
from hypothesis import given, settings
from hypothesis import strategies as st

from ..oracle import policy as model

PEERS = (
    None,
    "",
    "spiffe://td/ns/a/sa/b",
    "spiffe://td/ns/a/x/sa/b",
    "spiffe://td/ns/ab/sa/B/k/v",
    "SPIFFE://td/ns/a/sa/b",
)
TEXTS = ("spiffe://td/ns/a/sa/b", "spiffe://td/ns/a", "/sa/b", "/ns/", "b", "", "SA/B")
REGEXES = (
    *(".+", ".*", "", ".*/ns/a/.*", ".*/ns/a.*/.*", "spiffe://.*/sa/b", "spiffe://.+/ns/a/(.+/|)sa/b(/.+)?"),
    *("[a-z]+", "(a.)*", "^spiffe.*", "spiffe://td/ns/(a|ab)/sa/.", "s.iffe:..td.*b", "a|b", r"spiffe://td/ns/a/sa/\w"),
)
ADDRESSES = ("10.1.2.3", "10.1.9.9", "192.0.2.1", "fd00::1", "fd00:1::1", "::ffff:10.1.2.3")
PREFIXES = ("10.0.0.0/8", "10.1.2.0/23", "10.1.2.3/32", "0.0.0.0/0", "fd00::/8", "fd00:1::/33", "::/0", "fd00::1/128")


def cidr(prefix: str) -> CidrRange:
    network = ip_network(prefix)
    return CidrRange(network.network_address.packed, network.prefixlen)


texts = st.builds(
    TextMatch, st.sampled_from(("exact", "prefix", "suffix", "contains")), st.sampled_from(TEXTS), st.booleans()
) | st.builds(TextMatch, st.just("regex"), st.sampled_from(REGEXES))
leaves = (
    st.just(Predicate("any"))
    | st.just(Predicate("authenticated"))
    | st.builds(lambda match: Predicate("authenticated", match=match), texts)
    | st.builds(lambda match: Predicate("server_name", match=match), texts)
    | st.builds(
        lambda kind, prefix: Predicate(kind, range=cidr(prefix)),
        st.sampled_from(("destination_ip", "direct_remote_ip", "remote_ip", "source_ip")),
        st.sampled_from(PREFIXES),
    )
    | st.sampled_from(((80, 81), (0, 65536), (80, 80), (443, 8443))).map(
        lambda ports: Predicate("destination_port", first=ports[0], end=ports[1])
    )
    | st.just(Predicate("unknown", what="header"))
)


def combined(parts: Any) -> Any:
    return st.builds(
        lambda kind, some: Predicate(kind, parts=tuple(some)),
        st.sampled_from(("and", "or")),
        st.lists(parts, min_size=1, max_size=3),
    ) | st.builds(lambda one: Predicate("not", parts=(one,)), parts)


predicates = st.recursive(leaves, combined, max_leaves=8)
some = st.lists(predicates, min_size=1, max_size=2).map(tuple)
rules = st.builds(
    lambda action, policies: Rules(action, tuple(Policy(f"p{n}", *one) for n, one in enumerate(policies))),
    st.sampled_from(("ALLOW", "DENY", "LOG")),
    st.lists(st.tuples(some, some), max_size=3),
)
filters = st.lists(st.builds(RbacFilter, st.none() | rules, st.none() | rules, st.booleans()), max_size=3)
facts = st.fixed_dictionaries(
    {
        "server_name": st.sampled_from(("", "b", "spiffe://td/ns/a/sa/b", "x/sa/b")),
        "destination": st.sampled_from(("", *ADDRESSES)),
        "destination_port": st.sampled_from((80, 443, 65535)),
        "source": st.sampled_from(ADDRESSES),
        "direct_source": st.sampled_from(ADDRESSES),
    }
)


@settings(max_examples=600, deadline=None)
@given(filters, st.lists(st.tuples(facts, st.sampled_from(PEERS)), min_size=1, max_size=6))
def test_policies_decide_as_the_model_does(chain, connections):
    policies = PolicySet.compile(chain)
    for known, peer in connections:
        decision = policies.judge(Observed(**known), peer)
        assert decision.allowed == model.allowed(chain, known, peer), (known, peer)
        # A filter that denies is the last one that is asked.
        asked = chain
        if not decision.allowed:
            last = next(
                number
                for number, one in enumerate(chain)
                if one.rules and model.is_denied(one.rules, known, peer, is_http=one.is_http)
            )
            asked = chain[: last + 1]
        shadows = [one for one in asked if one.shadow_rules and one.shadow_rules.action != "LOG"]
        denied = sum(model.is_denied(one.shadow_rules, known, peer, is_http=one.is_http) for one in shadows)
        assert (decision.shadow_denied, decision.shadow_allowed) == (denied, len(shadows) - denied)


@settings(max_examples=300, deadline=None)
@given(predicates, facts, st.sampled_from(PEERS), st.booleans())
def test_more_knowledge_never_turns_a_decision_around(one, known, peer, is_http):
    """What a predicate says while something is unknown holds whatever that turns out to be."""
    found = model.truth(one, known, peer, is_http=is_http)
    for said in (Predicate("any"), Predicate("not", parts=(Predicate("any"),))):
        settled = model.truth(replaced(one, said), known, peer, is_http=is_http)
        assert found in (model.UNKNOWN, settled)
    for action, outcome in (("ALLOW", found == model.TRUE), ("DENY", found == model.FALSE)):
        chain = [RbacFilter(Rules(action, (Policy("p", (one,), (Predicate("any"),)),)), is_http=is_http)]
        assert PolicySet.compile(chain).judge(Observed(**known), peer).allowed == outcome


def replaced(one: Predicate, said: Predicate) -> Predicate:
    """The predicate with `said` for what is named unknown in it."""
    if one.kind == "unknown":
        return said
    return Predicate(
        one.kind, tuple(replaced(part, said) for part in one.parts), one.match, one.range, one.first, one.end
    )
