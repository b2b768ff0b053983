"""What is accepted, kept, replaced, forgotten and published."""

from collections.abc import Sequence
from typing import Any

import pytest
from eastgate.xds.decode import CDS, EDS, LDS, RDS, decode_cluster, read_text
from eastgate.xds.envelope import WRAPPER
from eastgate.xds.errors import XdsError
from eastgate.xds.message import encode
from eastgate.xds.resources import Cluster
from eastgate.xds.response import Response
from eastgate.xds.store import Store

from . import istiod as build
from .istiod import packed

A, B = "outbound_.80_._.a.svc", "outbound_.80_._.b.svc"
PLAIN = "outbound|80||a.svc"


def clusters(store: Store, *payloads: bytes, version: str = "v1"):
    return store.apply(CDS, version, [packed(CDS, payload) for payload in payloads])


def assignments(store: Store, *payloads: bytes, version: str = "v1"):
    return store.apply(EDS, version, [packed(EDS, payload) for payload in payloads])


def listeners(store: Store, *payloads: bytes, version: str = "v1"):
    return store.apply(LDS, version, [packed(LDS, payload) for payload in payloads])


def assignment(name: str, *addresses: str) -> bytes:
    return build.assignment(name, [build.locality_endpoints("r", [build.endpoint(one) for one in addresses])])


def eds_cluster(name: str, timeout: str = "10s") -> bytes:
    return build.cluster(name, connect_timeout=timeout)


def filled() -> Store:
    store = Store()
    clusters(store, eds_cluster(A), eds_cluster(B))
    assignments(store, assignment(A, "1.1.1.1"), assignment(B, "2.2.2.2"))
    listeners(store, build.listener("l", [build.chain(A), build.chain(B)]))
    return store


def test_empty_store_has_an_empty_snapshot_of_generation_zero() -> None:
    snapshot = Store().snapshot
    assert (snapshot.generation, dict(snapshot.clusters), snapshot.warming) == (0, {}, frozenset())


def test_clusters_are_warming_until_they_are_answered() -> None:
    store = Store()
    clusters(store, eds_cluster(A), eds_cluster(B))
    assert store.snapshot.warming == {A, B}
    assignments(store, build.assignment(A, []))
    assert store.snapshot.warming == {B}
    assert store.snapshot.assignments[A].columns.count == 0


def test_complete_state_deletes_what_is_missing_and_its_assignment() -> None:
    store = filled()
    clusters(store, eds_cluster(B))
    assert set(store.snapshot.clusters) == set(store.snapshot.assignments) == {B}
    listeners(store)
    assert not store.snapshot.listeners


def test_assignments_are_merged_by_name() -> None:
    store = filled()
    assignments(store, assignment(B, "3.3.3.3"))
    assert set(store.snapshot.assignments) == {A, B}


def test_changed_cluster_keeps_its_assignment() -> None:
    store = filled()
    assert clusters(store, eds_cluster(A, "3s"), eds_cluster(B)).changed
    assert store.snapshot.clusters[A].connect_timeout_s == 3.0
    assert set(store.snapshot.assignments) == {A, B}
    assert store.snapshot.warming == frozenset()


def test_assignment_is_dropped_only_when_no_cluster_refers_to_it() -> None:
    store = Store()
    shared = {"eds_cluster_config": {"service_name": "shared"}}
    clusters(store, build.cluster(A, **shared), build.cluster(B, **shared))
    assignments(store, assignment("shared", "1.1.1.1"))
    clusters(store, build.cluster(B, **shared))
    assert set(store.snapshot.assignments) == {"shared"}
    clusters(store, eds_cluster(B))
    # B serves on with what it had until its new endpoints have come.
    assert set(store.snapshot.assignments) == {"shared"}
    assignments(store, assignment(B, "2.2.2.2"))
    assert set(store.snapshot.assignments) == {B}


def test_assignment_that_nobody_refers_to_is_left_out() -> None:
    store = filled()
    assert not assignments(store, assignment("gone", "1.1.1.1")).changed
    assert "gone" not in store.snapshot.assignments


def test_equal_bytes_and_equal_meaning_do_not_move_the_generation() -> None:
    store = filled()
    before = store.snapshot
    metadata = {"metadata": build.field(1, build.field(1, b"istio"))}
    # Other metadata, other order: other bytes, the same cluster.
    applied = clusters(store, eds_cluster(B), build.cluster(A, **metadata), version="v2")
    assert not applied.changed
    assert store.snapshot.generation == before.generation
    assert store.snapshot.versions[CDS] == "v2"
    assert store.snapshot.clusters == before.clusters
    # What is dumped is what istiod sent last.
    assert store.snapshot.clusters[A].raw != before.clusters[A].raw


def test_unchanged_resources_are_the_same_objects() -> None:
    store = filled()
    before = store.snapshot
    clusters(store, eds_cluster(A, "3s"), eds_cluster(B))
    listeners(store, build.listener("l", [build.chain(B), build.chain(A, name="x")]))
    after = store.snapshot
    assert after.clusters[B] is before.clusters[B]
    assert after.listeners["l"].filter_chains[0] is before.listeners["l"].filter_chains[1]


def test_snapshots_are_frozen() -> None:
    store = filled()
    before = store.snapshot
    clusters(store)
    assert set(before.clusters) == {A, B}
    assert store.snapshot is store.snapshot


def test_bad_update_keeps_the_old_version_and_the_rest_is_applied() -> None:
    store = filled()
    applied = clusters(store, eds_cluster(A, "-1s"), eds_cluster(B, "2s"), version="v2")
    assert applied.reason == f"CDS {A} rejected: connect_timeout is -1s, must be above 0s"
    snapshot = store.snapshot
    assert snapshot.clusters[A].connect_timeout_s == 10.0
    assert snapshot.clusters[B].connect_timeout_s == 2.0
    assert snapshot.versions[CDS] == "v1"
    assert [(one.type_url, one.name, one.version) for one in snapshot.rejections] == [(CDS, A, "v2")]


def test_bad_new_resource_is_absent() -> None:
    store = Store()
    clusters(store, eds_cluster(A, "-1s"), eds_cluster(B))
    assert set(store.snapshot.clusters) == {B}
    assert store.wanted_assignments == (B,)


def test_bad_assignment_keeps_the_endpoints_it_had() -> None:
    store = filled()
    bad = build.assignment(A, [build.locality_endpoints("r", [build.endpoint("host.example")])])
    applied = assignments(store, bad, assignment(B, "9.9.9.9"))
    assert "must be an IP address, not 'host.example'" in applied.reason
    assert store.snapshot.assignments[A].columns.address[:4] == b"\1\1\1\1"
    assert store.snapshot.assignments[B].columns.address[:4] == b"\x09\x09\x09\x09"


def test_rejection_is_over_when_its_name_is_accepted_or_gone() -> None:
    store = filled()
    clusters(store, eds_cluster(A, "-1s"), eds_cluster(B))
    clusters(store, eds_cluster(A), eds_cluster(B))
    assert store.snapshot.rejections == ()
    clusters(store, eds_cluster(A, "-1s"), eds_cluster(B))
    clusters(store, eds_cluster(B))
    assert store.snapshot.rejections == ()
    assert A not in store.snapshot.clusters


def test_rejected_assignment_stays_listed_until_it_is_answered_well() -> None:
    store = filled()
    assignments(store, build.assignment(A, [build.locality_endpoints("r", [], priority=200)]))
    assignments(store, assignment(B, "5.5.5.5"))
    assert [one.name for one in store.snapshot.rejections] == [A]
    assignments(store, assignment(A, "5.5.5.5"))
    assert store.snapshot.rejections == ()


def test_name_that_stands_twice_is_rejected() -> None:
    store = filled()
    applied = clusters(store, eds_cluster(A, "2s"), eds_cluster(B), eds_cluster(A, "3s"))
    assert applied.reason == f"CDS {A} rejected: named 2 times in one response"
    assert store.snapshot.clusters[A].connect_timeout_s == 10.0


def test_resource_without_readable_name_deletes_nothing() -> None:
    store = filled()
    applied = clusters(store, b"\xff", eds_cluster(B))
    assert applied.reason == "CDS (resource 1 of 2) rejected: no name"
    assert set(store.snapshot.clusters) == {A, B}
    assert set(store.snapshot.assignments) == {A, B}
    clusters(store, eds_cluster(B))
    assert set(store.snapshot.clusters) == {B}
    assert store.snapshot.rejections == ()


def test_cut_resource_is_rejected_by_the_name_it_begins_with() -> None:
    store = filled()
    applied = clusters(store, eds_cluster(A)[:-2], eds_cluster(B))
    assert [one.name for one in applied.rejected] == [A]
    assert set(store.snapshot.clusters) == {A, B}


def wrapped(type_url: str, payload: bytes | None, **fields: Any) -> bytes:
    """An Any of a discovery.v3.Resource."""
    body = {} if payload is None else {"resource": packed(type_url, payload)}
    return packed(WRAPPER, encode("envoy.service.discovery.v3.Resource", {**body, **fields}))


def test_response_that_mixes_types_changes_nothing() -> None:
    store = filled()
    before = store.snapshot
    applied = store.apply(CDS, "v2", [packed(CDS, eds_cluster(B, "2s")), packed(EDS, assignment(A, "3.3.3.3"))])
    assert applied.reason.startswith(
        f"CDS {A} rejected: its type is {EDS}; CDS {B} rejected: refused together with {A}"
    )
    assert not applied.changed
    assert [store.snapshot.clusters[name] for name in (A, B)] == [before.clusters[name] for name in (A, B)]
    # The sibling: Delta, with a removal beside it.
    applied = store.apply(
        CDS, "v3", [packed(CDS, eds_cluster("c")), packed(LDS, eds_cluster(A))], names=("c", A), removed=(B,)
    )
    assert {one.name for one in applied.rejected} == {"c", A}
    assert set(store.snapshot.clusters) == {A, B}


@pytest.mark.parametrize("type_url", [CDS, EDS, LDS, RDS])
def test_wrapped_resources_are_unwrapped(type_url: str) -> None:
    plain, store = with_routes("80"), with_routes("80")
    payloads = {
        CDS: eds_cluster(A),
        EDS: assignment(A, "4.4.4.4"),
        LDS: build.listener("l", [http_chain("80")]),
        RDS: route_configuration("80"),
    }
    for each in (CDS, EDS, LDS, RDS):
        plain.apply(each, "v1", [packed(each, payloads[each])])
        name = read_text(payloads[each], 1)
        sent = wrapped(each, payloads[each], name=name, version="7", aliases=["x"]) if each == type_url else None
        assert not store.apply(each, "v1", [sent or packed(each, payloads[each])]).reason
    assert store.snapshot.clusters == plain.snapshot.clusters
    assert store.snapshot.assignments == plain.snapshot.assignments
    assert store.snapshot.listeners == plain.snapshot.listeners
    assert store.snapshot.routes == plain.snapshot.routes


def test_wrapper_that_calls_its_resource_otherwise_is_rejected_by_name() -> None:
    store = filled()
    applied = store.apply(CDS, "v2", [wrapped(CDS, eds_cluster(B), name=A), packed(CDS, eds_cluster(B))])
    assert applied.reason == f"CDS {A} rejected: it calls itself {B!r}"
    assert set(store.snapshot.clusters) == {A, B}


def test_response_of_which_nothing_is_accepted_deletes_nothing() -> None:
    store = filled()
    clusters(store, eds_cluster(A, "-1s"))
    assert set(store.snapshot.clusters) == {A, B}
    listeners(store, build.listener("other", [], address={}))
    assert set(store.snapshot.listeners) == {"l"}
    # What is empty says that there is nothing.
    clusters(store)
    assert not store.snapshot.clusters


def test_damaged_resource_deletes_nothing_whatever_it_is_called() -> None:
    store = filled()
    broken = build.cluster("outbound_.80_._.c.svc") + build.field(19, b"\xff")
    applied = clusters(store, eds_cluster(B, "2s"), broken)
    assert [one.name for one in applied.rejected] == ["outbound_.80_._.c.svc"]
    assert set(store.snapshot.clusters) == {A, B}
    assert store.snapshot.clusters[B].connect_timeout_s == 2.0


@pytest.mark.parametrize("name", ["a\0b", "a\nb", "a\u2028b"])
def test_name_with_control_characters_is_rejected_and_deletes_nothing(name: str) -> None:
    store = filled()
    applied = clusters(store, eds_cluster(name), eds_cluster(B))
    assert [one.reason for one in applied.rejected] == ["its name holds control characters"]
    assert "\n" not in applied.reason
    assert "\0" not in applied.reason
    assert set(store.snapshot.clusters) == {A, B}


def test_exception_of_ours_costs_one_resource_its_update(monkeypatch: pytest.MonkeyPatch) -> None:
    store = filled()

    def decode(raw: bytes) -> Cluster:
        if read_text(raw, 1) == A:
            raise TypeError("not\nforeseen")
        return decode_cluster(raw)

    monkeypatch.setattr("eastgate.xds.store.decode_cluster", decode)
    applied = clusters(store, eds_cluster(A, "2s"), eds_cluster(B, "2s"))
    assert applied.reason.startswith(f"CDS {A} rejected: internal error, please report it: TypeError at test_store.py:")
    assert applied.reason.endswith(": not foreseen")
    assert [store.snapshot.clusters[name].connect_timeout_s for name in (A, B)] == [10.0, 2.0]


def test_name_both_sent_and_removed_is_neither() -> None:
    store = filled()
    applied = store.apply(CDS, "v2", [packed(CDS, eds_cluster(A, "2s"))], names=(A,), removed=(A,))
    assert applied.reason == f"CDS {A} rejected: named 2 times in one response"
    assert store.snapshot.clusters[A].connect_timeout_s == 10.0


def test_heartbeat_in_a_complete_state_keeps_what_is_there() -> None:
    store = filled()
    applied = store.apply(CDS, "v1", [wrapped(CDS, None, name=A, ttl="5s")])
    assert (applied.reason, applied.changed) == ("", False)
    assert set(store.snapshot.clusters) == {A, B}
    # Of another version it would say something of what we do not have.
    applied = store.apply(CDS, "v2", [wrapped(CDS, None, name=A, ttl="5s")])
    assert applied.reason == f"CDS {A} rejected: it has no body"
    assert set(store.snapshot.clusters) == {A, B}


def test_many_rejections_fit_one_line() -> None:
    store = Store()
    applied = clusters(store, *(eds_cluster(f"c{number}", "-1s") for number in range(9)))
    assert applied.reason.endswith("; and 4 more")
    assert applied.reason.count("rejected") == 5


def test_router_wants_sni_dnat_names_and_what_chains_name() -> None:
    store = Store(router=True)
    clusters(store, eds_cluster(A), eds_cluster(PLAIN), eds_cluster("outbound|81||a.svc"))
    assert store.wanted_assignments == (A,)
    assert store.snapshot.warming == {A}
    listeners(store, build.listener("l", [build.chain(A), build.chain(PLAIN)]))
    assert store.wanted_assignments == (A, PLAIN)
    assert store.snapshot.warming == {A, PLAIN}
    listeners(store, build.listener("l", [build.chain(A)]))
    assert store.wanted_assignments == (A,)


def test_router_wants_the_local_cluster_although_nothing_leads_there() -> None:
    store = Store(router=True, local_cluster=PLAIN)
    clusters(store, eds_cluster(PLAIN), eds_cluster("outbound|81||a.svc"))
    assert store.wanted_assignments == (PLAIN,)


def test_sidecar_wants_every_eds_cluster() -> None:
    store = Store(router=False)
    clusters(store, eds_cluster(A), eds_cluster(PLAIN), build.cluster("BlackHoleCluster", type="STATIC"))
    assert store.wanted_assignments == (A, PLAIN)


def test_refused_chain_subscribes_to_nothing() -> None:
    store = Store()
    clusters(store, eds_cluster(PLAIN))
    unknown = {"name": "x", "typed_config": {"@type": "type.googleapis.com/x.Y", "@value": b""}}
    listeners(store, build.listener("l", [build.chain(PLAIN, filters=[unknown, build.tcp_proxy(PLAIN)])]))
    assert store.wanted_assignments == ()


def test_revoke_puts_the_last_good_version_back() -> None:
    store = filled()
    listeners(store, build.listener("l", [build.chain(A), build.chain(A)]), version="v2")
    applied = store.revoke([XdsError("LDS", "l", "two chains match alike"), XdsError("LDS", "other", "not ours")])
    assert applied.reason == "LDS l rejected: two chains match alike"
    snapshot = store.snapshot
    assert len(snapshot.listeners["l"].filter_chains) == 2
    assert snapshot.listeners["l"].filter_chains[1].match.server_names == (B,)
    assert snapshot.versions[LDS] == "v1"
    assert [(one.name, one.version) for one in snapshot.rejections] == [("l", "v2")]
    # The same bytes again are decoded and offered again: the compiler decides anew.
    assert listeners(store, build.listener("l", [build.chain(A), build.chain(A)]), version="v3").changed


def test_revoke_of_a_new_resource_removes_it() -> None:
    store = Store()
    clusters(store, eds_cluster(A))
    store.revoke([XdsError("CDS", A, "no")])
    assert not store.snapshot.clusters
    assert store.wanted_assignments == ()
    assert store.revoke([XdsError("CDS", A, "no")]).rejected == ()


def test_nothing_is_visible_before_the_last_slice() -> None:
    store = filled()
    before = store.snapshot
    resources = [packed(CDS, eds_cluster(A, "2s")), packed(CDS, eds_cluster(B, "2s"))]
    steps = store.steps(Response(CDS, "v2", resources=resources))
    next(steps)
    next(steps)
    assert store.snapshot is before
    assert list(steps) == []
    assert store.snapshot.clusters[A].connect_timeout_s == 2.0


def clusters_of(*names: str) -> list[bytes]:
    return [build.packed(CDS, build.cluster(name)) for name in names]


def test_delta_adds_and_removes_by_name() -> None:
    store = Store()
    store.apply(CDS, "v1", clusters_of("a", "b"), names=("a", "b"), removed=())
    applied = store.apply(CDS, "v2", clusters_of("c"), names=("c",), removed=("a", "unknown"))
    assert applied.changed
    assert set(store.names(CDS)) == {"b", "c"}
    assert not store.apply(CDS, "v3", [], removed=("unknown",)).changed


def test_delta_removal_counts_beside_a_resource_that_cannot_be_read() -> None:
    store = Store()
    store.apply(CDS, "v1", clusters_of("a", "b"), names=("a", "b"), removed=())
    applied = store.apply(CDS, "v2", [b"\xff"], names=("b",), removed=("a",))
    assert [one.name for one in applied.rejected] == ["b"]
    assert store.names(CDS) == ("b",)
    # Also when the server does not even say which resource it was.
    store.apply(CDS, "v3", [b"\xff"], names=("",), removed=("b",))
    assert store.names(CDS) == ()


def test_delta_resource_under_another_name_is_rejected_under_the_name_that_the_server_will_remove() -> None:
    store = Store()
    applied = store.apply(CDS, "v1", clusters_of("a"), names=("b",), removed=())
    assert [(one.name, one.reason) for one in applied.rejected] == [("b", "it calls itself 'a'")]
    assert store.names(CDS) == ()


def test_delta_rejection_is_over_when_its_resource_is_removed_and_not_before() -> None:
    store = Store()
    store.apply(CDS, "v1", [b"\xff"], names=("a",), removed=())
    store.apply(CDS, "v2", clusters_of("b"), names=("b",), removed=())
    assert [one.name for one in store.snapshot.rejections] == ["a"]
    store.apply(CDS, "v3", [], removed=("a",))
    assert store.snapshot.rejections == ()


def test_delta_removal_of_an_assignment_is_left_to_its_cluster() -> None:
    store = Store()
    store.apply(CDS, "v1", clusters_of("a"), names=("a",), removed=())
    store.apply(EDS, "v1", [build.packed(EDS, build.assignment("a", []))], names=("a",), removed=())
    store.apply(EDS, "v2", [], removed=("a",))
    assert store.names(EDS) == ("a",)
    store.apply(CDS, "v3", [], removed=("a",))
    assert store.names(EDS) == ()


def http_chain(route_config_name: str) -> bytes:
    url = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
    manager = {"@type": url, "rds": {"route_config_name": route_config_name}}
    return build.chain("", filters=[{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}])


def route_configuration(name: str, cluster: str = "a", *domains: str) -> bytes:
    route = {"match": {"prefix": "/"}, "route": {"cluster": cluster}}
    host = encode("envoy.config.route.v3.VirtualHost", {"name": "h", "domains": domains or ["*"], "routes": [route]})
    return encode("envoy.config.route.v3.RouteConfiguration", {"name": name, "virtual_hosts": [host]})


def routes(store: Store, *payloads: bytes, version: str = "v1", removed: Sequence[str] | None = None):
    return store.apply(RDS, version, [packed(RDS, payload) for payload in payloads], removed=removed)


def with_routes(*names: str) -> Store:
    store = Store()
    listeners(store, build.listener("l", [build.chain(A), *(http_chain(name) for name in names)]))
    return store


def test_routes_are_wanted_by_the_listeners_that_name_them() -> None:
    store = with_routes("80", "8080")
    assert store.wanted_routes == ("80", "8080")
    assert store.snapshot.missing_routes == {"80", "8080"}
    assert not routes(store, route_configuration("80"), route_configuration("other")).reason
    snapshot = store.snapshot
    assert (set(snapshot.routes), snapshot.missing_routes) == ({"80"}, {"8080"})
    listeners(store, build.listener("l", [http_chain("8080")]))
    assert (store.wanted_routes, dict(store.snapshot.routes)) == (("8080",), {})


def test_a_response_says_nothing_of_the_routes_that_it_lacks() -> None:
    store = with_routes("80", "8080")
    routes(store, route_configuration("80"), route_configuration("8080"))
    routes(store, route_configuration("80", "b"), version="v2")
    assert store.snapshot.routes["80"].clusters == {"b"}
    assert set(store.snapshot.routes) == {"80", "8080"}
    routes(store, removed=["8080"])
    assert (set(store.snapshot.routes), store.snapshot.missing_routes) == ({"80"}, {"8080"})


def test_bad_routes_are_rejected_by_name_and_the_last_good_ones_stay() -> None:
    store = with_routes("80", "8080")
    routes(store, route_configuration("80"), route_configuration("8080"))
    generation = store.snapshot.generation
    applied = routes(store, route_configuration("80", "b", "x", "X"), route_configuration("8080"), version="v2")
    assert applied.reason == "RDS 80 rejected: domain 'x' stands there more than once"
    assert store.snapshot.routes["80"].clusters == {"a"}
    assert (store.snapshot.generation, store.snapshot.versions[RDS]) == (generation, "v1")
    assert [one.name for one in store.snapshot.rejections] == ["80"]
    # Nobody names them any more: the rejection is over.
    listeners(store, build.listener("l", [http_chain("8080")]))
    assert store.snapshot.rejections == ()


def test_equal_routes_in_other_bytes_do_not_move_the_generation() -> None:
    store = with_routes("80")
    routes(store, route_configuration("80"))
    generation, first = store.snapshot.generation, store.snapshot.routes["80"]
    whole = route_configuration("80")
    name = build.field(1, b"80")
    reordered = whole.removeprefix(name) + name
    assert not routes(store, route_configuration("80"), version="v2").changed
    assert store.snapshot.routes["80"] is first
    assert reordered != whole
    assert not store.apply(RDS, "v3", [packed(RDS, reordered)]).changed
    assert store.snapshot.generation == generation
    assert store.snapshot.routes["80"].raw == reordered


def test_a_chain_without_its_routes_refuses_with_that_reason_and_no_other_chain_does() -> None:
    store = with_routes("80")
    plain, http = store.snapshot.listeners["l"].filter_chains
    assert store.snapshot.refusal(plain) == ""
    assert store.snapshot.refusal(http) == "its routes are missing (RDS 80)"
    routes(store, route_configuration("80"))
    assert store.snapshot.refusal(http) == http.refusal == ""
    routes(store, route_configuration("80") + build.number_field(99, 1))
    assert store.snapshot.refusal(http) == "its routes (80) are unusable: unknown fields: #99"
    assert store.snapshot.refusal(plain) == ""


class Clock:
    """Seconds that only the test moves."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def filled_by(clock: Clock) -> Store:
    store = Store(clock=clock)
    clusters(store, eds_cluster(A), eds_cluster(B))
    assignments(store, assignment(A, "1.1.1.1"), assignment(B, "2.2.2.2"))
    return store


def later(store: Store, clock: Clock, seconds: float) -> tuple[str, ...]:
    clock.now_s += seconds
    return store.expire().ended


def test_resource_goes_when_its_ttl_is_over() -> None:
    clock = Clock()
    store = filled_by(clock)
    store.apply(CDS, "v2", [wrapped(CDS, eds_cluster(A), name=A, ttl="3s"), packed(CDS, eds_cluster(B))])
    assert store.seconds_to_deadline == 3.0
    assert later(store, clock, 2.9) == ()
    generation = store.snapshot.generation
    assert later(store, clock, 0.2) == (f"CDS {A}: its ttl is over, it is removed",)
    assert set(store.snapshot.clusters) == set(store.snapshot.assignments) == {B}
    assert store.snapshot.generation == generation + 1
    assert store.seconds_to_deadline is None


def test_what_ends_for_two_reasons_at_once_ends_once() -> None:
    clock = Clock()
    store = Store(clock=clock)
    store.apply(CDS, "v1", [wrapped(CDS, eds_cluster(A), name=A, ttl="15s")])
    assert store.snapshot.warming == {A}
    assert later(store, clock, 15) == (f"CDS {A}: its ttl is over, it is removed",)
    assert (dict(store.snapshot.clusters), store.snapshot.warming) == ({}, frozenset())


def test_heartbeat_renews_a_ttl_and_a_push_without_one_ends_it() -> None:
    clock = Clock()
    store = filled_by(clock)
    store.apply_response(
        Response(CDS, "v1", resources=[packed(CDS, eds_cluster(A))], names=[A], removed=(), ttls=["3s"])
    )
    clock.now_s += 2
    store.apply_response(Response(CDS, "v2", removed=(), heartbeats={A: "3s"}))
    assert store.seconds_to_deadline == 3.0
    store.apply(CDS, "v3", [packed(CDS, eds_cluster(A))], names=[A], removed=())
    assert store.seconds_to_deadline is None


def test_ttl_that_is_none_is_rejected_by_name() -> None:
    store = filled()
    applied = store.apply(CDS, "v2", [wrapped(CDS, eds_cluster(A, "2s"), name=A, ttl="-1s")])
    assert applied.reason == f"CDS {A} rejected: ttl is -1s, must be at least 0s"
    assert store.snapshot.clusters[A].connect_timeout_s == 10.0


def test_endpoints_go_when_they_are_stale_and_come_back_with_the_next_answer() -> None:
    clock = Clock()
    store = filled_by(clock)
    stale = build.assignment(
        A, [build.locality_endpoints("r", [build.endpoint("1.1.1.1")])], build.field(4, build.number_field(1, 3))
    )
    assignments(store, stale)
    clock.now_s += 2
    # The same bytes again are an update too.
    assignments(store, stale)
    assert later(store, clock, 2) == ()
    assert later(store, clock, 1) == (f"EDS {A}: no update for 3 s, its endpoints are removed",)
    assert store.snapshot.assignments[A].columns.count == 0
    assert store.snapshot.assignments[B].columns.count == 1
    assert store.snapshot.warming == frozenset()
    assert assignments(store, stale).changed
    assert store.snapshot.assignments[A].columns.count == 1


def named_by(service: str, **fields: Any) -> bytes:
    return build.cluster(A, eds_cluster_config={"service_name": service}, **fields)


def test_cluster_with_another_service_name_serves_on_until_the_new_endpoints_are_there() -> None:
    store = filled()
    before = store.snapshot
    applied = clusters(store, named_by("new", connect_timeout="3s"), eds_cluster(B))
    assert (applied.reason, applied.changed) == ("", False)
    assert store.wanted_assignments == ("new", A, B)
    assert store.snapshot.generation == before.generation
    assert store.snapshot.waiting[A].eds_service_name == "new"
    assert store.snapshot.warming == frozenset()
    # What is in use goes on being updated.
    assert assignments(store, assignment(A, "7.7.7.7")).changed
    assert assignments(store, assignment("new", "9.9.9.9")).changed
    snapshot = store.snapshot
    assert snapshot.clusters[A].connect_timeout_s == 3.0
    assert set(snapshot.assignments) == {"new", B}
    assert (dict(snapshot.waiting), store.wanted_assignments) == ({}, ("new", B))


def test_static_cluster_that_becomes_eds_serves_on_until_it_is_answered() -> None:
    store = Store()
    static = {"type": "STATIC", "eds_cluster_config": {}, "load_assignment": assignment(A, "5.5.5.5")}
    clusters(store, build.cluster(A, **static))
    clusters(store, eds_cluster(A))
    assert (store.snapshot.clusters[A].type, store.wanted_assignments) == ("STATIC", (A,))
    assignments(store, assignment(A, "6.6.6.6"))
    assert store.snapshot.clusters[A].type == "EDS"
    assert store.snapshot.assignments[A].columns.address[:4] == b"\6\6\6\6"


def test_waiting_ends_when_the_old_version_comes_back_or_the_cluster_goes() -> None:
    store = filled()
    clusters(store, named_by("new"), eds_cluster(B))
    clusters(store, eds_cluster(A), eds_cluster(B))
    assert (dict(store.snapshot.waiting), store.wanted_assignments) == ({}, (A, B))
    clusters(store, named_by("new"), eds_cluster(B))
    clusters(store, eds_cluster(B))
    assert (dict(store.snapshot.waiting), set(store.snapshot.clusters)) == ({}, {B})


def test_cluster_that_nothing_leads_to_any_more_does_not_wait() -> None:
    store = Store()
    other = "outbound|81||a.svc"
    clusters(store, eds_cluster(other))
    listeners(store, build.listener("l", [build.chain(other)]))
    assignments(store, assignment(other, "1.1.1.1"))
    clusters(store, build.cluster(other, eds_cluster_config={"service_name": "new"}))
    assert set(store.snapshot.waiting) == {other}
    listeners(store)
    assert (dict(store.snapshot.waiting), store.snapshot.clusters[other].eds_service_name) == ({}, "new")
    # Nobody would ask for its assignment: it is not kept waiting for it.
    clusters(store, build.cluster(other, eds_cluster_config={"service_name": "newer"}))
    assert store.snapshot.clusters[other].eds_service_name == "newer"


def test_waiting_cluster_that_does_not_compile_gives_the_old_one_back_with_its_endpoints() -> None:
    store = filled()
    clusters(store, named_by("new"), eds_cluster(B))
    assignments(store, assignment("new", "9.9.9.9"))
    applied = store.revoke([XdsError("CDS", A, "does not compile")])
    assert applied.reason == f"CDS {A} rejected: does not compile"
    snapshot = store.snapshot
    assert snapshot.clusters[A].eds_service_name == A
    assert snapshot.assignments[A].columns.address[:4] == b"\1\1\1\1"
    assert snapshot.warming == frozenset()


@pytest.mark.parametrize(("source", "timeout_s"), [({}, 15.0), ({"initial_fetch_timeout": "2s"}, 2.0)])
def test_cluster_whose_first_answer_does_not_come_is_warming_no_longer(
    source: dict[str, Any], timeout_s: float
) -> None:
    clock = Clock()
    store = Store(clock=clock)
    config = encode("envoy.config.core.v3.ConfigSource", {"ads": b"", **source})
    clusters(store, build.cluster(A, eds_cluster_config={"service_name": A, "eds_config": config}))
    assert store.snapshot.warming == {A}
    assert later(store, clock, timeout_s - 0.1) == ()
    assert later(store, clock, 0.2) == (f"CDS {A}: its assignment did not come within {timeout_s:g} s",)
    assert (store.snapshot.warming, dict(store.snapshot.assignments)) == (frozenset(), {})
    assert assignments(store, assignment(A, "1.1.1.1")).changed


def test_answer_ends_the_time_that_a_changed_cluster_had() -> None:
    clock = Clock()
    store = filled_by(clock)
    clusters(store, named_by("new"), eds_cluster(B))
    assert store.seconds_to_deadline == 15.0
    clock.now_s += 14
    # Another version begins anew.
    clusters(store, named_by("new", connect_timeout="2s"), eds_cluster(B))
    assert store.seconds_to_deadline == 15.0
    assignments(store, assignment("new", "9.9.9.9"))
    assert store.seconds_to_deadline is None


def test_cluster_without_a_limit_waits_for_ever_and_a_changed_one_no_longer_than_its_limit() -> None:
    clock = Clock()
    store = filled_by(clock)
    endless = encode("envoy.config.core.v3.ConfigSource", {"ads": b"", "initial_fetch_timeout": "0s"})
    clusters(store, build.cluster(A, eds_cluster_config={"service_name": "new", "eds_config": endless}), eds_cluster(B))
    assert store.seconds_to_deadline is None
    clusters(store, named_by("newer"), eds_cluster(B))
    assert later(store, clock, 15) == (f"CDS {A}: its assignment did not come within 15 s",)
    assert store.snapshot.clusters[A].eds_service_name == "newer"
    assert (set(store.snapshot.assignments), store.snapshot.warming) == ({B}, frozenset())


def endless(name: str) -> bytes:
    """A cluster that waits for its first assignment for as long as it takes."""
    source = encode("envoy.config.core.v3.ConfigSource", {"ads": b"", "initial_fetch_timeout": "0s"})
    return build.cluster(name, eds_cluster_config={"service_name": name, "eds_config": source})


BAD = build.assignment(A, [build.locality_endpoints("r", [], priority=200)])


# Of one whose name nobody can read it may be any of those that are awaited.
@pytest.mark.parametrize(("bad", "still"), [(BAD, {B}), (b"\xff\xff\xff", set())])
def test_first_assignment_that_is_rejected_is_waited_for_no_longer(bad: bytes, still: set[str]) -> None:
    store = Store(router=False)
    clusters(store, endless(A), endless(B))
    assert store.snapshot.warming == {A, B}
    generation = store.snapshot.generation
    assert assignments(store, bad).changed
    assert store.snapshot.warming == still
    assert store.snapshot.generation > generation
    # A cluster of another meaning does not make it wait anew, and a good one is taken.
    clusters(store, build.cluster(A, connect_timeout="2s"), endless(B))
    assert A not in store.snapshot.warming
    assignments(store, assignment(A, "1.1.1.1"), assignment(B, "1.1.1.2"))
    assert (store.snapshot.warming, set(store.snapshot.assignments)) == (frozenset(), {A, B})


def test_first_assignment_that_nobody_can_compile_is_waited_for_no_longer() -> None:
    store = Store(router=False)
    clusters(store, endless(A), endless(B))
    assignments(store, assignment(A, "1.1.1.1"))
    assert store.revoke([XdsError("EDS", A, "too many")]).changed
    assert store.snapshot.warming == {B}


def test_a_later_assignment_that_is_rejected_costs_nobody_his_endpoints() -> None:
    store = Store(router=False)
    clusters(store, endless(A), endless(B))
    assignments(store, assignment(A, "1.1.1.1"))
    assert not assignments(store, BAD).changed
    assert (set(store.snapshot.assignments), store.snapshot.warming) == ({A}, {B})
