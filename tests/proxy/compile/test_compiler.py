"""Snapshots to published tables: what changes, what stays, and what is rejected by name."""

from array import array
from collections import Counter
from dataclasses import replace
from struct import pack
from types import MappingProxyType
from typing import Any

import pytest
from eastgate.fastpath.loop.cluster_slots import ClusterSlots
from eastgate.fastpath.match.facts import Observed
from eastgate.fastpath.reason import Reason
from eastgate.fastpath.tables.cluster_table import ClusterTable
from eastgate.proxy.admin.dumps import cluster_status, clusters_text
from eastgate.proxy.compile import cluster_tables, listener_tables
from eastgate.proxy.compile.cluster_tables import compile_table
from eastgate.proxy.compile.compiler import Compiler
from eastgate.proxy.compile.listener_plan import chain_spec, view_name
from eastgate.proxy.control_errors import ControlErrors, Part
from eastgate.proxy.membership.endpoint_health import Cause, key_of
from eastgate.proxy.slices import finish
from eastgate.xds.assignment import decode_assignment
from eastgate.xds.message import encode
from eastgate.xds.resources import (
    Assignment,
    Cluster,
    Criteria,
    DnsSettings,
    FilterChain,
    FilterChainMatch,
    Hashing,
    Listener,
    Locality,
    LocalityEntry,
    Snapshot,
    Subsets,
    SubsetSelector,
)
from eastgate.xds.tls_records import SecretRef, TlsSettings, UpstreamTls

from ...fastpath.driven_engine import columns
from ...support import encoded

NAME = "outbound_.80_._.echo.default.svc.cluster.local"
SEALED = UpstreamTls(others=TlsSettings(is_server=False, certificate=SecretRef("default")))


def assignment(*addresses: tuple[str, int], factor: int = 140) -> Assignment:
    return Assignment(NAME, columns(*addresses), factor, False, 0.0, b"")


def cluster(**fields: object) -> Cluster:
    return Cluster(name=NAME, type="EDS", **fields)  # type: ignore[arg-type]


def listener(*chains: FilterChain) -> Listener:
    return Listener(name="l", addresses=(("127.0.0.1", 0),), filter_chains=chains)


def chain(name: str = NAME, **fields: object) -> FilterChain:
    return FilterChain(
        name=name,
        match=FilterChainMatch(server_names=(name,), application_protocols=("istio",)),
        clusters=((name, 1),),
        **fields,  # type: ignore[arg-type]
    )


def snapshot(one: Cluster | None, endpoints: Assignment | None, routed: Listener | None) -> Snapshot:
    return Snapshot(
        clusters=MappingProxyType({NAME: one} if one else {}),
        assignments=MappingProxyType({NAME: endpoints} if endpoints else {}),
        listeners=MappingProxyType({"l": routed} if routed else {}),
    )


def match(compiler: Compiler, name: str = NAME) -> int:
    return compiler.listeners["l"].routes.match(Observed(server_name=name, application_protocols=["istio"]))


def test_unchanged_resources_keep_their_tables() -> None:
    compiler = Compiler(ClusterSlots(16))
    one, endpoints, routed = cluster(), assignment(("10.0.0.1", 80)), listener(chain())
    assert compiler.apply(snapshot(one, endpoints, routed)) == ()
    table, routes = compiler.clusters[NAME].table, compiler.listeners["l"].routes
    assert compiler.apply(snapshot(one, endpoints, routed)) == ()
    assert compiler.clusters[NAME].table is table
    assert compiler.listeners["l"].routes is routes


def test_changed_endpoints_make_a_new_table_in_the_same_slot() -> None:
    compiler = Compiler(ClusterSlots(16))
    one, routed = cluster(), listener(chain())
    compiler.apply(snapshot(one, assignment(("10.0.0.1", 80)), routed))
    before = compiler.clusters[NAME]
    compiler.apply(snapshot(one, assignment(("10.0.0.1", 80), ("10.0.0.2", 80)), routed))
    after = compiler.clusters[NAME]
    assert after.slot == before.slot
    assert after.table is not None
    assert len(after.table) == 2


def test_a_million_endpoints_are_a_table_like_any_other() -> None:
    raw = encoded.assignment([encoded.endpoint(index) for index in range(1_000_000)], name=NAME)
    compiler = Compiler(ClusterSlots(16))
    assert compiler.apply(snapshot(cluster(), decode_assignment(raw), listener(chain()))) == ()
    table = compiler.clusters[NAME].table
    assert table is not None
    picks = array("I", bytes(4 * 3_000_000))
    table.pick_many(picks)
    assert set(Counter(picks).values()) == {3}


def test_what_cannot_be_compiled_is_reported_once_and_the_last_good_table_stays() -> None:
    compiler = Compiler(ClusterSlots(16))
    one, routed = cluster(), listener(chain())
    compiler.apply(snapshot(one, assignment(("10.0.0.1", 80)), routed))
    good = compiler.clusters[NAME].table
    bad = snapshot(one, assignment(("10.0.0.1", 80), factor=0), routed)
    (error,) = compiler.apply(bad)
    assert (error.kind, error.resource) == ("EDS", NAME)
    assert compiler.clusters[NAME].table is good
    assert ("CDS", NAME) in compiler.rejected
    assert compiler.apply(bad) == ()
    compiler.apply(snapshot(one, assignment(("10.0.0.3", 80)), routed))
    assert compiler.rejected == {}


def test_two_chains_with_equal_criteria_keep_the_last_good_listener() -> None:
    compiler = Compiler(ClusterSlots(16))
    one, endpoints = cluster(), assignment(("10.0.0.1", 80))
    compiler.apply(snapshot(one, endpoints, listener(chain())))
    routes = compiler.listeners["l"].routes
    (error,) = compiler.apply(snapshot(one, endpoints, listener(chain(), chain())))
    assert error.kind == "LDS"
    assert compiler.listeners["l"].routes is routes


def test_refusing_chain_beside_an_equal_one_closes_both() -> None:
    compiler = Compiler(ClusterSlots(16))
    routed = listener(chain(), chain(refusal="a filter that is not evaluated"))
    assert compiler.apply(snapshot(cluster(), assignment(("10.0.0.1", 80)), routed)) == ()
    assert match(compiler) == 1


def test_chain_may_come_before_its_cluster() -> None:
    slots = ClusterSlots(16)
    compiler = Compiler(slots)
    compiler.apply(snapshot(None, None, listener(chain())))
    assert match(compiler) == 0
    assert len(slots) == 1
    compiler.apply(snapshot(cluster(), assignment(("10.0.0.1", 80)), listener(chain())))
    assert len(slots) == 1


def test_slots_are_given_back_when_cluster_and_routes_are_gone() -> None:
    slots = ClusterSlots(16)
    compiler = Compiler(slots)
    compiler.apply(snapshot(cluster(), assignment(("10.0.0.1", 80)), listener(chain())))
    compiler.apply(snapshot(None, None, listener(chain())))
    assert len(slots) == 1
    compiler.apply(snapshot(None, None, None))
    assert (len(slots), dict(compiler.clusters), dict(compiler.listeners)) == (0, {}, {})


def test_cluster_whose_endpoints_want_tls_from_us_is_closed() -> None:
    compiler = Compiler(ClusterSlots(16))
    compiler.apply(snapshot(cluster(upstream_tls=SEALED), assignment(("10.0.0.1", 80)), listener(chain())))
    assert "secret default has not arrived" in compiler.clusters[NAME].closed


def test_unserved_server_name_is_refused_by_name() -> None:
    compiler = Compiler(ClusterSlots(16))
    compiler.apply(snapshot(cluster(), assignment(("10.0.0.1", 80)), listener(chain())))
    assert match(compiler, NAME.replace("echo", "nobody")) == -Reason.UNKNOWN_SERVER_NAME


def many(count: int) -> Snapshot:
    """So many clusters with one endpoint each, and a listener with a chain for each."""
    names = [NAME.replace("echo", f"echo-{number}") for number in range(count)]
    return Snapshot(
        clusters=MappingProxyType({name: Cluster(name=name, type="EDS") for name in names}),
        assignments=MappingProxyType({name: assignment(("10.0.0.1", 80)) for name in names}),
        listeners=MappingProxyType({"l": listener(*(chain(name) for name in names))}),
    )


def test_nothing_is_visible_before_the_last_slice() -> None:
    compiler = Compiler(ClusterSlots())
    steps = compiler.steps(many(300))
    slices = 0
    for _ in steps:
        slices += 1
        assert not compiler.clusters
        assert not compiler.listeners
    # One for each cluster, and some for the chains.
    assert slices > 300 + 4
    assert len(compiler.clusters) == 300
    assert len(compiler.listeners["l"].routes) == 300


def test_compiling_that_is_given_up_leaves_everything_as_it_was() -> None:
    whole = many(300)
    for stop_after in (1, 150, 300, 302, 305, 308):
        slots = ClusterSlots()
        compiler = Compiler(slots)
        compiler.apply(snapshot(cluster(), assignment(("10.0.0.1", 80)), listener(chain())))
        before = dict(compiler.clusters), dict(compiler.listeners)
        steps = compiler.steps(whole)
        for _ in range(stop_after):
            next(steps)
        steps.close()
        assert (dict(compiler.clusters), dict(compiler.listeners)) == before
        assert len(slots) == 1
        assert compiler.apply(whole) == ()
        assert len(slots) == 300


def test_unchanged_snapshot_takes_few_slices() -> None:
    compiler = Compiler(ClusterSlots())
    whole = many(300)
    compiler.apply(whole)
    assert sum(1 for _ in compiler.steps(whole)) <= 4


def test_cluster_for_which_there_is_no_slot_is_rejected_by_name() -> None:
    slots = ClusterSlots(2)
    compiler = Compiler(slots)
    errors = compiler.apply(replace(many(3), listeners=MappingProxyType({})))
    assert [(error.kind, error.resource.split(".")[3]) for error in errors] == [("CDS", "echo-2")]
    assert len(compiler.clusters) == 2


def test_slot_of_a_gone_cluster_is_given_back_when_its_routes_are_replaced() -> None:
    slots = ClusterSlots(16)
    compiler = Compiler(slots)
    compiler.apply(snapshot(cluster(), assignment(("10.0.0.1", 80)), listener(chain())))
    steps = compiler.steps(snapshot(None, None, None))
    assert sum(1 for _ in steps) == 0
    assert not compiler.clusters
    assert len(slots) == 1, "the caller has not published the new routes yet"
    assert sum(1 for _ in compiler.tidy()) >= 1
    assert len(slots) == 0


# ---- endpoints that change by themselves


class Names:
    """Stands for the resolver: endpoints by cluster, as the test sets them."""

    def __init__(self) -> None:
        self.found: dict[int, Assignment] = {}
        self.slots = ClusterSlots(16)
        self.compiler = Compiler(self.slots, resolved=lambda one: self.found.get(id(one)))

    def table_size(self) -> int:
        table = self.compiler.clusters[NAME].table
        return -1 if table is None else len(table)


def dns_cluster(**fields: object) -> Cluster:
    return Cluster(name=NAME, type="STRICT_DNS", dns=DnsSettings(b"", ()), **fields)  # type: ignore[arg-type]


def test_refresh_publishes_one_cluster_with_its_resolved_endpoints() -> None:
    names, one = Names(), dns_cluster()
    assert names.compiler.apply(snapshot(one, None, listener(chain()))) == ()
    assert names.table_size() == -1
    names.found[id(one)] = assignment(("10.0.0.1", 80))
    names.compiler.refresh(NAME)
    before = names.compiler.clusters[NAME].table
    names.compiler.refresh(NAME)
    assert names.compiler.clusters[NAME].table is before
    names.found[id(one)] = assignment(("10.0.0.1", 80), ("10.0.0.2", 80))
    names.compiler.refresh(NAME)
    assert names.table_size() == 2
    assert names.compiler.clusters[NAME].slot == names.slots.acquire(NAME)


def test_refresh_of_an_unknown_cluster_is_nothing() -> None:
    names = Names()
    names.compiler.refresh("gone")
    assert names.compiler.clusters == {}


def test_cluster_under_new_settings_serves_with_the_old_ones_until_it_is_resolved() -> None:
    names, one, other = Names(), dns_cluster(), dns_cluster(connect_timeout_s=1.0)
    names.found[id(one)] = assignment(("10.0.0.1", 80))
    names.compiler.apply(snapshot(one, None, listener(chain())))
    names.compiler.apply(snapshot(other, None, listener(chain())))
    assert names.compiler.clusters[NAME].cluster is one
    assert names.table_size() == 1
    names.found[id(other)] = assignment(("10.0.0.2", 80), ("10.0.0.3", 80))
    names.compiler.refresh(NAME)
    assert names.compiler.clusters[NAME].cluster is other
    assert names.table_size() == 2


def test_resolved_endpoints_that_cannot_be_compiled_leave_the_last_good_ones() -> None:
    names, one = Names(), dns_cluster()
    names.found[id(one)] = assignment(("10.0.0.1", 80))
    names.compiler.apply(snapshot(one, None, listener(chain())))
    names.found[id(one)] = assignment(("10.0.0.2", 80), factor=0)
    names.compiler.refresh(NAME)
    assert names.table_size() == 1
    assert "overprovisioning_factor" in names.compiler.rejected["CDS", NAME]


def test_inline_endpoints_that_cannot_be_compiled_are_the_clusters_fault() -> None:
    static = Cluster(name=NAME, type="STATIC", load_assignment=assignment(("10.0.0.1", 80), factor=0))
    (error,) = Compiler(ClusterSlots(16)).apply(snapshot(static, None, None))
    assert (error.kind, error.resource) == ("CDS", NAME)


# ---- subsets

PROD: Criteria = (("stage", '"prod"'),)
DEV: Criteria = (("stage", '"dev"'),)


def staged(*stages: str) -> Assignment:
    endpoints = [
        {
            "endpoint": {"address": {"socket_address": {"address": f"10.0.0.{number}", "port_value": 80}}},
            "metadata": encode("envoy.config.core.v3.Metadata", {"filter_metadata": {"envoy.lb": {"stage": stage}}}),
        }
        for number, stage in enumerate(stages, 1)
    ]
    message = {"cluster_name": NAME, "endpoints": [{"lb_endpoints": endpoints}]}
    return decode_assignment(encode("envoy.config.endpoint.v3.ClusterLoadAssignment", message))


def cut(**settings: object) -> Cluster:
    return cluster(subsets=Subsets((SubsetSelector(("stage",)),), **settings))  # type: ignore[arg-type]


class Tables:
    """A compiler whose published tables are noted by slot."""

    def __init__(self) -> None:
        self.slots = slots = ClusterSlots(16)
        self.published: dict[int, ClusterTable | None] = {}
        noted = self

        class Noting:
            def __getattr__(self, name: str) -> object:
                return getattr(slots, name)

            def __contains__(self, name: str) -> bool:
                return name in slots

            def publish(self, slot: int, table: ClusterTable | None, **settings: object) -> None:
                noted.published[slot] = table
                slots.publish(slot, table, **settings)  # type: ignore[arg-type]

        self.compiler = Compiler(Noting())  # type: ignore[arg-type]

    def size(self, criteria: Criteria = ()) -> int:
        """Endpoints of the table that these connections get; -1: none is published."""
        name = view_name(NAME, criteria)
        assert name in self.slots
        slot = self.slots.acquire(name)
        self.slots.release(slot)
        table = self.published.get(slot)
        return -1 if table is None else len(table)


def test_routes_get_tables_of_the_subsets_that_they_ask_for() -> None:
    tables, one = Tables(), cut()
    routed = listener(chain(criteria=(PROD,)))
    assert tables.compiler.apply(snapshot(one, staged("prod", "dev", "prod"), routed)) == ()
    assert tables.size(PROD) == 2
    # Without criteria it is the fallback policy, which is none; what is known of the cluster are all its endpoints.
    assert tables.size() == 0
    known = tables.compiler.clusters[NAME].table
    assert known is not None
    assert len(known) == 3
    tables.compiler.apply(snapshot(one, staged("prod"), routed))
    assert tables.size(PROD) == 1


def test_subsets_that_no_route_asks_for_any_more_are_given_back() -> None:
    tables, one, endpoints = Tables(), cut(), staged("prod", "dev")
    tables.compiler.apply(snapshot(one, endpoints, listener(chain(criteria=(PROD,)))))
    tables.compiler.apply(snapshot(one, endpoints, listener(chain(criteria=(DEV,)))))
    assert view_name(NAME, PROD) not in tables.slots
    assert tables.size(DEV) == 1
    tables.compiler.apply(snapshot(None, None, None))
    assert len(tables.slots) == 0


def test_cluster_without_subsets_ignores_criteria() -> None:
    tables = Tables()
    tables.compiler.apply(snapshot(cluster(), staged("prod", "dev"), listener(chain(criteria=(PROD,)))))
    assert tables.size(PROD) == tables.size() == 2


def test_cluster_that_leaves_takes_its_subsets_with_it() -> None:
    tables, routed = Tables(), listener(chain(criteria=(PROD,)))
    tables.compiler.apply(snapshot(cut(), staged("prod"), routed))
    tables.compiler.apply(snapshot(None, None, routed))
    assert tables.size(PROD) == tables.size() == -1
    tables.compiler.apply(snapshot(cut(), staged("prod"), routed))
    assert tables.size(PROD) == 1


def test_subset_shares_the_states_of_its_endpoints() -> None:
    tables = Tables()
    tables.compiler.apply(snapshot(cut(), staged("dev", "prod"), listener(chain(criteria=(PROD,)))))
    known = tables.compiler.clusters[NAME].table
    (subset,) = [table for table in tables.published.values() if table is not None and len(table) == 1]
    assert known is not None
    known.hold(1)
    assert subset.state(0) == known.state(1)
    assert subset.state(0)[0] == 1


def test_all_endpoints_are_tried_when_the_fallback_finds_none() -> None:
    tables = Tables()
    one = cut(fallback_policy="DEFAULT_SUBSET", default_subset=DEV, panic_mode_any=True)
    tables.compiler.apply(snapshot(one, staged("prod", "prod"), listener(chain())))
    assert tables.size() == 2


def test_hashing_clusters_have_their_settings_keys_and_order_of_localities() -> None:
    message = "envoy.config.endpoint.v3.ClusterLoadAssignment"
    localities = []
    for number, zone in enumerate("abc"):
        endpoints = []
        for one in range(2):
            where = {"socket_address": {"address": f"10.0.{number}.{one}", "port_value": 80}}
            said = {"filter_metadata": {"envoy.lb": {"hash_key": f"key-{number}-{one}"}}}
            metadata = encode("envoy.config.core.v3.Metadata", said)
            endpoints.append({"endpoint": {"address": where}, "metadata": metadata})
        localities.append({"locality": {"zone": zone}, "load_balancing_weight": 1 + number, "lb_endpoints": endpoints})
    raw = encode(message, {"cluster_name": NAME, "endpoints": localities})
    hashing = Hashing("MURMUR_HASH_2", 50, 50)
    one = cluster(lb_policy="RING_HASH", hashing=hashing, locality_weighted=True)
    found = []
    for own in (None, Locality("", "b", "")):
        compiler = Compiler(ClusterSlots(16), own_locality=own)
        compiler.apply(snapshot(one, decode_assignment(raw), listener(chain())))
        table = compiler.clusters[NAME].table
        assert table is not None
        expected = ClusterTable.compile(
            decode_assignment(raw).columns,
            policy="RING_HASH",
            hashing=hashing,
            hash_keys=[f"key-{number}-{one}".encode() for number in range(3) for one in range(2)],
            locality_weighted=True,
            own_locality=own,
        )
        assert table.hash_entries() == expected.hash_entries()
        found.append(table.hash_entries())
    # Fractions of entries carry over from one endpoint to the next: the order of localities is in the ring.
    assert found[0] != found[1]


def test_chains_hand_on_that_clients_are_hashed() -> None:
    assert chain_spec(chain(hash_source_ip=True), {NAME: 1}, name="c").hash_source_ip
    assert not chain_spec(chain(), {NAME: 1}, name="c").hash_source_ip


def test_clusters_say_what_panic_refuses() -> None:
    compiler = Compiler(ClusterSlots(16))
    down = replace(columns(("10.0.0.1", 80), ("10.0.0.2", 80)), health=bytes((1, 2)))
    endpoints = replace(assignment(), columns=down)
    compiler.apply(snapshot(cluster(healthy_panic_threshold_percent=60), endpoints, listener(chain())))
    assert "refused_share" not in "".join(clusters_text(compiler.clusters))
    one = cluster(healthy_panic_threshold_percent=60, fail_traffic_on_panic=True)
    compiler.apply(snapshot(one, endpoints, listener(chain())))
    assert cluster_status(NAME, compiler.clusters[NAME])["eastgate_refused_share"] == 1.0
    assert f"{NAME}::refused_share::1.000000\n" in "".join(clusters_text(compiler.clusters))


def zoned_assignment(net: int, here: int, there: int, *, priority: int = 0) -> Assignment:
    """So many endpoints in two zones."""
    made = columns(*((f"10.{net}.0.{number}", 80) for number in range(here + there)))
    localities = tuple(LocalityEntry(Locality("r", zone, ""), priority, 1) for zone in ("a", "b"))
    places = pack(f"={here + there}H", *[0] * here, *[1] * there)
    return replace(
        assignment(),
        columns=replace(made, locality=places, localities=localities, priority=bytes([priority]) * (here + there)),
    )


def zone_snapshot(upstream: Assignment, local: Assignment | None) -> Snapshot:
    both = {NAME: cluster(), **({"proxies": replace(cluster(), name="proxies")} if local else {})}
    return Snapshot(
        clusters=MappingProxyType(both),
        assignments=MappingProxyType({NAME: upstream, **({"proxies": local} if local else {})}),
        listeners=MappingProxyType({"l": listener(chain())}),
    )


def stays(compiler: Compiler, here: int) -> float:
    table = compiler.clusters[NAME].table
    assert table is not None
    return sum(table.shares()[:here])


def test_zones_follow_the_local_cluster() -> None:
    compiler = Compiler(ClusterSlots(16), own_locality=Locality("r", "a", ""), local_cluster="proxies")
    upstream = zoned_assignment(0, 3, 9)
    compiler.apply(zone_snapshot(upstream, None))
    assert stays(compiler, 3) == pytest.approx(0.25)
    compiler.apply(zone_snapshot(upstream, zoned_assignment(1, 2, 2)))
    # A quarter of the cluster for half of the proxies: half of what they have stays.
    assert stays(compiler, 3) == pytest.approx(0.5)
    table = compiler.clusters[NAME].table
    compiler.apply(zone_snapshot(upstream, zoned_assignment(1, 1, 3)))
    assert stays(compiler, 3) == pytest.approx(1.0)
    assert compiler.clusters[NAME].table is not table
    local = zoned_assignment(1, 2, 2)
    compiler.apply(zone_snapshot(upstream, local))
    # A proxy that fails counts no more: one of three is here, and everything stays but a twelfth.
    compiler.health.mark("proxies", key_of(local.columns, 0), Cause.FAILED_OUTLIER_CHECK, True)
    compiler.refresh("proxies")
    assert stays(compiler, 3) == pytest.approx(0.75, abs=0.001)
    compiler.apply(zone_snapshot(upstream, None))
    assert stays(compiler, 3) == pytest.approx(0.25)


def test_the_local_cluster_has_one_priority() -> None:
    compiler = Compiler(ClusterSlots(16), own_locality=Locality("r", "a", ""), local_cluster="proxies")
    (error,) = compiler.apply(zone_snapshot(zoned_assignment(0, 3, 9), zoned_assignment(1, 2, 2, priority=1)))
    assert (error.kind, error.resource) == ("EDS", "proxies")
    assert "another priority than 0" in error.reason
    assert stays(compiler, 3) == pytest.approx(0.25)


OTHER = "outbound_.80_._.other.default.svc.cluster.local"


def two(one: Cluster, routed: Listener, *more: Listener) -> Snapshot:
    """A cluster and one beside it that nothing is wrong with."""
    endpoints = {name: assignment(("10.0.0.1", 80)) for name in (NAME, OTHER)}
    return Snapshot(
        clusters=MappingProxyType({NAME: one, OTHER: Cluster(name=OTHER, type="EDS")}),
        assignments=MappingProxyType(endpoints),
        listeners=MappingProxyType({each.name: each for each in (routed, *more)}),
    )


@pytest.mark.parametrize("connect_timeout_s", [4294968.0, float("inf"), -1.0])
def test_number_that_no_slot_holds_costs_its_cluster_alone(connect_timeout_s: float) -> None:
    slots = ClusterSlots(16)
    compiler = Compiler(slots)
    routed = listener(chain(), chain(OTHER))
    (error,) = compiler.apply(two(cluster(connect_timeout_s=connect_timeout_s), routed))
    assert (error.kind, error.resource) == ("CDS", NAME)
    assert compiler.clusters.keys() == {OTHER}
    good = two(cluster(), routed)
    assert compiler.apply(good) == ()
    table = compiler.clusters[NAME].table
    (error,) = compiler.apply(two(cluster(connect_timeout_s=connect_timeout_s), routed))
    assert error.resource == NAME
    assert compiler.clusters[NAME].table is table
    assert compiler.apply(Snapshot()) == ()
    assert len(slots) == 0


@pytest.mark.parametrize("name", ["a\0b", f"{NAME}\0", f'{NAME}\0[["stage", "1"]]'])
def test_chain_to_a_name_with_a_nul_is_rejected_by_name(name: str) -> None:
    slots = ClusterSlots(16)
    compiler = Compiler(slots)
    bad = replace(listener(chain(name)), name="bad")
    (error,) = compiler.apply(two(cluster(), listener(chain()), bad))
    assert (error.kind, error.resource) == ("LDS", "bad")
    assert "NUL" in error.reason
    assert compiler.listeners.keys() == {"l"}
    compiler.apply(Snapshot())
    assert len(slots) == 0


def test_name_with_a_nul_and_a_server_name_that_is_none_is_rejected_too() -> None:
    compiler = Compiler(ClusterSlots(16))
    twice = listener(chain("a\0b"), chain("a\0b"))
    (error,) = compiler.apply(two(cluster(), twice))
    assert (error.kind, error.resource) == ("LDS", "l")
    assert compiler.clusters.keys() == {NAME, OTHER}


def test_fault_in_one_cluster_costs_no_other_one(monkeypatch: pytest.MonkeyPatch) -> None:
    slots, errors = ClusterSlots(16), ControlErrors()
    compiler = Compiler(slots, errors=errors)
    routed = listener(chain(), chain(OTHER))

    def faulty(one: Cluster, *arguments: Any) -> ClusterTable:
        if one.name == NAME:
            raise LookupError("injected")
        return compile_table(one, *arguments)

    monkeypatch.setattr(cluster_tables, "compile_table", faulty)
    (error,) = compiler.apply(two(cluster(), routed))
    assert (error.kind, error.resource) == ("CDS", NAME)
    assert compiler.clusters.keys() == {OTHER}
    assert match(compiler, OTHER) >= 0
    assert [(fault.part, fault.about) for fault in errors.latest] == [(Part.COMPILE, NAME)]
    monkeypatch.undo()
    assert compiler.apply(two(cluster(lb_policy="RANDOM"), routed)) == ()
    assert compiler.clusters.keys() == {NAME, OTHER}
    compiler.apply(Snapshot())
    assert len(slots) == 0


def test_fault_in_one_listener_costs_no_other_one(monkeypatch: pytest.MonkeyPatch) -> None:
    slots = ClusterSlots(16)
    compiler = Compiler(slots)
    bad = replace(listener(chain(OTHER)), name="bad")

    def faulty(one: FilterChain, names: Any, *, name: str, **more: Any) -> Any:
        if name == OTHER:
            raise LookupError("injected")
        return chain_spec(one, names, name=name, **more)

    monkeypatch.setattr(listener_tables, "chain_spec", faulty)
    (error,) = compiler.apply(two(cluster(), listener(chain()), bad))
    assert (error.kind, error.resource) == ("LDS", "bad")
    assert compiler.listeners.keys() == {"l"}
    assert match(compiler) >= 0
    compiler.apply(Snapshot())
    assert len(slots) == 0


def test_observer_that_stumbles_costs_neither_cluster_nor_other_observers() -> None:
    errors = ControlErrors()
    compiler = Compiler(ClusterSlots(16), errors=errors)
    told: list[str] = []

    def stumble(name: str, _: object) -> None:
        raise LookupError(name)

    compiler.observers += [stumble, lambda name, _: told.append(name)]
    assert compiler.apply(two(cluster(), listener(chain()))) == ()
    assert told == [NAME, OTHER]
    assert errors.counts[Part.PUBLISH] == 2


def test_slots_of_routes_that_were_not_published_are_kept() -> None:
    """As long as old routes lead to a slot, nobody else may have it."""
    slots = ClusterSlots(16)
    compiler = Compiler(slots)
    compiler.apply(snapshot(cluster(), assignment(("10.0.0.1", 80)), listener(chain())))
    finish(compiler.steps(Snapshot()))
    compiler.hold({"l"})
    for _ in compiler.tidy():
        pass
    assert NAME in slots
    compiler.hold(())
    for _ in compiler.tidy():
        pass
    assert NAME not in slots


def test_second_listener_of_an_address_is_rejected_until_the_first_leaves() -> None:
    compiler = Compiler(ClusterSlots(16))
    first = replace(listener(chain()), addresses=(("127.0.0.1", 15443),))
    second = replace(first, name="second")
    pushed = two(cluster(), first, second)
    (error,) = compiler.apply(pushed)
    assert (error.kind, error.resource) == ("LDS", "second")
    assert error.reason == "duplicate address 127.0.0.1:15443: listener l has it"
    assert compiler.listeners.keys() == {"l"}
    assert compiler.apply(pushed) == ()
    assert compiler.apply(replace(pushed, listeners=MappingProxyType({"second": second}))) == ()
    assert compiler.listeners.keys() == {"second"}
