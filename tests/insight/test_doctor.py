"""What takes more than one cluster, or more than one proxy, to see."""

import inspect
import json
import re
from dataclasses import replace
from typing import Any

import pytest
import yaml
from eastgate.insight import doctor, findings, gateway_rules, routing_rules
from eastgate.insight.cluster_model import NoticeModel, ProxyModel
from eastgate.insight.doctor import RULE_NAMES, examine
from eastgate.insight.read_dump import read_document, read_documents
from eastgate.mesh.istio import TrafficPolicy
from eastgate.mesh.virtual_service import Server

from ..support import dumps

SURE = {"max_ejection_percent": 100}
NODE: dict[str, Any] = {
    "id": "sidecar~10.0.0.9~a.b~c",
    "metadata": {"CLUSTER_ID": "here", "NETWORK": "net"},
    "locality": {"region": "tokyo"},
}
ROUTER = {**NODE, "id": "router~10.0.0.9~a.b~c", "metadata": {**NODE["metadata"], "REQUESTED_NETWORK_VIEW": "net"}}
ROUTE = "ROUTE"
HTTPBIN = "outbound|80||httpbin.default.svc.cluster.local"
ENTRIES = (
    dumps.locality("tokyo", dumps.places(4)),
    dumps.locality("osaka", [dumps.gateway("192.0.2.6:15443"), dumps.gateway("192.0.2.7:15443")], priority=1),
)


def proxy(*, node: Any = None, **rest: Any) -> ProxyModel:
    """A healthy proxy with one cluster, changed by `rest`."""
    return read_document(proxy_dump(node=node, **rest), "test")


def proxy_dump(*, node: Any = None, **rest: Any) -> dict[str, Any]:
    settings = {
        "clusters": [dumps.cluster(outlier=SURE)],
        "assignments": [dumps.assignment(*ENTRIES)],
        "listeners": [listener(dumps.NAME)],
        **rest,
    }
    return dumps.config_dump(**settings, node=node or NODE)


def listener(*clusters: str) -> dict[str, Any]:
    tcp = "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"
    return {
        "name": "0.0.0.0_15443",
        "filter_chains": [
            {
                "filter_chain_match": {"server_names": [name]},
                "filters": [
                    {"name": "istio.stats", "typed_config": {"@type": "stats.PluginConfig"}},
                    {"name": "envoy.filters.network.tcp_proxy", "typed_config": {"@type": tcp, "cluster": name}},
                ],
            }
            for name in clusters
        ],
    }


def rules(*proxies: ProxyModel) -> list[str]:
    return [one.rule for one in examine(proxies)]


def test_names_of_rules_are_listed() -> None:
    """--ignore takes those names: one that the sources yield and the list lacks could not be ignored."""
    yielded = {
        match
        for module in (doctor, findings, gateway_rules, routing_rules)
        for match in re.findall(r"Finding\(\s*\"([a-z-]+)\"", inspect.getsource(module))
    }
    assert yielded == RULE_NAMES


@pytest.mark.acceptance(feature="doctor")
def test_healthy_proxies_have_no_finding() -> None:
    assert rules(proxy()) == []
    assert rules(proxy(node=ROUTER)) == []
    assert rules(proxy(), proxy(node=ROUTER)) == []


def test_router_without_a_network_view() -> None:
    node = {**ROUTER, "metadata": NODE["metadata"]}
    (finding,) = examine([proxy(node=node)])
    assert (finding.rule, finding.cluster) == ("network-view-missing", "")
    assert "NETWORK net, REQUESTED_NETWORK_VIEW empty" in finding.evidence


@pytest.mark.parametrize(
    ("served", "rule", "severity", "now"),
    [(True, "control-plane-away", "warning", 0.0), (False, "never-configured", "error", 1.0)],
)
def test_a_proxy_without_a_control_plane_is_not_called_healthy(
    served: bool, rule: str, severity: str, now: float
) -> None:
    stream = {"connected": False, "last_error": "UNAVAILABLE connection refused"}
    document = proxy_dump() if served else dumps.config_dump([], [], node=NODE)
    pages = [("test", document), ("test", {"stream": stream, "resources": []})]
    (finding,) = examine(read_documents(pages))
    assert (finding.rule, finding.severity, finding.now) == (rule, severity, now)
    assert finding.evidence == "no stream to istiod: UNAVAILABLE connection refused"
    pages[1] = ("test", {"stream": {**stream, "connected": True}, "resources": []})
    assert examine(read_documents(pages)) == ()


def test_chain_that_names_an_unknown_cluster() -> None:
    wrong = dumps.NAME.replace("echo", "ecko")
    (finding,) = examine([proxy(listeners=[listener(dumps.NAME, wrong)])])
    assert (finding.rule, finding.cluster) == ("unknown-cluster", wrong)
    assert f"nearest is {dumps.NAME}" in finding.evidence
    assert finding.evidence.startswith("named by 0.0.0.0_15443 ")


def test_weighted_clusters_of_a_chain_are_looked_up_too() -> None:
    chains = listener("x")
    config = chains["filter_chains"][0]["filters"][1]["typed_config"]
    del config["cluster"]
    config["weighted_clusters"] = {"clusters": [{"name": dumps.NAME, "weight": 1}, {"name": "gone", "weight": 1}]}
    assert [(one.rule, one.cluster) for one in examine([proxy(listeners=[chains])])] == [("unknown-cluster", "gone")]


def test_rejected_and_warming_resources() -> None:
    document = dumps.config_dump([dumps.cluster(outlier=SURE)], [dumps.assignment(*ENTRIES)], node=NODE)
    document["configs"].append(
        {
            "dynamic_warming_clusters": [{"cluster": dumps.cluster("warm")}],
            "dynamic_active_clusters": [
                {"cluster": dumps.cluster(outlier=SURE), "error_state": {"details": "lb_policy X"}}
            ],
        }
    )
    found = examine([read_document(document, "test")])
    assert [(one.rule, one.cluster) for one in found] == [
        ("rejected-resource", dumps.NAME),
        ("warming-cluster", "warm"),
    ]
    assert found[0].evidence == f"CDS {dumps.NAME}: lb_policy X"
    assert "last good version is still in use" in found[0].cause


THERE = {**NODE, "id": "sidecar~10.0.1.9~a.b~c", "metadata": {"CLUSTER_ID": "there", "NETWORK": "other"}}


def one_sided(mine: Any, theirs: Any, *, node: Any = NODE, other: Any = THERE) -> list[tuple[str, str]]:
    """What is found of a client that has these entries of a service of which another cluster's client has those."""
    settings = {"clusters": [dumps.cluster(HTTPBIN, outlier=SURE)], "listeners": [listener(HTTPBIN)]}
    found = examine(
        [
            proxy(node=node, assignments=[dumps.assignment(*mine, name=HTTPBIN)], **settings),
            proxy(node=other, assignments=[dumps.assignment(*theirs, name=HTTPBIN)], **settings),
        ]
    )
    return [(one.rule, one.severity) for one in found]


def pods_of(cluster: str, *, tls: bool = True) -> Any:
    return dumps.locality(cluster, [dumps.endpoint("10.7.0.1:80", workload=f"pod;ns;app;;{cluster}", tls=tls)])


def way_to(cluster: str, priority: int = 1) -> Any:
    ways = [dumps.gateway(f"192.0.2.{number}:15443", cluster=cluster) for number in (6, 7)]
    return dumps.locality(cluster, ways, priority=priority)


@pytest.mark.acceptance(feature="doctor")
def test_service_of_which_one_side_alone_has_the_others_pods() -> None:
    """Its istiod lacks the other's remote secret."""
    both = [pods_of("there"), way_to("here")]
    assert one_sided([pods_of("here")], both) == [("no-remote-member", "error")]
    assert one_sided([pods_of("here"), way_to("there")], both) == []


@pytest.mark.parametrize(
    "theirs",
    [
        # A service of one cluster alone, and one that is clusterLocal.
        [way_to("here", 0)],
        [pods_of("there")],
        # Not reachable through a gateway in any case.
        [pods_of("there", tls=False), way_to("here")],
    ],
)
def test_service_that_both_sides_see_alike(theirs: Any) -> None:
    assert one_sided([pods_of("here")], theirs) == []


def test_gateway_rightly_has_its_own_network_alone() -> None:
    router = {**ROUTER, "metadata": {**ROUTER["metadata"], "CLUSTER_ID": "here"}}
    found = one_sided([pods_of("here")], [pods_of("there"), way_to("here")], node=router)
    assert "no-remote-member" not in dict(found)


def test_service_whose_remote_pods_a_rule_took_away() -> None:
    """A distribute rule leaves the locality and its weight: that is said, and no secret is missing."""
    mine = [pods_of("here"), dumps.locality("there", [], weight=2)]
    found = one_sided(mine, [pods_of("there"), way_to("here")])
    assert "no-remote-member" not in dict(found)
    assert "partial-distribute" in dict(found)


def test_clusters_that_no_route_leads_to_are_not_examined() -> None:
    """Routes lead to subsets alone: what the service itself lacks concerns nobody."""
    subset = dumps.NAME.replace("||", "|v1|")
    clusters = [dumps.cluster(outlier={}), dumps.cluster(subset, outlier=SURE)]
    held = [dumps.assignment(*ENTRIES, name=name) for name in (dumps.NAME, subset)]
    hosts = [{"name": "echo:80", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": ROUTE}}]}]

    def found(target: str) -> list[str]:
        routes = json.loads(json.dumps([{"name": "80", "virtual_hosts": hosts}]).replace(ROUTE, target))
        document = dumps.config_dump(clusters, held, routes=routes, node=NODE)
        return rules(read_document(document, "test"))

    assert found(subset) == []
    assert found(dumps.NAME) == ["never-ejected"]


def test_gateways_copy_of_a_service_is_not_reported_twice() -> None:
    twin = "outbound_.80_._.echo.default.svc.cluster.local"
    pods = dumps.locality("tokyo", dumps.places(2))
    found = examine(
        [
            proxy(
                node=ROUTER,
                clusters=[dumps.cluster(name, outlier={}) for name in (dumps.NAME, twin)],
                assignments=[dumps.assignment(pods, name=name) for name in (dumps.NAME, twin)],
            )
        ]
    )
    assert [(one.rule, one.cluster) for one in found] == [("never-ejected", twin)]


# Stage 3: one of two anthos pods is not ready; stage 4: both. For gke's clients the gateway keeps its weight of 2.
@pytest.mark.parametrize(
    ("stage", "severity", "evidence"),
    [
        ("3-one-not-ready", "warning", "behind it 1 of 2 by weight are healthy"),
        ("4-none-ready", "error", "behind it 0 of 2 by weight are healthy"),
    ],
)
def test_recorded_gateway_weight_counts_pods_that_are_not_ready(stage: str, severity: str, evidence: str) -> None:
    client = read_document(dumps.recorded_dump(stage, "gke-sidecar"), "client")
    remote = read_document(dumps.recorded_dump(stage, "anthos-gateway"), "gateway")
    assert "remote-weight-counts-unready" not in rules(client)
    found = [one for one in examine([client, remote]) if one.rule == "remote-weight-counts-unready"]
    assert {one.cluster for one in found} == {
        "outbound|80||echo-svc.default.svc.cluster.local",
        "outbound|80||echo-tcp.default.svc.cluster.local",
    }
    for one in found:
        assert one.severity == severity
        assert "172.16.10.152:15443 (cluster anthos) has weight 2 and health UNKNOWN" in one.evidence
        assert evidence in one.evidence


@pytest.mark.parametrize("stage", ["2-failover", "14-hide-unhealthy-one"])
def test_recorded_gateway_weight_that_is_right(stage: str) -> None:
    client = read_document(dumps.recorded_dump(stage, "gke-sidecar"), "client")
    remote = read_document(dumps.recorded_dump(stage, "anthos-gateway"), "gateway")
    assert "remote-weight-counts-unready" not in rules(client, remote)


@pytest.mark.parametrize("role", ["anthos-gateway", "gke-gateway"])
def test_recorded_gateway_has_nothing_wrong_but_its_ejections(role: str) -> None:
    found = rules(read_document(dumps.recorded_dump("2-failover", role), "recorded"))
    assert set(found) == {"never-ejected"}


# All pods ready, and the rules the same on both sides. They are no healthy meshes all the same, and doctor is right:
# nobody gave httpbin a rule, and so part of its connections crosses networks all the time and never fails over; the
# rule of echo leaves maxEjectionPercent at 10, which ejects none of three endpoints; and stages without a rule for echo
# treat it as httpbin. In stage 9 routes of HTTP lead to subsets, and raw bytes to echo-svc itself.
ECHOES = ("echo-svc.default", "echo-tcp.default")
NO_RULE = {("no-outlier-detection", name) for name in (*ECHOES, "httpbin-svc.sleep")}
RULE = {("no-outlier-detection", "httpbin-svc.sleep"), *(("never-ejected", name) for name in ECHOES)}
SUBSETS = {("no-outlier-detection", name) for name in ("echo-svc.default", "httpbin-svc.sleep")}
STAGES = {
    "1-default": NO_RULE,
    "2-failover": RULE,
    "2-delta": RULE,
    "5-ready-again": RULE,
    "6-failover-priority": RULE,
    "8-cluster-local": {("no-outlier-detection", "httpbin-svc.sleep")},
    "9-subsets": SUBSETS,
    "11-strict-authz": NO_RULE,
    "12-no-exchange-alpn": NO_RULE,
    "13-stock-envoy": RULE,
}


@pytest.mark.parametrize("stage", STAGES)
def test_recorded_stages_with_ready_pods_have_what_their_rules_leave_undone(stage: str) -> None:
    folder = dumps.FOLDER / stage
    roles = sorted(path.name for path in folder.iterdir() if (path / "eds.json").exists())
    proxies = [read_document(dumps.recorded_dump(stage, role), role) for role in roles]
    assert len(proxies) >= 4
    short = re.compile(r"[|.]([\w-]+\.\w+)\.svc\.cluster\.local$")
    found = {(one.rule, short.findall(one.cluster)[0]) for one in examine(proxies)}
    assert found == STAGES[stage]


def healed(document: Any) -> Any:
    """A dump whose clusters have outlier detection that may go on to the last endpoint."""
    for section in document["configs"]:
        for entry in section.get("dynamic_active_clusters", ()):
            if entry["cluster"]["name"].startswith("outbound"):
                entry["cluster"]["outlier_detection"] = SURE
    return document


@pytest.mark.parametrize("stage", ["2-failover", "2-delta", "5-ready-again", "6-failover-priority", "13-stock-envoy"])
def test_recorded_stages_with_a_whole_rule_have_nothing(stage: str) -> None:
    """All but httpbin, which would still lack priorities."""
    roles = sorted(path.name for path in (dumps.FOLDER / stage).iterdir() if (path / "eds.json").exists())
    found = examine([read_document(healed(dumps.recorded_dump(stage, role)), role) for role in roles])
    assert [(one.rule, one.evidence) for one in found if "httpbin" not in one.cluster] == []


def test_recorded_rule_for_one_side_leaves_the_other_without_priorities() -> None:
    """Stage 7 has a distribute rule for clients in tokyo-onprem alone."""
    left = {"never-ejected", "no-outlier-detection"}
    for role, expected in (("gke-sidecar", {"one-priority"}), ("anthos-sidecar", set())):
        found = set(rules(read_document(dumps.recorded_dump("7-distribute", role), role)))
        assert found == left | expected


def test_the_same_in_several_proxies_is_found_once_and_worth_its_part() -> None:
    broken = proxy(clusters=[dumps.cluster(outlier={})], listeners=[listener(dumps.NAME)])
    (both,) = examine([replace(broken, source="a"), replace(broken, source="b"), replace(proxy(), source="c")])
    assert (both.rule, both.proxies) == ("never-ejected", ("a", "b"))
    assert (both.now, both.reached) == (0.0, pytest.approx(2 / 3))


def test_findings_are_ranked_by_traffic_at_risk() -> None:
    """Two broken services: the one with more connections comes first."""
    names = [f"outbound|80||{name}.default.svc.cluster.local" for name in ("quiet", "busy")]
    down = dumps.locality("tokyo", dumps.places(2, unhealthy=2))
    document = dumps.config_dump(
        [dumps.cluster(name, outlier=SURE) for name in names],
        [dumps.assignment(down, name=name) for name in names],
        listeners=[listener(*names)],
        node=NODE,
    )
    counted = {"cluster_statuses": [{"name": names[1], "host_statuses": [
        {"address": {"socket_address": {"address": "10.0.0.0", "port_value": 8080}}, "health_status":
         {"eds_health_status": "UNHEALTHY"}, "stats": [{"name": "cx_total", "value": "96"}]}]}]}  # fmt: skip
    found = examine(read_documents([("x", document), ("y", counted)]))
    # (96 + 1) / (96 + 2 clusters), and (0 + 1) / 98.
    assert [(one.cluster, one.rule, one.now) for one in found if one.rule == "none-healthy"] == [
        (names[1], "none-healthy", pytest.approx(97 / 98)),
        (names[0], "none-healthy", pytest.approx(1 / 98)),
    ]


@pytest.mark.parametrize(
    "text", [findings.EJECT, findings.EJECT_ALL, findings.NO_PANIC, findings.MUTUAL, findings.LOCALITY_ON]
)
def test_yaml_for_a_destination_rule_is_what_istio_knows(text: str) -> None:
    policy = yaml.safe_load(text)["spec"]["trafficPolicy"]
    TrafficPolicy.model_validate(policy)
    assert TrafficPolicy.model_validate(policy).model_dump(by_alias=True, exclude_unset=True) == policy


def test_yaml_of_other_kinds_parses() -> None:
    (server,) = yaml.safe_load(gateway_rules.ALL_HOSTS)["spec"]["servers"]
    Server.model_validate(server)
    (finding,) = examine([proxy(node={**ROUTER, "metadata": NODE["metadata"]})])
    assert yaml.safe_load(finding.yaml) == {"env": [{"name": "ISTIO_META_REQUESTED_NETWORK_VIEW", "value": "net"}]}


def test_connections_that_wait_for_a_certificate_are_not_blamed_on_istiods_resources() -> None:
    said = [
        NoticeModel("CDS", "a", "refused", "secret default has not arrived"),
        NoticeModel("LDS", "l", "refused", "filter x is not known"),
    ]
    proxy = ProxyModel("p", {}, notices=tuple(said))
    found = {one.cluster: one for one in examine([proxy]) if one.rule == "connections-refused"}
    waiting, unknown = found["a"], found[""]
    assert waiting.cause.startswith("eastgate has no certificate")
    assert "--sds-socket, --ca-address or --workload-cert" in waiting.fix
    assert "EnvoyFilter" in unknown.fix
