"""PeerAuthentication and AuthorizationPolicy of Istio's API, as far as they are read."""

from ipaddress import ip_network
from typing import Annotated, Any, Literal

from eastgate.xds.whole_number import PORT, whole_number
from pydantic import AfterValidator, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from .part import Part, Selector


class MutualTls(Part):
    """mtls of a PeerAuthentication."""

    mode: Literal["UNSET", "DISABLE", "PERMISSIVE", "STRICT"] = "UNSET"


class PeerAuthenticationSpec(Part):
    """spec of a PeerAuthentication."""

    selector: Selector | None = None
    mtls: MutualTls = MutualTls()
    port_level_mtls: dict[int, MutualTls] = {}


def _word(text: str) -> str:
    if not text:
        raise ValueError("an empty value")
    return text


def _block(text: str) -> str:
    ip_network(text, strict=False)
    return text


def _port(text: str) -> str:
    if whole_number(text, PORT) is None:
        raise ValueError(f"{text!r} is no port")
    return text


Words = list[Annotated[str, AfterValidator(_word)]]
Blocks = list[Annotated[str, AfterValidator(_block)]]
Ports = list[Annotated[str, AfterValidator(_port)]]


class Strict(Part):
    """A part of a rule: a condition that nobody reads would leave the rule wider than it was written."""

    model_config = ConfigDict(extra="forbid", alias_generator=to_camel, validate_by_name=False, frozen=True)

    @model_validator(mode="after")
    def _not_empty(self) -> "Strict":
        if not any(getattr(self, name) for name in type(self).model_fields):
            raise ValueError("it must not be empty")
        return self


class Source(Strict):
    """Who asks. All that is given must hold; of each list one."""

    principals: Words = []
    not_principals: Words = []
    request_principals: Words = []
    not_request_principals: Words = []
    namespaces: Words = []
    not_namespaces: Words = []
    service_accounts: Words = []
    not_service_accounts: Words = []
    trust_domains: Words = []
    not_trust_domains: Words = []
    ip_blocks: Blocks = []
    not_ip_blocks: Blocks = []
    remote_ip_blocks: Blocks = []
    not_remote_ip_blocks: Blocks = []

    @model_validator(mode="after")
    def _one_name(self) -> "Source":
        names = (self.principals, self.not_principals, self.namespaces, self.not_namespaces)
        if any(names) and (self.service_accounts or self.not_service_accounts):
            raise ValueError("serviceAccounts cannot stand beside namespaces or principals")
        return self


class Operation(Strict):
    """What is asked for. All that is given must hold; of each list one."""

    hosts: Words = []
    not_hosts: Words = []
    ports: Ports = []
    not_ports: Ports = []
    methods: Words = []
    not_methods: Words = []
    paths: Words = []
    not_paths: Words = []


class From(Strict):
    """from entry of a rule."""

    source: Source


class To(Strict):
    """to entry of a rule."""

    operation: Operation


KEYS = frozenset(
    {
        "source.ip",
        "remote.ip",
        "source.namespace",
        "source.serviceAccount",
        "source.trustDomain",
        "source.principal",
        "request.auth.principal",
        "request.auth.audiences",
        "request.auth.presenter",
        "destination.ip",
        "destination.port",
        "connection.sni",
    }
)
BRACKETED = ("request.headers[", "request.auth.claims[", "experimental.envoy.filters.")


class Condition(Strict):
    """when entry of a rule."""

    key: str
    values: Words = []
    not_values: Words = []

    @model_validator(mode="after")
    def _known(self) -> "Condition":
        if self.key not in KEYS and not (self.key.startswith(BRACKETED) and self.key.endswith("]")):
            raise ValueError(f"unknown attribute {self.key!r}")
        if not self.values and not self.not_values:
            raise ValueError(f"{self.key}: neither values nor notValues")
        check = {"source.ip": _block, "remote.ip": _block, "destination.ip": _block, "destination.port": _port}
        for value in (*self.values, *self.not_values):
            check.get(self.key, _word)(value)
        return self


class Rule(Part):
    """One rule of an AuthorizationPolicy; without anything in it, it is for every request."""

    model_config = ConfigDict(extra="forbid", alias_generator=to_camel, validate_by_name=False, frozen=True)

    sources: list[From] | None = Field(default=None, alias="from", min_length=1)
    operations: list[To] | None = Field(default=None, alias="to", min_length=1)
    when: list[Condition] = []


class Provider(Part):
    """Who decides a policy of action CUSTOM."""

    name: str = Field(min_length=1)


class AuthorizationPolicySpec(Part):
    """spec of an AuthorizationPolicy. ``rules`` None: not given, as good as none at all."""

    selector: Selector | None = None
    target_ref: dict[str, Any] | None = None
    target_refs: list[dict[str, Any]] = []
    action: Literal["ALLOW", "DENY", "AUDIT", "CUSTOM"] = "ALLOW"
    provider: Provider | None = None
    rules: list[Rule] | None = None

    @model_validator(mode="after")
    def _whole(self) -> "AuthorizationPolicySpec":
        """As istiod's ValidateAuthorizationPolicy."""
        if self.action in ("DENY", "CUSTOM") and self.rules is None:
            raise ValueError(f"action {self.action} without rules is for nobody; an empty rule {{}} is for all of them")
        if (self.action == "CUSTOM") != (self.provider is not None):
            raise ValueError("a provider stands with action CUSTOM, and only there")
        if self.selector and (self.target_ref or self.target_refs):
            raise ValueError("selector and targetRefs exclude each other")
        return self
