"""What a cluster is to become: settings of its slot, why it is closed, and that planning it touches nothing."""

import socket
from dataclasses import replace

import pytest
from eastgate.fastpath.tls.context import Context
from eastgate.fastpath.tls.context_spec import ContextSpec
from eastgate.proxy.compile.cluster_plan import plan_cluster, slot_spec, spoken_to
from eastgate.proxy.compile.tls_contexts import ClusterTls, TlsUse
from eastgate.proxy.membership.endpoint_flags import FAILED_ACTIVE_CHECK, Live
from eastgate.xds.bind_config import NO_BIND, Bind, FamilyOption, SourceAddress
from eastgate.xds.resources import CircuitBreakers, Cluster, OutlierDetection, TcpKeepalive
from eastgate.xds.tls_records import UpstreamTls

from .test_compiler import assignment, cluster


def test_slot_has_what_connections_are_made_by() -> None:
    one = cluster(
        connect_timeout_s=0.25,
        circuit_breakers=CircuitBreakers(1, 2, max_connections_per_endpoint=3),
        tcp_keepalive=TcpKeepalive(probes=4, time_s=5, interval_s=6),
        outlier_detection=OutlierDetection(consecutive_5xx=7, consecutive_gateway_failure=8),
    )
    spec = slot_spec(one)
    assert spec.connect_timeout_ms == 250
    assert (spec.max_connections, spec.max_pending, spec.max_per_endpoint) == (1, 2, 3)
    assert (spec.keepalive_probes, spec.keepalive_time_s, spec.keepalive_interval_s) == (4, 5, 6)
    assert (spec.failure_threshold, spec.gateway_threshold) == (7, 8)
    assert not spec.original_dst


def test_split_errors_leave_gateway_failures_to_nobody() -> None:
    settings = OutlierDetection(split_external_local_origin_errors=True, consecutive_local_origin_failure=3)
    spec = slot_spec(cluster(outlier_detection=settings))
    assert (spec.failure_threshold, spec.gateway_threshold) == (3, 0)


WHY = "secret default has not arrived"
CLOSED = TlsUse(closed=WHY)


@pytest.mark.parametrize(
    ("tls", "plain", "mesh"),
    [
        (ClusterTls(), "", ""),
        (ClusterTls(mesh=CLOSED), "", WHY),
        (ClusterTls(others=CLOSED), WHY, ""),
        (ClusterTls(CLOSED, CLOSED), WHY, WHY),
    ],
)
def test_cluster_is_closed_where_tls_that_it_needs_cannot_be_spoken(tls: ClusterTls, plain: str, mesh: str) -> None:
    endpoints = assignment(("10.0.0.1", 80))
    istio = replace(endpoints, columns=replace(endpoints.columns, flags=b"\1"))
    assert plan_cluster(cluster(), endpoints, Live(endpoints), tls=tls).closed == plain
    assert plan_cluster(cluster(), istio, Live(istio), tls=tls).closed == mesh
    assert plan_cluster(cluster(), None, None, tls=tls).closed == ""


def test_cluster_whose_choice_of_tls_is_not_understood_is_closed() -> None:
    endpoints = assignment(("10.0.0.1", 80))
    one = cluster(upstream_tls=UpstreamTls(refusal="because"))
    assert plan_cluster(one, endpoints, Live(endpoints)).closed == "because"


def test_rows_of_the_mesh_are_told_apart() -> None:
    endpoints = assignment(("10.0.0.1", 80), ("10.0.0.2", 80), ("10.0.0.3", 80))
    mixed = replace(endpoints, columns=replace(endpoints.columns, flags=b"\1\0\3"))
    context = Context.build(ContextSpec(is_server=False))
    spec = plan_cluster(cluster(), mixed, Live(mixed), tls=ClusterTls(mesh=TlsUse(context)))
    assert spoken_to(spec) == {"mesh_tls": context, "other_tls": None, "mesh": b"\1\0\1"}
    assert spoken_to(spec, [1, 2])["mesh"] == b"\0\1"
    assert spoken_to(plan_cluster(cluster(), mixed, Live(mixed))) == {}


def test_waiting_cluster_has_endpoints_only_when_the_wait_is_over() -> None:
    endpoints = assignment(("10.0.0.1", 80))
    live = Live(endpoints, bytes([FAILED_ACTIVE_CHECK]), waiting=True)
    assert not plan_cluster(cluster(), endpoints, live).has_endpoints
    ready = plan_cluster(cluster(), endpoints, replace(live, waiting=False))
    assert ready.has_endpoints
    assert ready.flags == bytes([FAILED_ACTIVE_CHECK])


def test_cluster_to_original_destinations_says_so() -> None:
    one = Cluster(name="passthrough", type="ORIGINAL_DST", upstream_port_override=15008)
    spec = plan_cluster(one, None, None)
    assert (spec.slot.original_dst, spec.slot.port_override, spec.has_endpoints) == (True, 15008, False)


def test_equal_input_is_an_equal_plan() -> None:
    endpoints = assignment(("10.0.0.1", 80))
    one = cluster()
    assert plan_cluster(one, endpoints, Live(endpoints)) == plan_cluster(one, endpoints, Live(endpoints))


def test_a_cluster_that_does_not_say_what_its_connections_come_from_has_the_processs() -> None:
    everyone = Bind((SourceAddress(bytes([127, 0, 0, 9]), 0),), (FamilyOption(4, 6, 18, 5000),))
    own = Bind((SourceAddress(bytes([127, 0, 0, 8]), 0),), (FamilyOption(6, 6, 18, 1),))

    def slot(bind: Bind | None) -> tuple[object, object]:
        found = plan_cluster(cluster(bind=bind), None, None, bind=everyone).slot
        return found.sources, found.socket_options

    assert slot(None) == (everyone.sources, everyone.options)
    assert slot(own) == (own.sources, own.options)
    assert slot(NO_BIND) == ((), everyone.options)


def test_options_of_the_process_that_are_not_set_close_clusters_without_their_own() -> None:
    endpoints = assignment(("10.0.0.1", 80))
    unset = Bind((), (FamilyOption(4, socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1),))
    closed = [plan_cluster(cluster(bind=bind), endpoints, None, bind=unset).closed for bind in (None, Bind((), ()))]
    assert closed == ["upstream_bind_config: TCP_MAXSEG 1 is not set: Invalid argument", ""]
