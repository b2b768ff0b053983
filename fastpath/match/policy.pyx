"""Authorization policies over what is known of a connection and its peer, with three values.

What layer 4 cannot tell (paths, methods, headers, claims; on HTTP chains the client's address behind proxies) is
neither true nor false but unknown, and stays so through and, or, not. DENY acts on true and on unknown, ALLOW needs
true: whatever is not known, nobody is let in by it. LOG and shadow rules are counted and deny nobody. No certificate is
false for a principal, not unknown. All filters must pass, each in its order; rules without policies let nobody in.

Regular expressions of peers and server names: those that istiod writes are literals, `.`, `.*` and `.+`, and groups of
these that may be missing. They become patterns that are matched here, in time that grows with both lengths at most;
any other expression is unknown.

Layout: `words` as in route_nodes.pxd, a node by its offset.
    AND, OR     kind, count, nodes
    NOT         kind, node
    TRUE, UNKNOWN, PEER     kind
    TEXT        kind, whose, and what policy_text.pxd has
    ADDRESS     kind, whose, family, bits, four words
    PORTS       kind, first, end
"""
cimport cython
from cpython.array cimport array
from libc.stdint cimport uint8_t, uint32_t
from libc.stdlib cimport calloc, free
from libc.string cimport memchr, memcpy, memset

from eastgate.fastpath.match.facts cimport Address, Facts, Observed
from eastgate.fastpath.match.policy_text cimport CONTAINS, EXACT, PATTERN, PREFIX, SUFFIX, match_text
from eastgate.fastpath.posix cimport atomic_add, atomic_sub_release

from eastgate.fastpath.match.patterns import pattern_alternatives

from itertools import accumulate
from typing import NamedTuple

cdef enum NodeKind:
    AND
    OR
    NOT
    TRUE
    UNKNOWN
    PEER
    TEXT
    ADDRESS
    PORTS

cdef enum TextOf:
    OF_PEER
    OF_SERVER_NAME

cdef enum AddressOf:
    OF_DESTINATION
    OF_SOURCE
    OF_DIRECT_SOURCE

cdef enum Action:
    ALLOW
    DENY
    LOG

cdef enum:
    DEEPEST = 64
    MOST_RULES = 1024

cdef struct RuleSet:
    uint8_t action
    uint8_t shadow
    uint32_t first              # policy
    uint32_t count

cdef struct CompiledPolicies:
    uint32_t references         # atomic
    const uint32_t* words
    RuleSet* rules
    uint32_t* nodes             # of each policy
    char* names                 # of all policies, one behind the other
    uint32_t* name_ends
    uint32_t rule_count
    uint32_t policy_count

cdef dict TEXTS = {"authenticated": OF_PEER, "server_name": OF_SERVER_NAME}
cdef dict ADDRESSES = {
    "destination_ip": OF_DESTINATION,
    "remote_ip": OF_SOURCE,
    "source_ip": OF_SOURCE,
    "direct_remote_ip": OF_DIRECT_SOURCE,
}
cdef dict HOWS = {"exact": EXACT, "prefix": PREFIX, "suffix": SUFFIX, "contains": CONTAINS}
cdef dict ACTIONS = {"ALLOW": ALLOW, "DENY": DENY, "LOG": LOG}


class Decision(NamedTuple):
    """What a PolicySet says of a connection.

    `policy`: name of the one that denied, empty where none allowed it; `unknown`: that was for lack of knowledge.
    """

    allowed: bool
    policy: str = ""
    unknown: bool = False
    shadow_allowed: int = 0
    shadow_denied: int = 0
    logged: int = 0


# ---- peer

cdef Truth match_peer(const uint32_t* node, const Peer* peer) noexcept nogil:
    """Whether any name of the peer matches: as in Envoy its URIs, DNS names and subject."""
    cdef const uint8_t* name = <const uint8_t*>peer.name
    cdef const uint8_t* end
    cdef uint32_t left = peer.length
    cdef uint32_t size
    cdef Truth found = TRUTH_FALSE
    cdef Truth one
    if peer.unread:
        return TRUTH_UNKNOWN
    while name != NULL:
        end = <const uint8_t*>memchr(name, 0, left)
        size = left if end == NULL else <uint32_t>(end - name)
        one = match_text(node, name, size)
        if one > found:
            found = one
        left -= min(left, size + 1)
        name = NULL if end == NULL else end + 1
    return found


# ---- addresses

cdef Truth match_address(const uint32_t* node, const Address* address) noexcept nogil:
    cdef uint32_t bits = node[3]
    cdef uint32_t word, left
    cdef const uint8_t* at
    if address.family != 4 and address.family != 6:
        return TRUTH_UNKNOWN
    if node[2] != address.family:
        return TRUTH_FALSE
    for word in range(4 if address.family == 6 else 1):
        left = bits - 32 * word if bits > 32 * word else 0
        if left == 0:
            break
        at = address.bytes + 4 * word
        if (
            (<uint32_t>at[0] << 24 | <uint32_t>at[1] << 16 | <uint32_t>at[2] << 8 | at[3]) ^ node[4 + word]
        ) >> (32 - left if left < 32 else 0):
            return TRUTH_FALSE
    return TRUTH_TRUE


cdef inline const Address* address_of(const Facts* facts, uint32_t which) noexcept nogil:
    if which == OF_DESTINATION:
        return &facts.destination
    return &facts.source if which == OF_SOURCE else &facts.direct_source


# ---- judge

cdef Truth ask(const uint32_t* words, uint32_t node_at, const Facts* facts, const Peer* peer) noexcept nogil:
    # As deep as compile allows.
    cdef const uint32_t* node = words + node_at
    cdef Truth found, part
    cdef uint32_t index
    if node[0] == AND or node[0] == OR:
        found = TRUTH_TRUE if node[0] == AND else TRUTH_FALSE
        for index in range(node[1]):
            part = ask(words, node[2 + index], facts, peer)
            if (part < found) if node[0] == AND else (part > found):
                found = part
        return found
    if node[0] == NOT:
        return <Truth>(<int>TRUTH_TRUE - <int>ask(words, node[1], facts, peer))
    if node[0] == TRUE:
        return TRUTH_TRUE
    if node[0] == PEER:
        return TRUTH_FALSE if peer.name == NULL else TRUTH_TRUE
    if node[0] == TEXT:
        if node[1] == OF_SERVER_NAME:
            return match_text(node, <const uint8_t*>facts.server_name, facts.server_name_length)
        return match_peer(node, peer)
    if node[0] == ADDRESS:
        return match_address(node, address_of(facts, node[1]))
    if node[0] == PORTS:
        return TRUTH_TRUE if node[1] <= facts.destination.port < node[2] else TRUTH_FALSE
    return TRUTH_UNKNOWN


cdef void judge_policies(
    const CompiledPolicies* policies, const Facts* facts, const Peer* peer, PolicyVerdict* verdict
) noexcept nogil:
    cdef const RuleSet* rules
    cdef uint32_t number, index
    cdef int32_t policy
    cdef Truth found, one
    cdef bint denied
    memset(verdict, 0, sizeof(PolicyVerdict))
    verdict.allowed = 1
    verdict.policy = NO_POLICY
    if policies == NULL:
        return
    for number in range(policies.rule_count):
        rules = &policies.rules[number]
        found = TRUTH_FALSE
        policy = NO_POLICY
        for index in range(rules.count):
            one = ask(policies.words, policies.nodes[rules.first + index], facts, peer)
            if one > found:
                found = one
                policy = <int32_t>(rules.first + index)
        if rules.action == LOG:
            verdict.logged += found != TRUTH_FALSE
            continue
        denied = found != TRUTH_TRUE if rules.action == ALLOW else found != TRUTH_FALSE
        if rules.shadow:
            verdict.shadow_denied += denied
            verdict.shadow_allowed += not denied
        elif denied:
            verdict.allowed = 0
            verdict.unknown = found == TRUTH_UNKNOWN
            verdict.rules = number
            verdict.policy = policy if rules.action == DENY else NO_POLICY
            return


cdef uint32_t policy_name(
    const CompiledPolicies* policies, int32_t policy, char* into, uint32_t capacity
) noexcept nogil:
    cdef uint32_t start, length
    if policy < 0 or <uint32_t>policy >= policies.policy_count:
        return 0
    start = policies.name_ends[policy - 1] if policy else 0
    length = min(policies.name_ends[policy] - start, capacity)
    memcpy(into, policies.names + start, length)
    return length


cdef void policies_acquire(CompiledPolicies* policies) noexcept nogil:
    atomic_add(&policies.references, 1)


cdef void policies_release(CompiledPolicies* policies) noexcept nogil:
    if policies == NULL or atomic_sub_release(&policies.references, 1) != 1:
        return
    free(<void*>policies.words)
    free(policies.rules)
    free(policies.nodes)
    free(policies.names)
    free(policies.name_ends)
    free(policies)


# ---- compile

@cython.final
@cython.internal
@cython.auto_pickle(False)
cdef class PolicyBuilder:
    """Words of a PolicySet while they are collected."""

    cdef array words
    cdef list nodes             # of policies
    cdef list rules             # (action, shadow, first, count)
    cdef list names
    cdef list unknown
    cdef bint is_http
    cdef str policy             # that is being written

    def __init__(self):
        self.words = array("I", [0])
        self.nodes, self.rules, self.names, self.unknown = [], [], [], []

    cdef uint32_t append(self, object content) except 0:
        offset = len(self.words)
        if offset + len(content) >= 1 << 28:
            raise ValueError("authorization policies do not fit into 1 GiB")
        self.words.extend(array("I", content))
        return offset

    cdef uint32_t nothing_known(self, str what) except 0:
        self.unknown.append((self.policy, what))
        return self.append([UNKNOWN])

    cdef uint32_t text(self, uint32_t which, str kind, object match) except 0:
        if match.kind == "regex":
            alternatives = pattern_alternatives(match.text)
            if alternatives is None:
                unknown = self.nothing_known(f"{kind} {match.text}")
                # Who shows no certificate has no name that could be like anything.
                return self.append([AND, 2, self.append([PEER]), unknown]) if which == OF_PEER else unknown
            shapes = [self.append([TEXT, which, PATTERN, 0, len(shape), *shape]) for shape in alternatives]
            return self.append([OR, len(shapes), *shapes])
        if match.kind not in HOWS:
            raise ValueError(f"policy {self.policy}: no text is matched by {match.kind}")
        wanted = match.text.encode("utf-8", "surrogatepass")
        # Only ASCII letters are folded, as Envoy does.
        wanted = wanted.lower() if match.ignore_case else wanted
        return self.append([TEXT, which, HOWS[match.kind], bool(match.ignore_case), len(wanted), *wanted])

    cdef uint32_t address(self, str kind, object range_) except 0:
        if kind == "remote_ip" and self.is_http:
            # Envoy takes it from a header that the client or a proxy wrote.
            return self.nothing_known("remote_ip of HTTP")
        packed = range_.address
        if len(packed) not in (4, 16) or not 0 <= range_.length <= 8 * len(packed):
            raise ValueError(f"policy {self.policy}: {kind} is no prefix of an address")
        words = [int.from_bytes(packed[at:at + 4], "big") for at in range(0, len(packed), 4)] + [0] * 3
        return self.append([ADDRESS, ADDRESSES[kind], 4 if len(packed) == 4 else 6, range_.length, *words[:4]])

    cdef uint32_t predicate(self, object one, depth) except 0:
        if depth > DEEPEST:
            raise ValueError(f"policy {self.policy}: rules are nested deeper than {DEEPEST}")
        if one.kind in ("and", "or"):
            parts = [self.predicate(part, depth + 1) for part in one.parts]
            return self.append([AND if one.kind == "and" else OR, len(parts), *parts])
        if one.kind == "not":
            return self.append([NOT, self.predicate(one.parts[0], depth + 1)])
        if one.kind == "any":
            return self.append([TRUE])
        if one.kind == "authenticated" and one.match is None:
            return self.append([PEER])
        if one.kind in TEXTS:
            return self.text(TEXTS[one.kind], one.kind, one.match)
        if one.kind in ADDRESSES:
            return self.address(one.kind, one.range)
        if one.kind == "destination_port":
            if not 0 <= one.first <= one.end <= 65536:
                raise ValueError(f"policy {self.policy}: {one.first} to {one.end} are no ports")
            return self.append([PORTS, one.first, one.end])
        if one.kind == "unknown":
            return self.nothing_known(one.what)
        raise ValueError(f"policy {self.policy}: no predicate is called {one.kind}")

    cdef uint32_t any_of(self, object predicates) except 0:
        parts = [self.predicate(one, 0) for one in predicates]
        return self.append([OR, len(parts), *parts])

    cdef int add_rules(self, object rules, bint shadow) except -1:
        if rules is None:
            return 0
        if len(self.rules) >= MOST_RULES:
            raise ValueError(f"a filter chain has more than {MOST_RULES} rules of authorization")
        self.rules.append((ACTIONS[rules.action], shadow, len(self.nodes), len(rules.policies)))
        for policy in rules.policies:
            self.policy = policy.name
            parts = [self.any_of(policy.permissions), self.any_of(policy.principals)]
            self.nodes.append(self.append([AND, 2, *parts]))
            self.names.append(policy.name)
        return 0


cdef int write_compiled(PolicySet policies, PolicyBuilder builder) except -1:
    cdef CompiledPolicies* compiled = <CompiledPolicies*>calloc(1, sizeof(CompiledPolicies))
    cdef uint32_t index
    cdef bytes names
    if compiled == NULL:
        raise MemoryError
    compiled.references = 1
    policies.compiled = compiled
    compiled.words = <const uint32_t*>calloc(len(builder.words), sizeof(uint32_t))
    compiled.rules = <RuleSet*>calloc(len(builder.rules) + 1, sizeof(RuleSet))
    compiled.nodes = <uint32_t*>calloc(len(builder.nodes) + 1, sizeof(uint32_t))
    encoded = [name.encode("utf-8", "surrogatepass") for name in builder.names]
    names = b"".join(encoded)
    compiled.names = <char*>calloc(1, len(names) + 1)
    compiled.name_ends = <uint32_t*>calloc(len(encoded) + 1, sizeof(uint32_t))
    if (
        compiled.words == NULL or compiled.rules == NULL or compiled.nodes == NULL
        or compiled.names == NULL or compiled.name_ends == NULL
    ):
        raise MemoryError
    memcpy(compiled.names, <const char*>names, len(names))
    for index, end in enumerate(accumulate(map(len, encoded))):
        compiled.name_ends[index] = end
    compiled.policy_count = <uint32_t>len(encoded)
    memcpy(<void*>compiled.words, builder.words.data.as_voidptr, len(builder.words) * sizeof(uint32_t))
    for index in range(len(builder.rules)):
        action, shadow, first, count = builder.rules[index]
        compiled.rules[index].action = action
        compiled.rules[index].shadow = shadow
        compiled.rules[index].first = first
        compiled.rules[index].count = count
    for index in range(len(builder.nodes)):
        compiled.nodes[index] = builder.nodes[index]
    compiled.rule_count = <uint32_t>len(builder.rules)
    return 0


@cython.final
cdef class PolicySet:
    """The RBAC filters of one chain, compiled; immutable."""

    def __init__(self):
        raise TypeError("use PolicySet.compile")

    def __dealloc__(self):
        policies_release(self.compiled)

    def __reduce__(self):
        raise TypeError("a PolicySet cannot be pickled")

    @staticmethod
    def compile(filters):
        """`filters`: RBAC filters in their order, as xds.rbac has them. Raises ValueError naming the policy."""
        cdef PolicySet policies = PolicySet.__new__(PolicySet)
        cdef PolicyBuilder builder = PolicyBuilder()
        for one in filters:
            builder.is_http = one.is_http
            # As in Envoy, shadow rules come first: they are counted even where the others deny.
            builder.add_rules(one.shadow_rules, True)
            builder.add_rules(one.rules, False)
        write_compiled(policies, builder)
        policies.names = tuple(builder.names)
        policies.unknown = tuple(dict.fromkeys(builder.unknown))
        return policies

    def judge(self, Observed observed not None, peer=None):
        """Decision on a connection. `peer`: names of its certificate, NUL between them; None: it showed none."""
        cdef PolicyVerdict verdict
        cdef Peer who
        cdef bytes name = b"" if peer is None else peer.encode("utf-8", "surrogateescape")
        who.name = NULL if peer is None else <const char*>name
        who.length = <uint32_t>len(name)
        who.unread = 0
        judge_policies(self.compiled, &observed.facts, &who, &verdict)
        return Decision(
            allowed=bool(verdict.allowed),
            policy=self.names[verdict.policy] if verdict.policy != NO_POLICY else "",
            unknown=bool(verdict.unknown),
            shadow_allowed=verdict.shadow_allowed,
            shadow_denied=verdict.shadow_denied,
            logged=verdict.logged,
        )
