"""The configuration of an RBAC filter, network or HTTP -> rbac.RbacFilter.

Nothing is left out that might deny: what is not understood is an unknown predicate, and rules that are there without
policies are not rules that are missing.
"""

from collections.abc import Mapping
from typing import Any

from .cidr import cidr_range
from .fields import number
from .message import read
from .rbac import Policy, Predicate, RbacFilter, Rules, TextMatch
from .wire import unknown_fields

NETWORK_RBAC = "envoy.extensions.filters.network.rbac.v3.RBAC"
HTTP_RBAC = "envoy.extensions.filters.http.rbac.v3.RBAC"
_ACTIONS = ("ALLOW", "DENY", "LOG")
_ADDRESSES = ("destination_ip", "direct_remote_ip", "remote_ip", "source_ip")
_SETS = {"and_rules": "and", "or_rules": "or", "and_ids": "and", "or_ids": "or"}
_TEXT_KINDS = ("exact", "prefix", "suffix", "contains")
_HIGHEST_PORT = 65535


class NotEvaluatedError(ValueError):
    """It may be a filter that Envoy loads, and holds what nobody here knows."""


def decode_rbac(raw: bytes, kind: str) -> RbacFilter:
    """Read the bytes inside the Any, of type NETWORK_RBAC or HTTP_RBAC. Raises ValueError for what is none."""
    return rbac_filter(read(kind, raw), is_http=kind == HTTP_RBAC)


def rbac_filter(message: Mapping[str, Any], *, is_http: bool) -> RbacFilter:
    """The filter of a message as the wire reader answers it. Raises ValueError for what Envoy does not load either,
    NotEvaluatedError for what is not known here.
    """
    _refuse_unknown(message, "rules", "shadow_rules")
    return RbacFilter(
        rules=_rules(message, "rules", "matcher"),
        shadow_rules=_rules(message, "shadow_rules", "shadow_matcher"),
        is_http=is_http,
    )


def _rules(message: Mapping[str, Any], field: str, matcher: str) -> Rules | None:
    if matcher in message:
        # It takes the place of rules, and whom it would deny nobody here can tell.
        unknown = (Predicate("unknown", what=matcher),)
        return Rules("DENY", (Policy(matcher, unknown, unknown),))
    if field not in message:
        return None
    rules = message[field]
    _refuse_unknown(rules, "policies")
    action = str(rules.get("action", "ALLOW"))
    if action not in _ACTIONS:
        raise ValueError(f"{field}.action {action} is none of {', '.join(_ACTIONS)}")
    # Envoy asks them in the order of their names.
    policies = sorted(rules.get("policies", {}).items())
    return Rules(action, tuple(_policy(name, policy) for name, policy in policies))


def _refuse_unknown(message: Mapping[str, Any], *read_elsewhere: str) -> None:
    """A field that nobody here knows may turn the meaning of all others."""
    if unknown := unknown_fields({key: value for key, value in message.items() if key not in read_elsewhere}):
        raise NotEvaluatedError(f"unknown fields: {', '.join(unknown)}")


def _policy(name: str, message: Mapping[str, Any]) -> Policy:
    _refuse_unknown(message, "permissions", "principals")
    permissions = tuple(_predicate(one, "not_rule") for one in message.get("permissions", ()))
    principals = tuple(_predicate(one, "not_id") for one in message.get("principals", ()))
    if not permissions or not principals:
        raise ValueError(f"policy {name} has no {'principals' if permissions else 'permissions'}")
    more = [field for field in ("condition", "checked_condition", "cel_config") if field in message]
    if more:
        wanted = Predicate("or", parts=principals)
        principals = (Predicate("and", parts=(wanted, Predicate("unknown", what=", ".join(more)))),)
    return Policy(name, permissions, principals)


def _predicate(message: Mapping[str, Any], negation: str) -> Predicate:
    """A Permission or a Principal."""
    if unknown := unknown_fields(message):
        return Predicate("unknown", what=", ".join(unknown))
    if not message:
        return Predicate("unknown", what="nothing")
    field, value = next(iter(message.items()))
    if field in _SETS:
        parts = value.get("rules", ()) or value.get("ids", ())
        if not parts:
            raise ValueError(f"{field} of nothing")
        return Predicate(_SETS[field], parts=tuple(_predicate(one, negation) for one in parts))
    if field == negation:
        return Predicate("not", parts=(_predicate(value, negation),))
    if field == "any":
        # Of a oneof, so that it may say false.
        return Predicate("any") if value else Predicate("not", parts=(Predicate("any"),))
    if field == "authenticated":
        if "principal_name" not in value:
            return Predicate("authenticated")
        return _text("authenticated", value["principal_name"])
    if field == "requested_server_name":
        return _text("server_name", value)
    if field in _ADDRESSES:
        return Predicate(field, range=cidr_range(field, value))
    if field == "destination_port":
        port = number(message, field, 0, high=_HIGHEST_PORT)
        return Predicate("destination_port", first=port, end=port + 1)
    if field == "destination_port_range":
        first, end = value.get("start", 0), value.get("end", 0)
        if not 0 <= first <= end <= _HIGHEST_PORT + 1:
            raise ValueError(f"destination_port_range: {first} to {end} are no ports")
        return Predicate("destination_port", first=first, end=end)
    return Predicate("unknown", what=field)


def _text(kind: str, message: Mapping[str, Any]) -> Predicate:
    """A predicate on a text."""
    ignore_case = message.get("ignore_case", False)
    for text_kind in _TEXT_KINDS:
        if text_kind in message:
            return Predicate(kind, match=TextMatch(text_kind, message[text_kind], ignore_case))
    if "safe_regex" in message:
        # Which does not look at ignore_case.
        return Predicate(kind, match=TextMatch("regex", message["safe_regex"].get("regex", "")))
    return Predicate("unknown", what=f"{kind} {' '.join(message) or 'without a pattern'}")
