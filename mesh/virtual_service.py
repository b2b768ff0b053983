"""VirtualService and Gateway of Istio's API, as far as they are read."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from .part import Int32, Part, Port, PortSelector, Seconds, Uint32, subnet


class Destination(Part):
    """Where a route leads."""

    host: str = Field(min_length=1)
    subset: str = ""
    port: PortSelector | None = None


class RouteDestination(Part):
    """A destination and its share of the route."""

    destination: Destination
    weight: Int32 = 0


def _refuse_no_weight(route: list[RouteDestination]) -> None:
    """Any weights are legal, as long as something is left: Envoy takes their ratio."""
    if len(route) > 1 and not any(entry.weight for entry in route):
        raise ValueError("the weights of a route sum to 0")


class L4Match(Part):
    """match of a tcp route. A proxy is matched by its labels and namespace, a connection by its port, and by where it
    was going."""

    destination_subnets: list[Annotated[str, AfterValidator(subnet)]] = []
    source_labels: dict[str, str] = {}
    source_namespace: str = ""
    port: Uint32 = 0
    gateways: list[str] = []


class TcpRoute(Part):
    """tcp entry of a VirtualService."""

    match: list[L4Match] = []
    route: list[RouteDestination] = Field(min_length=1)

    @model_validator(mode="after")
    def _whole(self) -> "TcpRoute":
        _refuse_no_weight(self.route)
        return self


class TlsMatch(L4Match):
    """match of a tls route: server names too."""

    sni_hosts: list[str] = Field(min_length=1)


class TlsRoute(Part):
    """tls entry of a VirtualService: for ports whose protocol is TLS, and for PASSTHROUGH servers of gateways."""

    match: list[TlsMatch] = Field(min_length=1)
    route: list[RouteDestination] = Field(min_length=1)

    @model_validator(mode="after")
    def _whole(self) -> "TlsRoute":
        _refuse_no_weight(self.route)
        return self


class StringMatch(Part):
    """One of exact, prefix and regex; nothing of it: the thing must be there."""

    exact: str | None = None
    prefix: str | None = None
    regex: str | None = None

    @model_validator(mode="after")
    def _one(self) -> "StringMatch":
        if sum(one is not None for one in (self.exact, self.prefix, self.regex)) > 1:
            raise ValueError("a match is one of exact, prefix and regex")
        return self


class HttpMatch(Part):
    """match of an http route. Without a field of its own it matches every request of the proxies that it is for."""

    name: str = ""
    uri: StringMatch | None = None
    ignore_uri_case: bool = False
    headers: dict[str, StringMatch] = {}
    without_headers: dict[str, StringMatch] = {}
    method: StringMatch | None = None
    authority: StringMatch | None = None
    scheme: StringMatch | None = None
    source_labels: dict[str, str] = {}
    source_namespace: str = ""
    port: Uint32 = 0
    gateways: list[str] = []


class HttpRedirect(Part):
    """redirect of an http route."""

    uri: str = ""
    authority: str = ""
    scheme: str = ""
    port: Uint32 = 0
    redirect_code: Literal[301, 302, 303, 307, 308] = 301


class DirectResponse(Part):
    """directResponse of an http route, without its body."""

    status: int = Field(ge=200, le=599)


class HttpRetry(Part):
    """retries of an http route."""

    attempts: Int32 = 0
    per_try_timeout: Seconds | None = None
    retry_on: str = ""


class HttpRoute(Part):
    """http entry of a VirtualService. A TCP data plane takes its destination, and no more."""

    name: str = ""
    match: list[HttpMatch] = []
    route: list[RouteDestination] = []
    redirect: HttpRedirect | None = None
    direct_response: DirectResponse | None = None
    timeout: Seconds | None = None
    retries: HttpRetry | None = None

    @model_validator(mode="after")
    def _whole(self) -> "HttpRoute":
        _refuse_no_weight(self.route)
        return self


def _is_part(name: str, host: str) -> bool:
    return name == host or (host.startswith("*") and name.removeprefix("*").endswith(host[1:]))


class VirtualServiceSpec(Part):
    """spec of a VirtualService."""

    hosts: list[str] = Field(min_length=1)
    gateways: list[str] = []
    export_to: list[str] = []
    tcp: list[TcpRoute] = []
    tls: list[TlsRoute] = []
    http: list[HttpRoute] = []

    @model_validator(mode="after")
    def _names_of_hosts(self) -> "VirtualServiceSpec":
        """As istiod's validateSniHost: hosts are compared as they are written."""
        names = [name for route in self.tls for match in route.match for name in match.sni_hosts]
        for name in names:
            if not any(_is_part(name, host) for host in self.hosts):
                raise ValueError(f"the server name {name} is part of none of the hosts {', '.join(self.hosts)}")
        return self


class ServerPort(Part):
    """Port of a Gateway's server."""

    number: Port
    name: str = ""
    protocol: str = ""


class ServerTls(Part):
    """tls of a Gateway's server."""

    mode: Literal["AUTO_PASSTHROUGH", "PASSTHROUGH", "SIMPLE", "MUTUAL", "ISTIO_MUTUAL", "OPTIONAL_MUTUAL"] = "SIMPLE"


class Server(Part):
    """servers entry of a Gateway."""

    port: ServerPort
    hosts: list[str] = Field(min_length=1)
    tls: ServerTls | None = None
    bind: str = ""


class GatewaySpec(Part):
    """spec of a Gateway."""

    selector: dict[str, str] = {}
    servers: list[Server] = Field(min_length=1)
