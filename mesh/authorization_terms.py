"""Single conditions of authorization rules as Envoy's RBAC has them: an attribute, and values that it may have or not.

Source of the rules: istio, pilot/pkg/security/authz/model/generator.go and pilot/pkg/security/authz/matcher.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_network

from envoy_data_plane.envoy.config.core.v3 import CidrRange, TypedExtensionConfig
from envoy_data_plane.envoy.config.rbac.v3 import (
    Permission,
    PermissionSet,
    Principal,
    PrincipalAuthenticated,
    PrincipalSet,
)
from envoy_data_plane.envoy.config.route.v3 import HeaderMatcher
from envoy_data_plane.envoy.extensions.path.match.uri_template.v3 import UriTemplateMatchConfig
from envoy_data_plane.envoy.type.matcher.v3 import (
    ListMatcher,
    MetadataMatcher,
    MetadataMatcherPathSegment,
    OrMatcher,
    PathMatcher,
    RegexMatcher,
    StringMatcher,
    ValueMatcher,
)

from .messages import pack

SPIFFE = "spiffe://"
JWT, PAYLOAD = "envoy.filters.http.jwt_authn", "payload"
HEADERS, CLAIMS, FILTERS = "request.headers", "request.auth.claims", "experimental.envoy.filters."
PERMISSIONS = frozenset({"host", "method", "path", "destination.port", "destination.ip", "connection.sni"})
HTTP_ONLY = ("host", "method", "path", "request.")
SPECIAL = frozenset(r"\.+*?()|[]{}^$")
"""What Go's regexp.QuoteMeta quotes."""


class HttpOnlyError(Exception):
    """A condition that a TCP chain cannot know."""


@dataclass(frozen=True, slots=True)
class Term:
    """An attribute, and values: one of ``values`` must hold, and none of ``not_values``."""

    key: str
    values: tuple[str, ...]
    not_values: tuple[str, ...] = ()

    @property
    def is_permission(self) -> bool:
        """Whether it is about what is asked for, and not about who asks."""
        return self.key in PERMISSIONS or self.key.startswith(FILTERS)


def permission(terms: Iterable[Term], *, tcp: bool, lenient: bool) -> Permission:
    """All of these terms. ``lenient``: what is unknown on TCP is left out; else HttpOnlyError."""
    found: list[Permission] = []
    for term in terms:
        if not _is_known(term.key, tcp=tcp, lenient=lenient):
            continue
        if term.values:
            found.append(_one_permission(term.key, term.values))
        if term.not_values:
            found.append(Permission(not_rule=_one_permission(term.key, term.not_values)))
    return Permission(and_rules=PermissionSet(rules=found or [Permission(any=True)]))


def principal(terms: Iterable[Term], namespace: str, *, tcp: bool, lenient: bool) -> Principal:
    """All of these terms; ``namespace``: of the policy. As permission."""
    found: list[Principal] = []
    for term in terms:
        if not _is_known(term.key, tcp=tcp, lenient=lenient):
            continue
        if term.values:
            found.append(_one_principal(term.key, term.values, namespace))
        if term.not_values:
            found.append(Principal(not_id=_one_principal(term.key, term.not_values, namespace)))
    return Principal(and_ids=PrincipalSet(ids=found or [Principal(any=True)]))


def _is_known(key: str, *, tcp: bool, lenient: bool) -> bool:
    if not tcp or not key.startswith(HTTP_ONLY):
        return True
    if lenient:
        return False
    raise HttpOnlyError(key)


def _one_permission(key: str, values: Sequence[str]) -> Permission:
    if key.startswith(FILTERS):
        return Permission(metadata=_filter_metadata(key, values))
    make: dict[str, Callable[[str], Permission]] = {
        "host": lambda text: Permission(header=_header(":authority", text, ignore_case=True)),
        "method": lambda text: Permission(header=_header(":method", text)),
        "path": _path,
        "destination.port": lambda text: Permission(destination_port=int(text)),
        "destination.ip": lambda text: Permission(destination_ip=_range(text)),
        "connection.sni": lambda text: Permission(requested_server_name=_string(text)),
    }
    return Permission(or_rules=PermissionSet(rules=[make[key](one) for one in values]))


def _one_principal(key: str, values: Sequence[str], namespace: str) -> Principal:
    if key == "request.auth.principal":
        either = [_request_principal(one) for one in values]
        return either[0] if len(either) == 1 else Principal(or_ids=PrincipalSet(ids=either))
    if key in ("request.auth.audiences", "request.auth.presenter"):
        return Principal(metadata=_claim(["aud" if key.endswith("audiences") else "azp"], values))
    if key.startswith(CLAIMS):
        return Principal(metadata=_claim(_in_brackets(key.removeprefix(CLAIMS)), values))
    make: dict[str, Callable[[str], Principal]] = {
        "source.ip": lambda text: Principal(direct_remote_ip=_range(text)),
        "remote.ip": lambda text: Principal(remote_ip=_range(text)),
        "source.principal": lambda text: _named(_string(text, SPIFFE)),
        "source.namespace": lambda text: _named(_regex(f".*/ns/{_joined(text, '.*')}/.*")),
        "source.serviceAccount": lambda text: _named(_regex(_account(text, namespace))),
        "source.trustDomain": lambda text: _named(_domain(text)),
    }
    if key.startswith(HEADERS):
        name = key.removeprefix(HEADERS)[1:-1]
        return Principal(or_ids=PrincipalSet(ids=[Principal(header=_header(name, one)) for one in values]))
    return Principal(or_ids=PrincipalSet(ids=[make[key](one) for one in values]))


def _named(name: StringMatcher) -> Principal:
    return Principal(authenticated=PrincipalAuthenticated(principal_name=name))


def _quoted(text: str) -> str:
    return "".join(f"\\{one}" if one in SPECIAL else one for one in text)


def _joined(text: str, wild: str) -> str:
    """The text as an expression, each * in it as what `wild` takes."""
    return wild.join(_quoted(part) for part in text.split("*"))


def _regex(text: str) -> StringMatcher:
    return StringMatcher(safe_regex=RegexMatcher(regex=text))


def _string(text: str, prefix: str = "", *, ignore_case: bool = False) -> StringMatcher:
    """A value that may begin or end with *; `prefix` stands before it."""
    if text == "*":
        return _regex(".+")
    if text.startswith("*"):
        if prefix:
            return _regex(f"{prefix}.*{_quoted(text[1:])}")
        return StringMatcher(suffix=text[1:], ignore_case=ignore_case)
    if text.endswith("*"):
        return StringMatcher(prefix=prefix + text[:-1], ignore_case=ignore_case)
    return StringMatcher(exact=prefix + text, ignore_case=ignore_case)


def _account(text: str, namespace: str) -> str:
    """A service account, "namespace/name" or a name in the policy's namespace."""
    place, slash, name = text.partition("/")
    if not slash:
        place, name = namespace, text
    return f"{SPIFFE}.+/ns/{_quoted(place)}/(.+/|)sa/{_quoted(name)}(/.+)?"


def _domain(text: str) -> StringMatcher:
    if text == "*":
        return StringMatcher(prefix=SPIFFE)
    if "*" not in text:
        return StringMatcher(prefix=f"{SPIFFE}{text}/")
    before, _, after = text.partition("*")
    return _regex(f"{SPIFFE}{_quoted(before)}[^/]*{_quoted(after)}/.*")


def _range(text: str) -> CidrRange:
    network = ip_network(text, strict=False)
    # As it was written, host bits included: Envoy masks them.
    return CidrRange(address_prefix=text.partition("/")[0], prefix_len=network.prefixlen)


def _header(name: str, text: str, *, ignore_case: bool = False) -> HeaderMatcher:
    if text == "*":
        return HeaderMatcher(name=name, present_match=True)
    return HeaderMatcher(name=name, string_match=_string(text, ignore_case=ignore_case))


def _path(text: str) -> Permission:
    if "{*}" in text or "{**}" in text:
        template = UriTemplateMatchConfig(path_template=text.replace("{**}", "**").replace("{*}", "*"))
        return Permission(uri_template=TypedExtensionConfig(name="uri-template", typed_config=pack(template)))
    return Permission(url_path=PathMatcher(path=_string(text)))


def _metadata(name: str, keys: Sequence[str], value: ValueMatcher) -> MetadataMatcher:
    path = [MetadataMatcherPathSegment(key=key) for key in keys]
    return MetadataMatcher(filter=name, path=path, value=value)


def _either(values: Sequence[ValueMatcher]) -> ValueMatcher:
    return values[0] if len(values) == 1 else ValueMatcher(or_match=OrMatcher(value_matchers=list(values)))


def _claim(keys: Sequence[str], values: Sequence[str]) -> MetadataMatcher:
    """A claim of a token, whether it is a text or a list of them."""
    value = _either([ValueMatcher(string_match=_string(one)) for one in values])
    both = [ValueMatcher(list_match=ListMatcher(one_of=value)), value]
    return _metadata(JWT, [PAYLOAD, *keys], ValueMatcher(or_match=OrMatcher(value_matchers=both)))


def _in_brackets(text: str) -> list[str]:
    """ "[a][b]" as a and b; what is nested otherwise is one name."""
    parts = text[1:-1].split("][")
    return parts if not any("[" in part or "]" in part for part in parts) else [text[1:-1]]


def _filter_metadata(key: str, values: Sequence[str]) -> MetadataMatcher:
    name, _, inner = key.removeprefix("experimental.").removesuffix("]").partition("[")
    found = []
    for one in values:
        listed = one.startswith("[") and one.endswith("]")
        value = ValueMatcher(string_match=_string(one.strip("[]") if listed else one))
        found.append(ValueMatcher(list_match=ListMatcher(one_of=value)) if listed else value)
    return _metadata(name, [inner], _either(found))


def _request_principal(text: str) -> Principal:
    """issuer/subject of a token; the issuer may hold slashes."""
    issuer, slash, subject = text.rpartition("/")
    anything = _regex(".+")
    if not slash:
        issuer, subject = text, ""
    first, second = StringMatcher(exact=issuer), StringMatcher(exact=subject)
    if text == "*":
        first, second = anything, anything
    elif text.startswith("*"):
        first = anything if not slash or issuer == "*" else StringMatcher(suffix=issuer[1:])
        second = StringMatcher(exact=subject) if slash else StringMatcher(suffix=text[1:])
    elif text.endswith("*"):
        first = StringMatcher(exact=issuer) if slash else StringMatcher(prefix=text[:-1])
        second = anything if not slash or subject == "*" else StringMatcher(prefix=subject[:-1])
    pair = [
        Principal(metadata=_metadata(JWT, [PAYLOAD, name], ValueMatcher(string_match=one)))
        for name, one in (("iss", first), ("sub", second))
    ]
    return Principal(and_ids=PrincipalSet(ids=pair))
