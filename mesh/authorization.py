"""AuthorizationPolicies of a sidecar as RBAC filters, for TCP chains and for the HTTP of others.

Source of the rules: istio, pilot/pkg/security/authz/builder and authz/model. What a rule asks of HTTP is unknown on
a TCP chain: a rule that allows is left out there, one that denies goes on without it, and so is wider.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from envoy_data_plane.envoy.config.listener.v3 import Filter
from envoy_data_plane.envoy.config.rbac.v3 import Permission, Policy, Principal, Rbac, RbacAction
from envoy_data_plane.envoy.extensions.filters.http.rbac.v3 import Rbac as HttpRbac
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpFilter
from envoy_data_plane.envoy.extensions.filters.network.rbac.v3 import Rbac as NetworkRbac

from .authorization_terms import HttpOnlyError, Term, permission, principal
from .messages import pack
from .model import Mesh, Resource
from .node_view import NodeView
from .part import TRUE
from .security import AuthorizationPolicySpec, Condition, Operation, Rule, Source
from .trust_domains import expanded, migrated

DRY_RUN = "istio.io/dry-run"
ACTIONS = {"AUDIT": RbacAction.LOG, "DENY": RbacAction.DENY, "ALLOW": RbacAction.ALLOW}
"""In the order of their filters."""
# istiod denies what a provider would have to decide that meshConfig does not have; a mesh file has none.
NO_PROVIDER = "-deny-due-to-bad-CUSTOM-action"
NEVER = Policy(
    permissions=[Permission(not_rule=Permission(any=True))], principals=[Principal(not_id=Principal(any=True))]
)
# Names in a Source or Operation, and the attribute that each stands for, in istiod's order.
SOURCES = (
    ("principals", "source.principal"),
    ("request_principals", "request.auth.principal"),
    ("service_accounts", "source.serviceAccount"),
    ("trust_domains", "source.trustDomain"),
    ("namespaces", "source.namespace"),
    ("remote_ip_blocks", "remote.ip"),
    ("ip_blocks", "source.ip"),
)
OPERATIONS = (("hosts", "host"), ("methods", "method"), ("paths", "path"), ("ports", "destination.port"))


def spec_of(resource: Resource) -> AuthorizationPolicySpec:
    """The spec of an AuthorizationPolicy."""
    assert isinstance(resource.spec, AuthorizationPolicySpec)
    return resource.spec


@dataclass(frozen=True, slots=True)
class Policies:
    """What holds for one workload. ``network`` and ``http``: the RBAC of each filter, with its shadow rules."""

    network: tuple[tuple[Rbac | None, Rbac | None], ...] = ()
    http: tuple[tuple[Rbac | None, Rbac | None], ...] = ()

    @classmethod
    def of(cls, mesh: Mesh, node: NodeView) -> "Policies":
        """All policies of the workload's namespace and of the root namespace that select it."""
        chosen = [one for one in mesh.of_kind("AuthorizationPolicy", node.cluster) if _selects(mesh, node, one)]
        chosen.sort(key=lambda one: (one.created, one.name))
        return cls(tuple(_all(mesh, chosen, tcp=True)), tuple(_all(mesh, chosen, tcp=False)))

    def network_filters(self) -> list[Filter]:
        """Filters of a TCP chain: each must pass."""
        return [
            Filter(
                name="envoy.filters.network.rbac",
                typed_config=pack(
                    NetworkRbac(
                        rules=rules,
                        shadow_rules=shadow,
                        stat_prefix="tcp.",
                        shadow_rules_stat_prefix=_shadow_prefix(shadow, refused=_is_refusal(rules)),
                    )
                ),
            )
            for rules, shadow in self.network
        ]

    def http_filters(self) -> list[HttpFilter]:
        """Filters inside of a connection manager."""
        return [
            HttpFilter(
                name="envoy.filters.http.rbac",
                typed_config=pack(
                    HttpRbac(
                        rules=rules,
                        shadow_rules=shadow,
                        shadow_rules_stat_prefix=_shadow_prefix(shadow, refused=_is_refusal(rules)),
                    )
                ),
            )
            for rules, shadow in self.http
        ]


def _is_refusal(rules: Rbac | None) -> bool:
    return rules is not None and any(name.endswith(NO_PROVIDER) for name in rules.policies)


def _shadow_prefix(shadow: Rbac | None, *, refused: bool) -> str:
    """Without shadow rules as well, where istiod takes their action for ALLOW."""
    if refused or (shadow and shadow.action == RbacAction.LOG):
        return ""
    return f"istio_dry_run_{'deny' if shadow and shadow.action == RbacAction.DENY else 'allow'}_"


def _selects(mesh: Mesh, node: NodeView, resource: Resource) -> bool:
    spec = spec_of(resource)
    if resource.namespace not in (node.namespace, mesh.config.root_namespace) or spec.target_ref or spec.target_refs:
        return False
    labels: Mapping[str, str] = spec.selector.match_labels if spec.selector else {}
    return labels.items() <= node.labels.items()


def _all(mesh: Mesh, chosen: Sequence[Resource], *, tcp: bool) -> Iterator[tuple[Rbac | None, Rbac | None]]:
    custom = [one for one in chosen if spec_of(one).action == "CUSTOM"]
    names = sorted({provider.name for one in custom if (provider := spec_of(one).provider)})
    for name in names:
        own = [one for one in custom if (provider := spec_of(one).provider) and provider.name == name]
        prefix = f"istio-ext-authz-{name}-"
        yield _rbac(mesh, own, RbacAction.DENY, tcp=tcp, prefix=prefix, suffix=NO_PROVIDER), None
    for word, action in ACTIONS.items():
        own = [one for one in chosen if spec_of(one).action == word]
        tried = [one for one in own if one.annotations.get(DRY_RUN) in TRUE]
        meant = [one for one in own if one not in tried]
        if own:
            yield _rbac(mesh, meant, action, tcp=tcp), _rbac(mesh, tried, action, tcp=tcp)


def _rbac(
    mesh: Mesh, resources: Sequence[Resource], action: RbacAction, *, tcp: bool, prefix: str = "", suffix: str = ""
) -> Rbac | None:
    if not resources:
        return None
    policies: dict[str, Policy] = {}
    for one in resources:
        rules = spec_of(one).rules or []
        for at, rule in enumerate(rules):
            made = _policy(mesh, one, rule, action, tcp=tcp)
            if made:
                policies[f"{prefix}ns[{one.namespace}]-policy[{one.name}]-rule[{at}]{suffix}"] = made
        if not rules:
            policies[f"{prefix}ns[{one.namespace}]-policy[{one.name}]-rule[0]{suffix}"] = NEVER
    return Rbac(action=action, policies=policies)


def _policy(mesh: Mesh, resource: Resource, rule: Rule, action: RbacAction, *, tcp: bool) -> Policy | None:
    """One rule; None where it allows and asks for what a TCP chain cannot know."""
    asked = [_of_condition(condition) for condition in rule.when]
    before = [term for term in asked if term.is_permission]
    behind = [term for term in asked if not term.is_permission]
    operations = [_terms(one.operation, OPERATIONS) for one in rule.operations or ()] or [[]]
    sources = [_terms(one.source, SOURCES) for one in rule.sources or ()] or [[]]
    lenient = action != RbacAction.ALLOW
    try:
        return Policy(
            permissions=[permission([*terms, *before], tcp=tcp, lenient=lenient) for terms in operations],
            principals=[
                principal(
                    [_in_domains(mesh, term) for term in (*terms, *behind)],
                    resource.namespace,
                    tcp=tcp,
                    lenient=lenient,
                )
                for terms in sources
            ],
        )
    except HttpOnlyError:
        return None


def _of_condition(condition: Condition) -> Term:
    return Term(condition.key, tuple(condition.values), tuple(condition.not_values))


def _terms(part: Source | Operation, names: Sequence[tuple[str, str]]) -> list[Term]:
    found = (Term(key, tuple(getattr(part, name)), tuple(getattr(part, f"not_{name}"))) for name, key in names)
    return [term for term in found if term.values or term.not_values]


def _in_domains(mesh: Mesh, term: Term) -> Term:
    """Principals of the mesh's trust domain are those of its aliases too."""
    domains = mesh.config.trust_domains
    change = {"source.principal": migrated, "source.trustDomain": expanded}.get(term.key)
    if change is None:
        return term
    return Term(term.key, tuple(change(term.values, domains)), tuple(change(term.not_values, domains)))
