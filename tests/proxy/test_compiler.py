"""Snapshots to published tables: what changes, what stays, and what is rejected by name."""

from types import MappingProxyType

from eastgate.fastpath.cluster_slots import ClusterSlots
from eastgate.fastpath.reason import Reason
from eastgate.proxy.compiler import Compiler
from eastgate.xds.resources import (
    Assignment,
    Cluster,
    FilterChain,
    FilterChainMatch,
    Listener,
    Snapshot,
)

from ..fastpath.loop import columns

NAME = "outbound_.80_._.echo.default.svc.cluster.local"


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
    return compiler.listeners["l"].routes.match(server_name=name, application_protocols=["istio"])


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
    compiler.apply(snapshot(cluster(upstream_tls="ALWAYS"), assignment(("10.0.0.1", 80)), listener(chain())))
    assert "expect TLS" in compiler.clusters[NAME].closed


def test_unserved_server_name_is_refused_by_name() -> None:
    compiler = Compiler(ClusterSlots(16))
    compiler.apply(snapshot(cluster(), assignment(("10.0.0.1", 80)), listener(chain())))
    assert match(compiler, NAME.replace("echo", "nobody")) == -Reason.UNKNOWN_SERVER_NAME
