"""What a store accepted, as a model: equal to what the dump of the same resources reads as."""

from dataclasses import replace

import pytest
from eastgate.insight.cluster_model import ClusterModel, compile_model
from eastgate.insight.read_dump import read_document
from eastgate.insight.snapshot_model import proxy_of
from eastgate.xds.decode import CDS, EDS, LDS
from eastgate.xds.store import Store

from ..support import dumps
from ..support.recordings import recorded, stages
from ..xds import istiod as build


def plain(model: ClusterModel) -> ClusterModel:
    """Without what only a dump has."""
    return replace(model, endpoints=tuple(one._replace(workload=None) for one in model.endpoints))


@pytest.mark.parametrize("role", ["anthos-gateway", "gke-gateway"])
@pytest.mark.parametrize("stage", stages())
def test_recorded_stage_reads_as_its_dump_does(stage: str, role: str) -> None:
    store = Store(router=False)
    for type_url in (CDS, EDS, LDS):
        payloads = recorded(stage, role)[type_url].values()
        assert not store.apply(type_url, "v", [build.packed(type_url, one) for one in payloads]).rejected
    ours, theirs = proxy_of(store.snapshot, "x"), read_document(dumps.recorded_dump(stage, role), "x")
    assert set(ours.clusters) == set(theirs.clusters)
    assert sum(len(one.endpoints) for one in ours.clusters.values()) > 3
    for name, one in ours.clusters.items():
        other = plain(theirs.clusters[name])
        assert (one.endpoints, one.localities) == (other.endpoints, other.localities), name
        if other.type == "EDS":
            assert list(compile_model(one).table.shares()) == list(compile_model(other).table.shares()), name
        assert (one.type, one.policy, one.panic_threshold, one.ejection, one.locality_weighted) == (
            other.type,
            other.policy,
            other.panic_threshold,
            other.ejection,
            other.locality_weighted,
        )
    assert ours.chains == theirs.chains


def test_addresses_of_every_family_and_what_warms() -> None:
    store = Store(router=False)
    name, other = "outbound_.80_._.a.svc", "outbound_.80_._.b.svc"
    store.apply(CDS, "v", [build.packed(CDS, build.cluster(one)) for one in (name, other)])
    pipe = build.field(1, build.field(1, build.field(2, build.field(1, b"/run/a.sock"))))
    members = [build.endpoint("1.2.3.4"), build.endpoint("2001:db8::1", weight=7, health=3, tls_mode="istio"), pipe]
    assignment = build.assignment(name, [build.locality_endpoints("r", members)])
    assert not store.apply(EDS, "v", [build.packed(EDS, assignment)]).rejected
    model = proxy_of(store.snapshot, "x")
    endpoints = model.clusters[name].endpoints
    assert [one.address for one in endpoints] == ["1.2.3.4:8080", "[2001:db8::1]:8080", "/run/a.sock"]
    assert (endpoints[1].weight, endpoints[1].health, endpoints[1].tls_mode) == (7, "DRAINING", True)
    assert (model.clusters[name].warming, model.clusters[other].warming) == (False, True)


def test_rejections_are_told() -> None:
    store = Store()
    store.apply(CDS, "v", [build.packed(CDS, build.cluster("a", connect_timeout="-1s"))])
    (one,) = proxy_of(store.snapshot, "x").rejected
    assert (one.kind, one.name, one.reason) == ("CDS", "a", "connect_timeout is -1s, must be above 0s")
