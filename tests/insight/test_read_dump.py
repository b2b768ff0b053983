"""Models out of dumps of real Envoys, of eastgate's own admin, and of the two pages joined."""

import json
from typing import Any

import pytest
from eastgate.insight.cluster_model import ClusterModel, Ejection, ProxyModel, compile_model
from eastgate.insight.explain import explain
from eastgate.insight.read_dump import DumpShapeError, read_document, read_documents
from eastgate.proxy.admin.config_dump import Query, chunks
from eastgate.xds.message import read
from eastgate.xds.resources import Hashing, Locality
from eastgate.xds.store import Store

from ..support import dumps

ECHO = "outbound|80||echo-tcp.default.svc.cluster.local"


def page(role: str, name: str) -> Any:
    return json.loads((dumps.ENVOY / role / f"{name}.json").read_text())


@pytest.fixture
def sidecar() -> ProxyModel:
    return read_document(page("anthos-sidecar", "config_dump"), "dump")


def test_settings_of_a_recorded_envoy(sidecar: ProxyModel) -> None:
    echo = sidecar.clusters[ECHO]
    assert (echo.type, echo.policy, echo.panic_threshold, echo.locality_weighted) == ("EDS", "ROUND_ROBIN", 0, True)
    assert echo.ejection == Ejection(10)
    assert [(one.address, one.priority, one.weight, one.tls_mode, one.cluster_id) for one in echo.endpoints] == [
        ("10.10.2.59:8080", 0, 1, True, "anthos"),
        ("10.10.3.80:8080", 0, 1, True, "anthos"),
        ("10.100.10.6:15443", 1, 2, True, "gke"),
    ]
    assert [one.address for one in echo.gateways()] == ["10.100.10.6:15443"]
    assert sidecar.node is not None
    assert (sidecar.node.type, sidecar.node.cluster_id, sidecar.node.network) == ("sidecar", "anthos", "default")


def test_gateways_own_service_is_no_way_to_another_network(sidecar: ProxyModel) -> None:
    own = sidecar.clusters["outbound|15443||istio-eastwestgateway.gateway.svc.cluster.local"]
    assert [one.port for one in own.endpoints] == [15443]
    assert list(own.gateways()) == []


def test_names_of_services_are_taken_apart() -> None:
    names = {
        "outbound|80|v1|a.b.svc": ("80", "v1", "a.b.svc"),
        "outbound|80||a.b.svc": ("80", "", "a.b.svc"),
        "outbound_.80_.v1_.a.b.svc": ("80", "v1", "a.b.svc"),
        "outbound_.80_._.a.b.svc": ("80", "", "a.b.svc"),
        "inbound|8080||": ("8080", "", ""),
        "xds-grpc": ("", "", ""),
    }
    assert {name: ClusterModel(name).service for name in names} == names


def test_clusters_alone_lack_the_settings() -> None:
    proxy = read_document(page("anthos-sidecar", "clusters"), "clusters")
    assert not proxy.clusters[ECHO].configured
    assert [one.tls_mode for one in proxy.clusters[ECHO].endpoints] == [None] * 3
    assert [one.address for one in proxy.clusters[ECHO].gateways()] == ["10.100.10.6:15443"]


@pytest.mark.parametrize("order", [("config_dump", "clusters"), ("clusters", "config_dump")])
def test_joined_pages_have_settings_and_ejections(order: tuple[str, str]) -> None:
    pages = {name: page("anthos-sidecar", name) for name in order}
    for status in pages["clusters"]["cluster_statuses"]:
        if status["name"] == ECHO:
            status["host_statuses"][0]["health_status"]["failed_outlier_check"] = True
    # Envoy's config_dump shows the outcome only: an ejected endpoint is UNHEALTHY there.
    (proxy,) = read_documents([(name, pages[name]) for name in order])
    echo = proxy.clusters[ECHO]
    assert echo.locality_weighted
    assert [(one.state, one.tls_mode) for one in echo.endpoints] == [
        ("EJECTED", True),
        ("HEALTHY", True),
        ("HEALTHY", True),
    ]
    assert list(compile_model(echo).table.shares()) == pytest.approx([0.0, 0.7, 0.3])


def test_clusters_fill_in_for_a_config_dump_without_eds() -> None:
    document = page("anthos-sidecar", "config_dump")
    document["configs"] = [one for one in document["configs"] if not one["@type"].endswith("EndpointsConfigDump")]
    (proxy,) = read_documents([("a", document), ("b", page("anthos-sidecar", "clusters"))])
    assert list(compile_model(proxy.clusters[ECHO]).table.shares()) == [0.5, 0.5, 0.0]


@pytest.mark.parametrize("extension", [False, True])
def test_addresses_of_a_dns_cluster_come_from_the_running_proxy(extension: bool) -> None:
    inline = {"endpoints": [{"lb_endpoints": [dumps.endpoint("a.example:80")]}]}
    configured = {**dumps.cluster("c", kind="STRICT_DNS"), "load_assignment": inline}
    if extension:
        config = {"@type": "type.googleapis.com/envoy.extensions.clusters.dns.v3.DnsCluster"}
        configured["cluster_type"] = {"name": "envoy.clusters.dns", "typed_config": config}
        del configured["type"]
    hosts = [
        {"address": {"socket_address": {"address": f"10.0.0.{number}", "port_value": 80}}, "weight": 1}
        for number in (1, 2)
    ]
    live = {"cluster_statuses": [{"name": "c", "host_statuses": hosts}]}
    dump = dumps.config_dump([configured], [])
    (named,) = read_documents([("a", dump)])
    assert [one.address for one in named.clusters["c"].endpoints] == ["a.example:80"]
    assert "each name counts as one endpoint" in explain(compile_model(named.clusters["c"])).notes[0]
    (proxy,) = read_documents([("a", dump), ("b", live)])
    assert proxy.clusters["c"].type == "STRICT_DNS"
    assert [one.address for one in proxy.clusters["c"].endpoints] == ["10.0.0.1:80", "10.0.0.2:80"]
    assert explain(compile_model(proxy.clusters["c"])).notes == ()


def test_other_cluster_extensions_keep_their_name() -> None:
    configured = {**dumps.cluster("c"), "cluster_type": {"name": "envoy.clusters.aggregate"}}
    (proxy,) = read_documents([("a", dumps.config_dump([configured], []))])
    assert proxy.clusters["c"].type == "envoy.clusters.aggregate"


def test_two_config_dumps_are_two_proxies() -> None:
    found = read_documents(
        [
            ("1", page("anthos-sidecar", "config_dump")),
            ("2", page("anthos-sidecar", "clusters")),
            ("3", page("gke-gateway", "config_dump")),
            ("4", page("gke-gateway", "clusters")),
        ]
    )
    assert [(one.source, one.node.type) for one in found if one.node] == [
        ("1 and 2", "sidecar"),
        ("3 and 4", "router"),
    ]


@pytest.mark.parametrize("stage", ["3-one-not-ready", "7-distribute", "10-min-health-percent"])
async def test_own_dump_gives_the_model_that_envoys_gives(stage: str) -> None:
    store = Store(router=False)
    for kind in ("cds", "eds", "lds"):
        message = read(
            "envoy.service.discovery.v3.DiscoveryResponse",
            (dumps.FOLDER / stage / "anthos-sidecar" / f"{kind}.pb").read_bytes(),
        )
        store.apply(message["type_url"], message["version_info"], message["resources"])
    pieces = [piece async for piece in chunks(store.snapshot, {"node": {}}, Query.parse({"include_eds": ""}))]
    ours = read_document(json.loads(b"".join(pieces)), "own").clusters
    theirs = read_document(dumps.recorded_dump(stage, "anthos-sidecar"), "recorded").clusters
    for name, cluster in theirs.items():
        assert ours[name].panic_threshold == cluster.panic_threshold
        assert (ours[name].policy, ours[name].ejection) == (cluster.policy, cluster.ejection)
        assert (ours[name].type, ours[name].localities) == (cluster.type, cluster.localities)
        if cluster.policy in ("ROUND_ROBIN", "LEAST_REQUEST"):
            assert list(compile_model(ours[name]).table.shares()) == list(compile_model(cluster).table.shares())


def test_camel_case_is_read_as_well() -> None:
    document = {
        "configs": [
            {
                "dynamicActiveClusters": [
                    {
                        "cluster": {
                            "name": "c",
                            "lbPolicy": "LEAST_REQUEST",
                            "commonLbConfig": {
                                "healthyPanicThreshold": {"value": 29.5},
                                "localityWeightedLbConfig": {},
                            },
                            "outlierDetection": {"maxEjectionPercent": 40},
                        }
                    }
                ],
                "dynamicEndpointConfigs": [
                    {
                        "endpointConfig": {
                            "clusterName": "c",
                            "endpoints": [
                                {
                                    "locality": {"region": "r", "subZone": "s"},
                                    "loadBalancingWeight": {"value": 7},
                                    "lbEndpoints": [
                                        {
                                            "endpoint": {
                                                "address": {"socketAddress": {"address": "::1", "portValue": 80}}
                                            },
                                            "healthStatus": "DRAINING",
                                            "loadBalancingWeight": 3,
                                        }
                                    ],
                                }
                            ],
                        }
                    }
                ],
            }
        ]
    }
    cluster = read_document(document, "test").clusters["c"]
    # Envoy takes the whole part.
    assert (cluster.policy, cluster.panic_threshold, cluster.locality_weighted) == ("LEAST_REQUEST", 29, True)
    assert cluster.ejection == Ejection(40)
    (one,) = cluster.endpoints
    assert (one.address, one.weight, one.health, one.locality) == ("[::1]:80", 3, "DRAINING", Locality("r", "", "s"))
    assert (one.host, one.port) == ("::1", 80)
    assert cluster.localities[0].weight == 7


def test_load_balancing_policy_wins_over_lb_policy() -> None:
    extension = "type.googleapis.com/envoy.extensions.load_balancing_policies.least_request.v3.LeastRequest"
    cluster = {
        **dumps.cluster(policy="RANDOM", weighted=False),
        "load_balancing_policy": {
            "policies": [
                {
                    "typed_extension_config": {
                        "typed_config": {
                            "@type": extension,
                            "choice_count": 5,
                            "locality_lb_config": {"locality_weighted_lb_config": {}},
                        }
                    }
                }
            ]
        },
    }
    found = read_document(dumps.config_dump([cluster], []), "test").clusters[dumps.NAME]
    assert (found.policy, found.choice_count, found.locality_weighted) == ("LEAST_REQUEST", 5, True)


def test_rejected_and_warming_resources_are_kept() -> None:
    document = dumps.config_dump([], [])
    document["configs"].append(
        {
            "dynamic_warming_clusters": [
                {"cluster": dumps.cluster("warm"), "error_state": {"details": "no eds_cluster_config"}}
            ]
        }
    )
    proxy = read_document(document, "test")
    assert proxy.clusters["warm"].warming
    assert [(one.kind, one.name, one.reason) for one in proxy.rejected] == [("CDS", "warm", "no eds_cluster_config")]


@pytest.mark.parametrize(
    "document",
    [
        7,
        [],
        {},
        {"configs": 3},
        {"configs": [{"dynamic_endpoint_configs": [{"endpoint_config": {"endpoints": [{"lb_endpoints": [{}]}]}}]}]},
        {"cluster_statuses": [{}]},
        {"cluster_statuses": [{"name": "c", "host_statuses": [{"weight": "heavy"}]}]},
    ],
)
def test_other_documents_are_refused_by_name(document: Any) -> None:
    with pytest.raises(DumpShapeError, match="somewhere"):
        read_document(document, "somewhere")


def live_host(address: str, **health: object) -> dict[str, Any]:
    host, _, port = address.rpartition(":")
    where = {"socket_address": {"address": host, "port_value": int(port)}}
    return {"address": where, "weight": 1, "health_status": {"eds_health_status": "HEALTHY", **health}}


def test_active_checks_are_read_from_the_running_proxy() -> None:
    dump = dumps.config_dump([dumps.cluster("c")], [dumps.assignment(dumps.locality("a", dumps.places(2)), name="c")])
    hosts = [
        live_host("10.0.0.0:8080", failed_active_health_check=True),
        live_host("10.0.0.1:8080", failed_active_health_check=True, pending_active_hc=True),
        live_host("10.0.0.9:8080", pending_dynamic_removal=True),
    ]
    (proxy,) = read_documents([("a", dump), ("b", {"cluster_statuses": [{"name": "c", "host_statuses": hosts}]})])
    found = proxy.clusters["c"]
    # One that only its checks keep is in no assignment, and takes part all the same.
    assert [(one.address, one.state) for one in found.endpoints] == [
        ("10.0.0.0:8080", "FAILED_CHECK"),
        ("10.0.0.1:8080", "FAILED_CHECK"),
        ("10.0.0.9:8080", "HEALTHY"),
    ]
    # (total, healthy, degraded, excluded): the one that waits for its first check does not count.
    assert compile_model(found).table.priorities()[0][:4] == (3, 1, 0, 1)
    assert list(compile_model(found).table.shares()) == [0.0, 0.0, 1.0]


@pytest.mark.parametrize("fallback", ["", "DEFAULT_SUBSET"])
def test_subsets_have_shares_of_their_own(fallback: str) -> None:
    config = {"subset_selectors": [{"keys": ["stage"]}], **({"fallback_policy": fallback} if fallback else {})}
    configured = {**dumps.cluster("c"), "lb_subset_config": config}
    (proxy,) = read_documents([("a", dumps.config_dump([configured], []))])
    assert proxy.clusters["c"].subset_fallback == (fallback or "NO_FALLBACK")
    with pytest.raises(ValueError, match="depends on the metadata_match of its route"):
        compile_model(proxy.clusters["c"])


def test_subsets_with_any_endpoint_as_fallback_are_explained_with_a_note() -> None:
    config = {"subset_selectors": [{"keys": ["stage"]}], "fallback_policy": "ANY_ENDPOINT"}
    configured = {**dumps.cluster("c"), "lb_subset_config": config}
    entry = dumps.assignment(dumps.locality("a", dumps.places(2)), name="c")
    (proxy,) = read_documents([("a", dumps.config_dump([configured], [entry]))])
    assert "connections without metadata_match" in explain(compile_model(proxy.clusters["c"])).notes[0]
    # Without selectors, or with load_balancing_policy, there are no subsets.
    for more in ({"lb_subset_config": {}}, {"load_balancing_policy": {"policies": []}}):
        (proxy,) = read_documents([("a", dumps.config_dump([{**configured, **more}], [entry]))])
        assert proxy.clusters["c"].subset_fallback == ""


def test_settings_of_hashing_policies_are_read_in_either_form() -> None:
    named = {**dumps.endpoint("10.0.0.1:80"), "metadata": {"filter_metadata": {"envoy.lb": {"hash_key": "key"}}}}
    other = dumps.endpoint("10.0.0.2:80")
    other["endpoint"]["hostname"] = "name"
    assigned = dumps.assignment(dumps.locality("a", [named, other]))
    cluster = {**dumps.cluster(policy="RING_HASH"), "ring_hash_lb_config": {"minimum_ring_size": "7"}}
    cluster["common_lb_config"]["consistent_hashing_lb_config"] = {"hash_balance_factor": 150}
    node = {"id": "router~1.1.1.1~a.b~c", "locality": {"region": "r", "zone": "z"}}
    found = read_document(dumps.config_dump([cluster], [assigned], node=node), "x").clusters[dumps.NAME]
    assert found.hashing == Hashing(minimum_ring_size=7, balance_factor=150)
    assert (found.locality_weighted, found.own_locality) == (True, Locality("r", "z"))
    assert [one.hash_key for one in found.endpoints] == ["key", ""]
    extension = "type.googleapis.com/envoy.extensions.load_balancing_policies.maglev.v3.Maglev"
    config = {
        "@type": extension,
        "tableSize": 251,
        "consistentHashingLbConfig": {"useHostnameForHashing": True},
        "localityWeightedLbConfig": {},
    }
    cluster = {
        **dumps.cluster(weighted=False),
        "loadBalancingPolicy": {"policies": [{"typedExtensionConfig": {"typedConfig": config}}]},
    }
    found = read_document(dumps.config_dump([cluster], [assigned]), "x").clusters[dumps.NAME]
    assert (found.policy, found.hashing) == ("MAGLEV", Hashing(table_size=251, use_hostname=True))
    assert (found.locality_weighted, found.own_locality) == (True, None)
    assert [one.hash_key for one in found.endpoints] == ["key", "name"]
