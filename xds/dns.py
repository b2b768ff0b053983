"""DNS clusters as configured: which names are resolved how, and the assignment that their addresses make.

Resolves nothing. A resolved assignment is the configured one with every endpoint written once per address of its name,
so that weights, localities, priorities, health and duplicates follow the rules of any other assignment.

Worked example (STRICT_DNS): a.example:80 with weight 3 resolves to 10.0.0.1 and 10.0.0.2: two endpoints of weight 3.
With LOGICAL_DNS only 10.0.0.1 is one.
"""

from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_address
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from typing import Any

from .assignment import decode_assignment
from .fields import PORT_MAX, checked_text, number, seconds, type_name
from .message import encode, read
from .resources import Assignment, DnsResolver, DnsSettings, DnsTarget

_ASSIGNMENT = "envoy.config.endpoint.v3.ClusterLoadAssignment"
_CARES = "envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig"
_CARES_WARNINGS = {
    "use_resolvers_as_fallback": "the resolvers are asked first",
    "filter_unroutable_families": "addresses of all families are used",
}
_UNSPECIFIED = "UNSPECIFIED"
DNS_CLUSTER = "envoy.extensions.clusters.dns.v3.DnsCluster"
# Names of one cluster are told apart by addresses of 10.0.0.0/8 while it is checked.
_MOST_TARGETS = 1 << 20


def is_address(host: str) -> bool:
    """Whether a host needs no resolving."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def canonical_host(host: str) -> str:
    """An IP address as inet_ntop writes it, whatever its spelling; anything else as it is."""
    family = AF_INET6 if ":" in host else AF_INET
    try:
        return inet_ntop(family, inet_pton(family, host))
    except (OSError, ValueError):
        return host


def decode_dns(cluster: str, message: Mapping[str, Any], *, first_only: bool, warnings: list[str]) -> DnsSettings:
    """Settings of a DNS cluster: of the Cluster itself, or of a DnsCluster with the cluster's load_assignment in it.

    Raises ValueError for what Envoy rejects, XdsError for an assignment that no addresses could make valid.
    """
    template = message.get("load_assignment", b"")
    targets = tuple(dict.fromkeys(_targets(template, first_only=first_only)))
    if len(targets) > _MOST_TARGETS:
        raise ValueError(f"load_assignment: {len(targets)} names, at most {_MOST_TARGETS} are supported")
    base, longest = _failure_rate(message)
    family = str(message.get("dns_lookup_family", "AUTO"))
    settings = DnsSettings(
        template=template,
        targets=targets,
        first_only=first_only,
        refresh_rate_s=_rate(message, "dns_refresh_rate", 5.0),
        failure_base_s=base,
        failure_max_s=longest,
        respect_ttl=message.get("respect_dns_ttl", False),
        min_refresh_s=seconds(message, "dns_min_refresh_rate", 0.0),
        jitter_s=seconds(message, "dns_jitter", 0.0),
        lookup_family="AUTO" if family == _UNSPECIFIED else family,
        resolver=_resolver(message, warnings),
    )
    # What addresses cannot repair is said now, and not with the first answer.
    made_up = {target.host: [str(ip_address(0x0A000000 + index))] for index, target in enumerate(targets)}
    resolved_assignment(cluster, settings, made_up, kind="CDS")
    return settings


def resolved_assignment(
    cluster: str, settings: DnsSettings, addresses: Mapping[str, Sequence[str]], *, kind: str = "DNS"
) -> Assignment:
    """The assignment with the addresses of each host; a host without any has no endpoints. Addresses stay as they are.

    Raises XdsError(kind, cluster, reason).
    """
    message = _known(read(_ASSIGNMENT, settings.template)) if settings.template else {}
    for locality in message.get("endpoints", ()):
        locality["lb_endpoints"] = [
            resolved
            for endpoint in locality.get("lb_endpoints", ())
            for resolved in _resolved(endpoint, addresses, first_only=settings.first_only)
        ]
    return decode_assignment(encode(_ASSIGNMENT, {**message, "cluster_name": cluster}), kind, cluster)


def _resolved(
    endpoint: dict[str, Any], addresses: Mapping[str, Sequence[str]], *, first_only: bool
) -> Iterator[dict[str, Any]]:
    where = endpoint["endpoint"]["address"]["socket_address"]
    # Of one name an address is one endpoint, however often an answer holds it; of two names it has both weights.
    host = where["address"]
    found = [host] if is_address(host) else list(dict.fromkeys(addresses.get(host, ())))
    places = [{"socket_address": {**where, "address": address}} for address in found]
    # The one endpoint of LOGICAL_DNS has all of them; what the configuration itself says of further ones counts as
    # little as in Envoy.
    further = [{"address": place} for place in places[1:]] if first_only else []
    for place in places[:1] if first_only else places:
        named = {
            "hostname": endpoint["endpoint"].get("hostname") or host,
            "address": place,
            "additional_addresses": further,
        }
        yield {**endpoint, "endpoint": {**endpoint["endpoint"], **named}}


def _known(value: Any) -> Any:
    """The value without what the schema does not have, which cannot be written again."""
    if isinstance(value, dict):
        return {key: _known(item) for key, item in value.items() if key != "@unknown"}
    return [_known(item) for item in value] if isinstance(value, list) else value


def _targets(template: bytes, *, first_only: bool) -> Iterator[DnsTarget]:
    localities = read(_ASSIGNMENT, template).get("endpoints", ()) if template else ()
    if first_only and [len(one.get("lb_endpoints", ())) for one in localities] != [1]:
        raise ValueError("load_assignment: LOGICAL_DNS has one locality with one endpoint, no more and no less")
    for locality in localities:
        for endpoint in locality.get("lb_endpoints", ()):
            address = endpoint.get("endpoint", {}).get("address", {}).get("socket_address")
            if address is None or not address.get("address"):
                raise ValueError("load_assignment: an endpoint of a DNS cluster has no socket_address with a name")
            if address.get("resolver_name"):
                raise ValueError("load_assignment: an endpoint of a DNS cluster must not have a resolver_name")
            if "port_value" not in address:
                raise ValueError("load_assignment: an endpoint of a DNS cluster has no port_value")
            host = checked_text("load_assignment: the name", address["address"])
            yield DnsTarget(host, number(address, "port_value", 0, high=PORT_MAX))


def _rate(message: Mapping[str, Any], name: str, default: float) -> float:
    # Envoy wants more than a millisecond.
    rate = seconds(message, name, default)
    if rate <= 0.001:
        raise ValueError(f"{name} is {message[name]}, must be above 1ms")
    return rate


def _failure_rate(message: Mapping[str, Any]) -> tuple[float, float]:
    """First and longest wait of the back-off after failures, (0, 0) where there is none."""
    rate = message.get("dns_failure_refresh_rate")
    if rate is None:
        return 0.0, 0.0
    if "base_interval" not in rate:
        raise ValueError("dns_failure_refresh_rate: no base_interval")
    base = _rate(rate, "base_interval", 0.0)
    longest = _rate(rate, "max_interval", 10 * base)
    if longest < base:
        raise ValueError("dns_failure_refresh_rate: max_interval is shorter than base_interval")
    return base, longest


def _resolver(message: Mapping[str, Any], warnings: list[str]) -> DnsResolver:
    """As in Envoy: typed_dns_resolver_config, else dns_resolution_config, else the two fields before that."""
    typed = message.get("typed_dns_resolver_config", {}).get("typed_config")
    if typed is not None:
        kind = type_name(typed)
        if kind != _CARES:
            warnings.append(f"typed_dns_resolver_config: names are resolved by c-ares, not by {kind}")
            return DnsResolver()
        warnings += [
            f"typed_dns_resolver_config.{field}: {what}" for field, what in _CARES_WARNINGS.items() if typed.get(field)
        ]
        config: Mapping[str, Any] = typed
    elif "dns_resolution_config" in message:
        config = message["dns_resolution_config"]
    else:
        options = {"use_tcp_for_dns_lookups": message.get("use_tcp_for_dns_lookups", False)}
        config = {"resolvers": message.get("dns_resolvers", ()), "dns_resolver_options": options}
    options = config.get("dns_resolver_options", {})
    return DnsResolver(
        servers=tuple(_server(address) for address in config.get("resolvers", ())),
        use_tcp=options.get("use_tcp_for_dns_lookups", False),
        search_domains=not options.get("no_default_search_domain", False),
        query_timeout_s=number(config, "query_timeout_seconds", 0, high=3600),
        query_tries=number(config, "query_tries", 0, high=100),
        rotate=config.get("rotate_nameservers", False),
    )


def _server(address: Mapping[str, Any]) -> str:
    where = address.get("socket_address", {})
    host = where.get("address", "")
    if not is_address(host):
        raise ValueError(f"a DNS resolver is given as {host!r}, which is no IP address")
    port = number(where, "port_value", 53, low=1, high=PORT_MAX)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
