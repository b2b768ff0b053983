"""A control plane, endpoints that can be switched off, and proxies in front of them: same configuration, same failures.

What a test of outlier detection needs, with eastgate alone or with Envoy beside it.
"""

import socket
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from envoy_data_plane.envoy.config.cluster.v3 import OutlierDetection

from . import messages
from .gateway_process import Eastgate, Envoy, ProxyProcess
from .hellos import client_hello
from .recordings import CDS, Resources
from .replay_ads import ReplayThread
from .switched_endpoints import SwitchedEndpoints
from .waiting import until

REFUSED = -1
DURATIONS = {"interval", "base_ejection_time", "max_ejection_time", "max_ejection_time_jitter"}
EJECTED = "failed_outlier_check"


def outlier_detection(settings: Mapping[str, Any]) -> OutlierDetection:
    """The message with these fields."""
    fields = dict(settings)
    for name in DURATIONS & fields.keys():
        fields[name] = timedelta(seconds=fields[name])
    return OutlierDetection(**fields)


class OutlierMesh:
    """One service per entry of `services`, whose values are the fields of OutlierDetection, durations in seconds.

    A value of None is a service without outlier detection.
    """

    def __init__(
        self, services: Mapping[str, dict[str, Any] | None], endpoints: int, *proxies: str | Sequence[str]
    ) -> None:
        self.endpoints = SwitchedEndpoints(endpoints)
        self.names = {service: messages.sni(service) for service in services}
        self.settings = dict(services)
        self.server = ReplayThread(self.resources(range(endpoints)))
        self.proxies: list[ProxyProcess] = []
        for proxy in proxies:
            if proxy == "envoy":
                self.proxies.append(Envoy(self.server.address))
            else:
                self.proxies.append(Eastgate(self.server.address, *proxy))
        for one in self.proxies:
            one.wait_ready()
        self.addresses = {one.pid: one.bound_address(messages.LISTENER) for one in self.proxies}

    def resources(self, numbers: Sequence[int]) -> Resources:
        at = [messages.At(self.endpoints.address(number)) for number in numbers]
        # One attempt, as Envoy's default is: each connection tells of one endpoint.
        chains = [messages.chain(name, max_connect_attempts=1) for name in self.names.values()]
        found = messages.resources(dict.fromkeys(self.names.values(), at), listeners=[messages.listener(chains)])
        for service, settings in self.settings.items():
            detection = None if settings is None else outlier_detection(settings)
            found[CDS][self.names[service]] = messages.cluster(self.names[service], outlier_detection=detection)
        return found

    def connect(self, proxy: ProxyProcess, service: str) -> int:
        """Number of the endpoint that answered, or REFUSED."""
        with socket.create_connection(self.addresses[proxy.pid], 10) as peer:
            peer.settimeout(10)
            try:
                peer.sendall(client_hello(self.names[service]))
                answer = peer.recv(1)
            except ConnectionResetError:
                answer = b""
        return answer[0] if answer else REFUSED

    def connects(self, proxy: ProxyProcess, service: str, count: int) -> Counter[int]:
        return Counter(self.connect(proxy, service) for _ in range(count))

    def ejected(self, proxy: ProxyProcess, service: str) -> list[int]:
        """Numbers of the endpoints that /clusters calls ejected."""
        for status in proxy.json("/clusters?format=json")["cluster_statuses"]:
            if status["name"] == self.names[service]:
                return sorted(
                    int(host["address"]["socket_address"]["address"].rpartition(".")[2]) - 2
                    for host in status.get("host_statuses", ())
                    if host["health_status"].get(EJECTED)
                )
        raise AssertionError(f"{service} is not in /clusters")

    def wait_ejected(self, proxy: ProxyProcess, service: str, numbers: list[int]) -> None:
        until(lambda: self.ejected(proxy, service) == numbers, f"{proxy.kind} has {numbers} of {service} ejected")

    def outlier_stats(self, proxy: ProxyProcess, service: str) -> dict[str, int]:
        return proxy.stats(f"cluster.{self.names[service]}.outlier_detection.")

    def close(self) -> None:
        for one in self.proxies:
            one.stop()
        self.server.close()
        self.endpoints.close()
