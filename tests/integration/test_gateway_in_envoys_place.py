"""`eastgate-envoy` in the pod of a gateway, as Istio's injection makes it, with the bootstrap of a recorded one."""

import json
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from envoy_data_plane.envoy.config.core.v3 import TransportSocket
from envoy_data_plane.envoy.config.listener.v3 import FilterChainMatch

from ..support import messages
from ..support.hellos import client_hello
from ..support.pilot_agent import RECORDED, STATE, UPDATES, InEnvoysPlace, Pod
from ..support.recordings import SDS, Resources
from ..support.secrets import SPIFFE, ca_secret, keyed, tls_secret
from ..support.upstreams import Upstreams
from ..support.waiting import until
from ..xds.test_secret_refs import OVER_ADS, sds
from ..xds.test_secret_refs import socket as transport_socket
from .test_envoys_place import READY, asked, drained, raw_get

NODE = json.loads(RECORDED.read_text())["node"]["id"]
NAME, FRONT, SECRET = messages.sni("echo"), "front.local", "kubernetes://front"
FRONT_KEYED = keyed("front")
TIMEOUT_S = 10.0


def resources(endpoint: messages.At) -> Resources:
    """A service to pass through to, and a server that ends TLS with the certificate of a secret."""
    front = messages.plain_chain(NAME)
    front.filter_chain_match = FilterChainMatch(server_names=[FRONT])
    secret = sds(SECRET, OVER_ADS)
    front.transport_socket = TransportSocket.parse(transport_socket(tls_certificate_sds_secret_configs=[secret]))
    listener = messages.listener([messages.chain(NAME), front])
    found = messages.resources({NAME: [endpoint]}, listeners=[listener])
    return {**found, SDS: {SECRET: tls_secret(SECRET, FRONT_KEYED)}}


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[InEnvoysPlace]:
    root = keyed("root")
    secrets = {"default": tls_secret("default", keyed(SPIFFE)), "ROOTCA": ca_secret("ROOTCA", root.certificate)}
    with ExitStack() as stack:
        upstreams = stack.enter_context(Upstreams())
        endpoint = messages.At(upstreams.start("echo"))
        pod = stack.enter_context(Pod(tmp_path, resources(endpoint), secrets, NODE))
        yield stack.enter_context(pod.proxy()).wait_ready()


def passed(gateway: InEnvoysPlace, server_name: str) -> str:
    """Who answers behind this name; nothing when nobody does."""
    address = gateway.bound_address(messages.LISTENER)
    try:
        with socket.create_connection(address, TIMEOUT_S) as client:
            client.sendall(client_hello(server_name) + b"\n")
            return client.makefile("rb").readline().decode().strip()
    except ConnectionError:
        return ""


def test_it_is_a_gateway_by_its_node_and_passes_by_server_name(gateway: InEnvoysPlace) -> None:
    assert NODE.startswith("router~")
    server = gateway.json("/server_info")
    assert server["node"]["id"] == NODE
    assert "eastgate" in server["version"]
    assert passed(gateway, NAME) == "echo"
    # Names of the mesh without a chain of their own go nowhere.
    unknown = messages.sni("nobody")
    assert passed(gateway, unknown) == ""
    until(lambda: gateway.json("/refusals")["refusals"], "the refusal is shown")
    (refusal,) = gateway.json("/refusals")["refusals"]
    assert (refusal["reason"], refusal["server_name"]) == ("unknown_server_name", unknown)


def test_pilot_agent_finds_it_ready(gateway: InEnvoysPlace) -> None:
    assert asked(gateway, UPDATES)["cluster_manager.cds.update_success"] == "1"
    assert asked(gateway, STATE) == {"server.state": "0", "listener_manager.workers_started": "1"}
    assert raw_get(gateway.static_port(READY), "/healthz/ready")[0] == 200


def test_it_goes_on_accepting_while_pilot_agent_drains_a_router(gateway: InEnvoysPlace) -> None:
    drained(gateway, "graceful")
    assert passed(gateway, NAME) == "echo"
    assert raw_get(gateway.static_port(READY), "/healthz/ready")[0] == 200


def test_it_ends_tls_with_the_certificate_of_a_secret(gateway: InEnvoysPlace) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        socket.create_connection(gateway.bound_address(messages.LISTENER), TIMEOUT_S) as plain,
        context.wrap_socket(plain, server_hostname=FRONT) as secured,
    ):
        secured.sendall(b"who is it\n")
        assert secured.makefile("rb").readline() == b"echo\n"
        assert secured.getpeercert(binary_form=True) == ssl.PEM_cert_to_DER_cert(FRONT_KEYED.certificate.decode())
