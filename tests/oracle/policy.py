"""What authorization policies say of a connection (Envoy: rbac/matchers.cc, engine_impl.cc), in three values.

Values are numbers, so that `and` is the least and `or` the greatest: 0 false, 1 unknown, 2 true.
"""

import re
from collections.abc import Mapping, Sequence
from ipaddress import ip_address, ip_network
from typing import Any

FALSE, UNKNOWN, TRUE = 0, 1, 2
# Repetition of anything but the dot, classes, anchors and flags are more than what is recognised.
BEYOND = re.compile(r"[\[\]{}^$]|\\[0-9A-Za-z]|(?<![.\\])[*+]|(?<!\))\?|\)[*+]")


def text(match: Any, subject: str) -> int:
    if match.kind == "regex":
        if BEYOND.search(match.text) or re.search(r"\|(?![^()]*\))", match.text):
            return UNKNOWN
        return TRUE if re.fullmatch(match.text, subject) else FALSE
    wanted = match.text
    if match.ignore_case:
        wanted, subject = wanted.lower(), subject.lower()
    found = {
        "exact": subject == wanted,
        "prefix": subject.startswith(wanted),
        "suffix": subject.endswith(wanted),
        "contains": wanted in subject,
    }
    return TRUE if found[match.kind] else FALSE


def truth(one: Any, facts: Mapping[str, Any], peer: str | None, *, is_http: bool) -> int:
    """Of an xds.rbac.Predicate; `facts` as Observed is told them."""
    parts = [truth(part, facts, peer, is_http=is_http) for part in one.parts]
    if one.kind in ("and", "or"):
        return min(parts) if one.kind == "and" else max(parts)
    if one.kind == "not":
        return TRUE - parts[0]
    if one.kind == "any":
        return TRUE
    if one.kind == "authenticated":
        if peer is None:
            return FALSE
        return TRUE if one.match is None else text(one.match, peer)
    if one.kind == "server_name":
        return text(one.match, facts["server_name"])
    if one.kind == "destination_port":
        return TRUE if one.first <= facts["destination_port"] < one.end else FALSE
    address = {
        "destination_ip": facts["destination"],
        "direct_remote_ip": facts["direct_source"],
        "remote_ip": "" if is_http else facts["source"],
        "source_ip": facts["source"],
    }.get(one.kind, "")
    if not address:
        return UNKNOWN
    network = ip_network((one.range.address, one.range.length), strict=False)
    return TRUE if ip_address(address) in network else FALSE


def is_denied(rules: Any, facts: Mapping[str, Any], peer: str | None, *, is_http: bool) -> bool:
    """Of xds.rbac.Rules, were they enforced."""
    found = [
        min(
            max(truth(one, facts, peer, is_http=is_http) for one in policy.permissions),
            max(truth(one, facts, peer, is_http=is_http) for one in policy.principals),
        )
        for policy in rules.policies
    ]
    best = max(found, default=FALSE)
    if rules.action == "ALLOW":
        return best != TRUE
    return best != FALSE if rules.action == "DENY" else False


def allowed(filters: Sequence[Any], facts: Mapping[str, Any], peer: str | None) -> bool:
    """Whether all RBAC filters of a chain pass."""
    return not any(one.rules is not None and is_denied(one.rules, facts, peer, is_http=one.is_http) for one in filters)
