"""AuthorizationPolicies as RBAC: what each condition becomes, which filters there are, and what TCP does not know."""

from typing import Any

import pytest
from eastgate.mesh.authorization import Policies
from eastgate.mesh.errors import MeshError
from eastgate.mesh.mesh_file import parse
from eastgate.mesh.model import Mesh
from envoy_data_plane.envoy.config.rbac.v3 import Rbac
from envoy_data_plane.envoy.extensions.filters.network.rbac.v3 import Rbac as NetworkRbac

from .meaning import meaning
from .sidecars import MESH, authorization_policy, read, sidecar

ANYBODY = {"and_ids": {"ids": [{"any": True}]}}
ANYTHING = {"and_rules": {"rules": [{"any": True}]}}
NAME = "ns[shop]-policy[x]-rule[0]"


def rbac(mesh: Mesh, *, tcp: bool = True, at: int = 0) -> dict[str, Any]:
    """The rules of one filter of web-1, as plain data."""
    policies = Policies.of(mesh, sidecar(mesh))
    rules, _ = (policies.network if tcp else policies.http)[at]
    assert isinstance(rules, Rbac)
    found: dict[str, Any] = meaning(rules)
    return found


def only(spec: str, *, tcp: bool = True) -> dict[str, Any]:
    """The only policy of the only filter."""
    (policy,) = rbac(read(authorization_policy(spec)).mesh, tcp=tcp)["policies"].values()
    assert isinstance(policy, dict)
    return policy


def named(**text: Any) -> dict[str, Any]:
    return {"authenticated": {"principal_name": text}}


def regex(text: str) -> dict[str, Any]:
    return named(safe_regex={"regex": text})


def claims(name: str, value: dict[str, Any]) -> dict[str, Any]:
    path = [{"key": "payload"}, {"key": name}]
    return {"metadata": {"filter": "envoy.filters.http.jwt_authn", "path": path, "value": value}}


SOURCES = [
    ("principals: [cluster.local/ns/a/sa/b]", named(exact="spiffe://cluster.local/ns/a/sa/b")),
    ('principals: ["*"]', regex(".+")),
    ('principals: ["*/ns/a/sa/b.c"]', regex(r"spiffe://.*/ns/a/sa/b\.c")),
    ('principals: ["cluster.local/ns/a/*"]', named(prefix="spiffe://cluster.local/ns/a/")),
    ("namespaces: [a.b]", regex(r".*/ns/a\.b/.*")),
    ('namespaces: ["a-*"]', regex(".*/ns/a-.*/.*")),
    ("serviceAccounts: [b]", regex("spiffe://.+/ns/shop/(.+/|)sa/b(/.+)?")),
    ("serviceAccounts: [a/b]", regex("spiffe://.+/ns/a/(.+/|)sa/b(/.+)?")),
    ("trustDomains: [td]", named(prefix="spiffe://td/")),
    ('trustDomains: ["*"]', named(prefix="spiffe://")),
    ('trustDomains: ["td-*"]', regex("spiffe://td-[^/]*/.*")),
    ("ipBlocks: [10.0.0.0/8]", {"direct_remote_ip": {"address_prefix": "10.0.0.0", "prefix_len": 8}}),
    ("ipBlocks: [10.1.2.3]", {"direct_remote_ip": {"address_prefix": "10.1.2.3", "prefix_len": 32}}),
    ('ipBlocks: ["fd00::1"]', {"direct_remote_ip": {"address_prefix": "fd00::1", "prefix_len": 128}}),
    ("remoteIpBlocks: [10.1.2.3]", {"remote_ip": {"address_prefix": "10.1.2.3", "prefix_len": 32}}),
]


@pytest.mark.parametrize(("source", "wanted"), SOURCES)
def test_what_is_said_of_a_source(source: str, wanted: dict[str, Any]) -> None:
    policy = only(f"{{rules: [{{from: [{{source: {{{source}}}}}]}}]}}")
    assert policy["permissions"] == [ANYTHING]
    assert policy["principals"] == [{"and_ids": {"ids": [{"or_ids": {"ids": [wanted]}}]}}]


@pytest.mark.parametrize(("source", "wanted"), SOURCES)
def test_what_a_source_is_not(source: str, wanted: dict[str, Any]) -> None:
    word, _, rest = source.partition(":")
    policy = only(f"{{rules: [{{from: [{{source: {{not{word[0].upper()}{word[1:]}:{rest}}}}}]}}]}}")
    assert policy["principals"] == [{"and_ids": {"ids": [{"not_id": {"or_ids": {"ids": [wanted]}}}]}}]


@pytest.mark.parametrize(
    ("condition", "wanted"),
    [
        ("{key: destination.port, values: ['8080']}", {"destination_port": 8080}),
        (
            "{key: destination.ip, values: [10.0.0.0/8]}",
            {"destination_ip": {"address_prefix": "10.0.0.0", "prefix_len": 8}},
        ),
        ("{key: connection.sni, values: ['*.a.b']}", {"requested_server_name": {"suffix": ".a.b"}}),
    ],
)
def test_conditions_of_what_is_asked_for(condition: str, wanted: dict[str, Any]) -> None:
    policy = only(f"{{rules: [{{when: [{condition}]}}]}}")
    assert policy["permissions"] == [{"and_rules": {"rules": [{"or_rules": {"rules": [wanted]}}]}}]


@pytest.mark.parametrize(
    ("operation", "wanted"),
    [
        ("methods: [GET]", {"header": {"name": ":method", "string_match": {"exact": "GET"}}}),
        (
            'hosts: ["*.A.b"]',
            {"header": {"name": ":authority", "string_match": {"suffix": ".A.b", "ignore_case": True}}},
        ),
        ('hosts: ["*"]', {"header": {"name": ":authority", "present_match": True}}),
        ('paths: ["/a*"]', {"url_path": {"path": {"prefix": "/a"}}}),
        ("ports: ['80']", {"destination_port": 80}),
    ],
)
def test_operations_of_http(operation: str, wanted: dict[str, Any]) -> None:
    policy = only(f"{{rules: [{{to: [{{operation: {{{operation}}}}}]}}]}}", tcp=False)
    assert policy["permissions"] == [{"and_rules": {"rules": [{"or_rules": {"rules": [wanted]}}]}}]


def test_a_path_with_placeholders_is_a_template() -> None:
    policy = only('{rules: [{to: [{operation: {paths: ["/a/{*}/b/{**}"]}}]}]}', tcp=False)
    (rule,) = policy["permissions"][0]["and_rules"]["rules"][0]["or_rules"]["rules"]
    assert rule["uri_template"]["name"] == "uri-template"
    assert rule["uri_template"]["typed_config"]["content"] == {"path_template": "/a/*/b/**"}


@pytest.mark.parametrize(
    ("text", "issuer", "subject"),
    [
        ("https://a/b", {"exact": "https://a"}, {"exact": "b"}),
        ("*", {"safe_regex": {"regex": ".+"}}, {"safe_regex": {"regex": ".+"}}),
        ("*/b", {"safe_regex": {"regex": ".+"}}, {"exact": "b"}),
        ("*a/b", {"suffix": "a"}, {"exact": "b"}),
        ("a/*", {"exact": "a"}, {"safe_regex": {"regex": ".+"}}),
        ("a/b*", {"exact": "a"}, {"prefix": "b"}),
    ],
)
def test_principals_of_requests(text: str, issuer: dict[str, Any], subject: dict[str, Any]) -> None:
    policy = only(f'{{rules: [{{from: [{{source: {{requestPrincipals: ["{text}"]}}}}]}}]}}', tcp=False)
    pair = [claims("iss", {"string_match": issuer}), claims("sub", {"string_match": subject})]
    assert policy["principals"] == [{"and_ids": {"ids": [{"and_ids": {"ids": pair}}]}}]


def test_claims_may_be_texts_or_lists() -> None:
    policy = only('{rules: [{when: [{key: "request.auth.claims[a][b]", values: [x]}]}]}', tcp=False)
    value = {"string_match": {"exact": "x"}}
    path = [{"key": "payload"}, {"key": "a"}, {"key": "b"}]
    wanted = {"or_match": {"value_matchers": [{"list_match": {"one_of": value}}, value]}}
    (principal,) = policy["principals"][0]["and_ids"]["ids"]
    assert principal["metadata"] == {"filter": "envoy.filters.http.jwt_authn", "path": path, "value": wanted}


HTTP_RULE = "{from: [{source: {namespaces: [a]}}], to: [{operation: {methods: [GET], ports: ['80']}}]}"
OPEN_RULE = "{from: [{source: {namespaces: [b]}}]}"


def test_on_tcp_a_rule_that_allows_by_http_is_left_out() -> None:
    mesh = read(authorization_policy(f"{{rules: [{HTTP_RULE}, {OPEN_RULE}]}}")).mesh
    assert set(rbac(mesh)["policies"]) == {"ns[shop]-policy[x]-rule[1]"}
    assert len(rbac(mesh, tcp=False)["policies"]) == 2


def test_on_tcp_a_rule_that_allows_by_http_alone_allows_nobody() -> None:
    # Rules without any: Envoy denies everybody. Bytes matter here: an empty message is not an absent one.
    mesh = read(authorization_policy(f"{{rules: [{HTTP_RULE}]}}")).mesh
    (filter_,) = Policies.of(mesh, sidecar(mesh)).network_filters()
    assert filter_.typed_config
    sent = NetworkRbac.parse(filter_.typed_config.value)
    assert sent.rules is not None
    assert not sent.rules.policies


@pytest.mark.parametrize("action", ["DENY", "AUDIT"])
def test_on_tcp_a_rule_that_denies_goes_on_without_what_is_unknown(action: str) -> None:
    policy = only(f"{{action: {action}, rules: [{HTTP_RULE}]}}")
    assert policy["permissions"] == [{"and_rules": {"rules": [{"or_rules": {"rules": [{"destination_port": 80}]}}]}}]


def test_a_policy_without_rules_allows_nobody_and_an_empty_rule_everybody() -> None:
    never = {"permissions": [{"not_rule": {"any": True}}], "principals": [{"not_id": {"any": True}}]}
    assert only("{}") == never
    assert only("{rules: []}") == never
    assert only("{rules: [{}]}") == {"permissions": [ANYTHING], "principals": [ANYBODY]}


def test_filters_stand_in_istiods_order_and_shadow_rules_beside_them() -> None:
    dry = ', annotations: {"istio.io/dry-run": "true"}'
    mesh = read(
        authorization_policy("{rules: [{}]}", name="allow"),
        authorization_policy("{action: DENY, rules: [{}]}", name="tried", more=dry),
        authorization_policy("{action: AUDIT, rules: [{}]}", name="audit"),
        authorization_policy("{action: CUSTOM, provider: {name: nobody}, rules: [{}]}", name="custom"),
    ).mesh
    filters = Policies.of(mesh, sidecar(mesh)).network_filters()
    sent = [NetworkRbac.parse(one.typed_config.value) for one in filters if one.typed_config]
    names = [[sorted(rules.policies) if rules else None for rules in (one.rules, one.shadow_rules)] for one in sent]
    assert names == [
        [["istio-ext-authz-nobody-ns[shop]-policy[custom]-rule[0]-deny-due-to-bad-CUSTOM-action"], None],
        [["ns[shop]-policy[audit]-rule[0]"], None],
        [None, ["ns[shop]-policy[tried]-rule[0]"]],
        [["ns[shop]-policy[allow]-rule[0]"], None],
    ]
    assert [one.shadow_rules_stat_prefix for one in sent] == [
        "", "istio_dry_run_allow_", "istio_dry_run_deny_", "istio_dry_run_allow_",
    ]  # fmt: skip
    assert [one.rules.action.name for one in sent if one.rules] == ["DENY", "LOG", "ALLOW"]


def test_policies_of_the_namespace_and_of_the_root_count_for_whom_they_select() -> None:
    mesh = read(
        authorization_policy("{rules: [{}]}", name="root", namespace="istio-system"),
        authorization_policy("{selector: {matchLabels: {app: web}}, rules: [{}]}", name="own"),
        authorization_policy("{selector: {matchLabels: {app: other}}, rules: [{}]}", name="others"),
        authorization_policy("{targetRefs: [{kind: Gateway, name: x}], rules: [{}]}", name="gateways"),
        authorization_policy("{rules: [{}]}", name="elsewhere", namespace="other"),
    ).mesh
    assert set(rbac(mesh)["policies"]) == {"ns[istio-system]-policy[root]-rule[0]", "ns[shop]-policy[own]-rule[0]"}


def test_principals_of_the_meshs_trust_domain_are_its_aliases_too() -> None:
    names = 'old/ns/a/sa/b, cluster.local/ns/a/sa/c, other/ns/a/sa/d, "*/ns/a/sa/e"'
    text = authorization_policy(f"{{rules: [{{from: [{{source: {{principals: [{names}]}}}}]}}]}}")
    mesh = parse(MESH + "meshConfig: {trustDomain: new, trustDomainAliases: [old]}\n" + text, "mesh.yaml").mesh
    (policy,) = rbac(mesh)["policies"].values()
    ids = policy["principals"][0]["and_ids"]["ids"][0]["or_ids"]["ids"]
    exact = [one["authenticated"]["principal_name"].get("exact", "") for one in ids]
    assert exact == [
        "spiffe://new/ns/a/sa/b", "spiffe://old/ns/a/sa/b", "spiffe://new/ns/a/sa/c", "spiffe://old/ns/a/sa/c",
        "spiffe://other/ns/a/sa/d", "",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("spec", "cause"),
    [
        ("{action: DENY}", "action DENY without rules"),
        ("{action: CUSTOM, rules: [{}]}", "a provider stands with action CUSTOM"),
        ("{rules: [{from: []}]}", "at least 1 item"),
        ("{rules: [{from: [{source: {}}]}]}", "must not be empty"),
        ("{rules: [{from: [{source: {namespace: [a]}}]}]}", "unknown key 'namespace'"),
        ("{rules: [{from: [{source: {ipBlocks: [a]}}]}]}", "does not appear to be an IPv4 or IPv6"),
        ("{rules: [{to: [{operation: {ports: ['http']}}]}]}", "is no port"),
        ("{rules: [{when: [{key: source.color, values: [a]}]}]}", "unknown attribute"),
        ("{rules: [{when: [{key: source.ip}]}]}", "neither values nor notValues"),
        ("{rules: [{from: [{source: {serviceAccounts: [a], namespaces: [b]}}]}]}", "cannot stand beside"),
    ],
)
def test_what_istiod_refuses_is_refused_with_its_cause(spec: str, cause: str) -> None:
    with pytest.raises(MeshError, match=cause):
        read(authorization_policy(spec))
