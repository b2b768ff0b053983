"""Sidecar of Istio's API, as far as it is read, and the outbound policy that it shares with meshConfig."""

import re
from typing import Literal

from pydantic import Field, model_validator

from .part import Part, Port

ENDPOINT = re.compile(r"(?P<host>127\.0\.0\.1|0\.0\.0\.0|\[::1?\]):(?P<port>\d{1,5})")
"""defaultEndpoint: loopback or the pod's own address, and a port."""
CaptureMode = Literal["DEFAULT", "IPTABLES", "NONE"]


class SidecarPort(Part):
    """A port that a Sidecar opens."""

    number: Port
    protocol: str = Field(min_length=1)
    name: str = ""


class OutboundTrafficPolicy(Part):
    """What happens to connections that no service is for."""

    mode: Literal["REGISTRY_ONLY", "ALLOW_ANY"] = "ALLOW_ANY"


class EgressEntry(Part):
    """egress entry: which hosts clients reach, on one port of their own or on those of the services."""

    port: SidecarPort | None = None
    bind: str = ""
    capture_mode: CaptureMode = "DEFAULT"
    hosts: list[str] = Field(min_length=1)

    @model_validator(mode="after")
    def _names(self) -> "EgressEntry":
        for host in self.hosts:
            namespace, slash, name = host.partition("/")
            if not slash or not namespace or not name or "/" in name:
                raise ValueError(f"host {host!r} is not of the form namespace/dnsName")
            if name.count("*") > 1 or ("*" in name and not name.startswith("*")):
                raise ValueError(f"host {host!r}: a * stands first and before a dot, or alone")
        if self.bind and not self.port and self.capture_mode != "NONE":
            raise ValueError("bind without a port needs captureMode: NONE")
        return self


class IngressEntry(Part):
    """ingress entry: a port where the workload is reached, and where what arrives goes to."""

    port: SidecarPort
    bind: str = ""
    capture_mode: CaptureMode = "DEFAULT"
    default_endpoint: str = ""

    @model_validator(mode="after")
    def _endpoint(self) -> "IngressEntry":
        if not self.default_endpoint:
            return self
        found = ENDPOINT.fullmatch(self.default_endpoint)
        if not found or not 0 < int(found["port"]) < 65536:
            raise ValueError(
                f"defaultEndpoint {self.default_endpoint!r} is none of 127.0.0.1:PORT, 0.0.0.0:PORT, [::1]:PORT and"
                " [::]:PORT; unix sockets are not known here"
            )
        return self

    @property
    def endpoint(self) -> tuple[str, int] | None:
        """Host and port of defaultEndpoint; None: where the client wanted to go."""
        found = ENDPOINT.fullmatch(self.default_endpoint)
        return (found["host"].strip("[]"), int(found["port"])) if found else None


class SidecarSelector(Part):
    """workloadSelector of a Sidecar, whose labels are not called matchLabels."""

    labels: dict[str, str] = {}


class SidecarSpec(Part):
    """spec of a Sidecar."""

    workload_selector: SidecarSelector | None = None
    ingress: list[IngressEntry] = []
    egress: list[EgressEntry] = []
    outbound_traffic_policy: OutboundTrafficPolicy | None = None

    @model_validator(mode="after")
    def _whole(self) -> "SidecarSpec":
        """As istiod's ValidateSidecar, for what is read here."""
        ports = [one.port.number for one in self.ingress]
        if len(set(ports)) != len(ports):
            raise ValueError("an ingress port stands twice")
        catching = [not one.port for one in self.egress]
        if any(catching[:-1]):
            raise ValueError("an egress entry without a port must be the last one")
        places = [(one.bind, one.port.number) for one in self.egress if one.port]
        if len(set(places)) != len(places):
            raise ValueError("an egress port stands twice")
        if not (self.ingress or self.egress or self.outbound_traffic_policy):
            raise ValueError("a Sidecar has at least one of ingress, egress and outboundTrafficPolicy")
        return self
