"""Every recorded resource, decoded, against the JSON that was written beside its bytes; and the recorded pushes."""

import json
import re
import socket
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from eastgate.xds.assignment import decode_assignment as inline_assignment
from eastgate.xds.bind_config import Bind, SourceAddress
from eastgate.xds.decode import CDS, EDS, LDS, RDS, decode_assignment, decode_cluster, decode_listener, decode_route
from eastgate.xds.message import read
from eastgate.xds.node import NodeIdentity
from eastgate.xds.resources import CircuitBreakers, Cluster, FilterChain, Listener, Locality, OutlierDetection
from eastgate.xds.route import Route, RouteConfiguration, RouteMatch, VirtualHost
from eastgate.xds.store import Store
from eastgate.xds.tls_records import PLAIN, NameMatch, SecretRef, TlsSettings, UpstreamTls

from ..xds.rows import Row, rows_of

RECORDINGS = Path(__file__).parents[1] / "data" / "recordings"
SETS = sorted(path.parent for path in RECORDINGS.glob("[0-9]*/*/cds.pb"))
SOTW = [path for path in SETS if path.parent.name != "2-delta"]
HEALTH = ("UNKNOWN", "HEALTHY", "UNHEALTHY", "DRAINING", "TIMEOUT", "DEGRADED")
# Of a STATIC cluster without load_assignment.
NOBODY = inline_assignment(b"", "CDS", "")
TCP_PROXY = "envoy.filters.network.tcp_proxy"
MANAGER = "envoy.filters.network.http_connection_manager"
SERVED = {"istio.stats", "istio.metadata_exchange", "envoy.filters.network.rbac", TCP_PROXY, MANAGER}


def label(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def test_all_recordings_are_here() -> None:
    # 16 stages with four roles, and sidecar-echo in four of them.
    assert len(SETS) == 16 * 4 + 4 * 2


@cache
def recorded(path: Path, kind: str) -> list[tuple[bytes, dict[str, Any]]]:
    """Payload and JSON of each resource of a response."""
    data = (path / f"{kind}.pb").read_bytes()
    written = json.loads((path / f"{kind}.json").read_text())["resources"]
    if path.parent.name == "2-delta":
        with warnings.catch_warnings():
            # The package's classes use a deprecated form of pydantic's validators.
            warnings.simplefilter("ignore")
            from envoy_data_plane.envoy.service.discovery.v3 import DeltaDiscoveryResponse
        payloads = [one.resource.value for one in DeltaDiscoveryResponse.parse(data).resources]
        return list(zip(payloads, [one["resource"] for one in written], strict=True))
    resources = read("envoy.service.discovery.v3.DiscoveryResponse", data).get("resources", [])
    payloads = [read("google.protobuf.Any", resource)["value"] for resource in resources]
    return list(zip(payloads, written, strict=True))


def duration_s(text: str | None, default: float) -> float:
    return default if text is None else float(text.removesuffix("s"))


def fetch_timeout_s(one: dict[str, Any]) -> float:
    if one.get("type") != "EDS":
        return 0.0
    return duration_s(one["eds_cluster_config"]["eds_config"].get("initial_fetch_timeout"), 15.0)


def expected_bind(source_address: dict[str, Any]) -> Bind:
    return Bind((SourceAddress(socket.inet_aton(source_address["address"]), source_address["port_value"]),))


def expected_cluster(one: dict[str, Any]) -> Cluster:
    common = one.get("common_lb_config", {})
    threshold = common.get("healthy_panic_threshold")
    outlier = one.get("outlier_detection")
    thresholds = one.get("circuit_breakers", {}).get("thresholds", [])
    bind = one.get("upstream_bind_config")
    return Cluster(
        name=one["name"],
        type=one["type"],
        eds_service_name=one.get("eds_cluster_config", {}).get("service_name", ""),
        initial_fetch_timeout_s=fetch_timeout_s(one),
        connect_timeout_s=duration_s(one.get("connect_timeout"), 5.0),
        lb_policy=one.get("lb_policy", "ROUND_ROBIN"),
        healthy_panic_threshold_percent=50 if threshold is None else int(threshold.get("value", 0)),
        locality_weighted="locality_weighted_lb_config" in common,
        circuit_breakers=CircuitBreakers(thresholds[0]["max_connections"], thresholds[0]["max_pending_requests"])
        if thresholds
        else CircuitBreakers(),
        outlier_detection=None
        if outlier is None
        else OutlierDetection(
            consecutive_5xx=outlier["consecutive_5xx"],
            interval_s=duration_s(outlier["interval"], 10.0),
            base_ejection_time_s=duration_s(outlier["base_ejection_time"], 30.0),
            enforcing_consecutive_5xx=outlier["enforcing_consecutive_5xx"],
            enforcing_success_rate=outlier["enforcing_success_rate"],
        ),
        load_assignment=NOBODY if one["type"] == "STATIC" else None,
        bind=None if bind is None else expected_bind(**bind),
        alt_stat_name=one["alt_stat_name"],
        secrets=(SecretRef("default", "cluster:sds-grpc"), SecretRef("ROOTCA", "cluster:sds-grpc"))
        if "transport_socket_matches" in one
        else (),
        upstream_tls=expected_tls(one),
    )


def expected_tls(one: dict[str, Any]) -> UpstreamTls:
    if "transport_socket_matches" not in one:
        return PLAIN
    mesh, others = one["transport_socket_matches"]
    assert (mesh["match"], others.get("match", {})) == ({"tlsMode": "istio"}, {})
    assert others["transport_socket"]["name"] == "envoy.transport_sockets.raw_buffer"
    context = mesh["transport_socket"]["typed_config"]
    common = context["common_tls_context"]
    accepted = common["combined_validation_context"].get("default_validation_context", {})
    settings = TlsSettings(
        is_server=False,
        certificate=SecretRef("default", "cluster:sds-grpc"),
        roots=SecretRef("ROOTCA", "cluster:sds-grpc"),
        names=tuple(NameMatch("exact", name["exact"]) for name in accepted.get("match_subject_alt_names", ())),
        protocols=tuple(common["alpn_protocols"]),
        server_name=context["sni"],
    )
    return UpstreamTls(mesh=settings)


def expected_rows(one: dict[str, Any]) -> list[Row]:
    rows = []
    for entry in one.get("endpoints", []):
        place = Locality(*(entry.get("locality", {}).get(name, "") for name in Locality._fields))
        for endpoint in entry.get("lb_endpoints", []):
            address = endpoint["endpoint"]["address"]["socket_address"]
            metadata = endpoint.get("metadata", {}).get("filter_metadata", {})
            rows.append(
                Row(
                    address["address"],
                    address["port_value"],
                    endpoint.get("load_balancing_weight", 1),
                    HEALTH.index(endpoint.get("health_status", "UNKNOWN")),
                    entry.get("priority", 0),
                    place,
                    metadata.get("envoy.transport_socket_match", {}).get("tlsMode") == "istio",
                )
            )
    return rows


def check_chain(chain: FilterChain, one: dict[str, Any]) -> None:
    match = one.get("filter_chain_match", {})
    assert chain.name == one.get("name", "")
    assert chain.match.destination_port == match.get("destination_port", 0)
    assert list(chain.match.server_names) == match.get("server_names", [])
    assert list(chain.match.application_protocols) == match.get("application_protocols", [])
    assert chain.match.transport_protocol == match.get("transport_protocol", "")
    assert chain.match.unsupported == ()
    sds = json.dumps(one.get("transport_socket", {})).count('"sds_config"')
    assert len(chain.secrets) == sds
    assert {ref.source for ref in chain.secrets} <= {"cluster:sds-grpc"}
    names = [network_filter["name"] for network_filter in one["filters"]]
    assert set(names) <= SERVED
    assert (chain.tls is not None) == ("transport_socket" in one)
    if chain.tls is not None:
        said = one["transport_socket"]["typed_config"]
        assert (chain.tls.is_server, chain.tls.requires_certificate) == (True, said["require_client_certificate"])
        assert list(chain.tls.protocols) == said["common_tls_context"]["alpn_protocols"]
        assert chain.tls.names == (NameMatch("prefix", "spiffe://cluster.local/"),)
    assert chain.refusal == "", chain
    assert (chain.http is not None) == (names[-1] == MANAGER)
    config = one["filters"][-1]["typed_config"]
    http_filters = [each["name"] for each in config.get("http_filters", ())]
    policies = [name for name in [*names, *http_filters] if "rbac" in name]
    assert [policy.is_http for policy in chain.policies] == ["network" not in name for name in policies]
    if chain.http is None:
        assert chain.clusters == ((config["cluster"], 1),)
        assert chain.stat_prefix == config["stat_prefix"]
    else:
        assert chain.http.refusal == ""
        assert chain.clusters == ()
        assert chain.http.sets_alpn == ("istio.alpn" in http_filters)
        assert chain.route_config_name == config.get("rds", {}).get("route_config_name", "")
        assert (chain.route_config is None) == ("rds" in config)


def check_listener(listener: Listener, one: dict[str, Any]) -> None:
    address = one["address"]["socket_address"]
    filters = {found["name"].rpartition(".")[2] for found in one.get("listener_filters", [])}
    assert listener.name == one["name"]
    assert listener.addresses == ((address["address"], address["port_value"]),)
    assert listener.bind_to_port == one.get("bind_to_port", True)
    assert listener.use_original_dst == one.get("use_original_dst", False)
    assert listener.original_dst == (listener.use_original_dst or "original_dst" in filters)
    assert listener.tls_inspector == ("tls_inspector" in filters)
    assert listener.proxy_headers is None
    assert listener.listener_filters_timeout_s == duration_s(one.get("listener_filters_timeout"), 15.0)
    assert listener.continue_on_listener_filters_timeout == one.get("continue_on_listener_filters_timeout", False)
    assert listener.traffic_direction == one["traffic_direction"]
    for chain, written in zip(listener.filter_chains, one.get("filter_chains", []), strict=True):
        check_chain(chain, written)
    assert (listener.default_filter_chain is None) == ("default_filter_chain" not in one)
    if listener.default_filter_chain is not None:
        check_chain(listener.default_filter_chain, one["default_filter_chain"])
    assert all(re.fullmatch(r"listener_filters\.\w+\.filter_disabled: .*", one) for one in listener.warnings)


@pytest.mark.parametrize("path", SETS, ids=label)
def test_recorded_clusters(path: Path) -> None:
    for payload, written in recorded(path, "cds"):
        assert decode_cluster(payload) == expected_cluster(written)


@pytest.mark.parametrize("path", SETS, ids=label)
def test_recorded_assignments(path: Path) -> None:
    for payload, written in recorded(path, "eds"):
        assignment = decode_assignment(payload)
        assert assignment.cluster_name == written["cluster_name"]
        assert assignment.overprovisioning_factor == 140
        assert rows_of(assignment.columns) == expected_rows(written)
        # Envoy takes a weight only together with a locality; a present, empty one counts.
        weights = {
            (Locality(**entry.get("locality", {})), entry.get("priority", 0)): entry.get("load_balancing_weight")
            if "locality" in entry
            else None
            for entry in written.get("endpoints", [])
        }
        assert {(entry.locality, entry.priority): entry.weight for entry in assignment.columns.localities} == weights


@pytest.mark.parametrize("path", SETS, ids=label)
def test_recorded_listeners(path: Path) -> None:
    for payload, written in recorded(path, "lds"):
        check_listener(decode_listener(payload)[0], written)


def expected_routes(one: dict[str, Any]) -> RouteConfiguration:
    hosts = []
    for host in one["virtual_hosts"]:
        routes = [
            Route(
                RouteMatch("prefix", route["match"]["prefix"], route["match"].get("case_sensitive", True)),
                "route",
                route["name"],
                ((route["route"]["cluster"], 1),),
            )
            for route in host["routes"]
        ]
        hosts.append(VirtualHost(host["name"], tuple(host["domains"]), tuple(routes)))
    return RouteConfiguration(one["name"], tuple(hosts), one["ignore_port_in_host_matching"])


@pytest.mark.parametrize("path", [path for path in SETS if (path / "rds.pb").exists()], ids=label)
def test_recorded_routes(path: Path) -> None:
    written = recorded(path, "rds")
    assert len(written) >= 4
    for payload, one in written:
        assert decode_route(payload)[0] == expected_routes(one)


@pytest.mark.parametrize("path", SOTW, ids=label)
def test_recorded_set_is_accepted_whole(path: Path) -> None:
    store = Store(router="gateway" in path.name)
    for kind in ("cds", "eds", "lds", *(["rds"] if (path / "rds.pb").exists() else [])):
        message = read("envoy.service.discovery.v3.DiscoveryResponse", (path / f"{kind}.pb").read_bytes())
        applied = store.apply(message["type_url"], message["version_info"], message.get("resources", ()))
        assert applied.reason == ""
    assert store.snapshot.warming == frozenset()
    assert store.snapshot.missing_routes == frozenset()
    assert set(store.wanted_routes) == set(store.snapshot.routes)
    wanted = set(store.wanted_assignments)
    assert wanted <= set(store.snapshot.assignments)
    if "gateway" in path.name:
        assert wanted == {name for name in store.snapshot.clusters if name.startswith("outbound_.")}


def contents(store: Store) -> tuple[Any, ...]:
    snapshot = store.snapshot
    listeners = {
        name: (one.addresses, {chain.match: chain for chain in one.filter_chains})
        for name, one in snapshot.listeners.items()
    }
    assignments = {name: sorted(rows_of(one.columns)) for name, one in snapshot.assignments.items()}
    return dict(snapshot.clusters), assignments, listeners, dict(snapshot.routes)


@pytest.mark.parametrize("role", ["gateway", "sidecar"])
def test_series_of_pushes_reaches_the_recorded_final_state(role: str) -> None:
    folder = RECORDINGS / "pushes" / f"anthos-{role}-sotw"
    store = Store(router=role == "gateway")
    for entry in json.loads((folder / "index.json").read_text()):
        message = read("envoy.service.discovery.v3.DiscoveryResponse", (folder / entry["file"]).read_bytes())
        if message["type_url"] not in (CDS, EDS, LDS, RDS):
            continue
        assert not store.apply(message["type_url"], message["version_info"], message.get("resources", ())).rejected
    final = Store(router=role == "gateway")
    for kind in ("cds", "eds", "lds", *(["rds"] if role == "sidecar" else [])):
        data = (RECORDINGS / "9-subsets" / f"anthos-{role}" / f"{kind}.pb").read_bytes()
        message = read("envoy.service.discovery.v3.DiscoveryResponse", data)
        final.apply(message["type_url"], message["version_info"], message.get("resources", ()))
    assert contents(store) == contents(final)


def test_pushes_of_equal_meaning_do_not_move_the_generation() -> None:
    """Of 26 recorded pushes to the gateway 10 change nothing that it honours."""
    folder = RECORDINGS / "pushes" / "anthos-gateway-sotw"
    store = Store()
    unchanged = []
    for entry in json.loads((folder / "index.json").read_text()):
        message = read("envoy.service.discovery.v3.DiscoveryResponse", (folder / entry["file"]).read_bytes())
        generation = store.snapshot.generation
        applied = store.apply(message["type_url"], message["version_info"], message.get("resources", ()))
        assert applied.changed == (store.snapshot.generation != generation)
        if not applied.changed:
            unchanged.append(entry["file"])
    # Locality priorities are in EDS: CDS of stages 6 and 7 says what it said before, in another order.
    assert {"005-cds.pb", "014-cds.pb", "017-cds.pb", "016-lds.pb", "019-lds.pb"} <= set(unchanged)


@pytest.mark.parametrize("path", [path for path in SOTW if path.parent.name == "1-default"], ids=label)
def test_node_says_what_the_recorded_node_said(path: Path) -> None:
    written = json.loads((path / "node.json").read_text())
    kind, address, pod, domain = written["id"].split("~")
    metadata = written["metadata"]
    node = NodeIdentity(
        type=kind,
        ips=(address,),
        pod_name=metadata["NAME"],
        namespace=metadata["NAMESPACE"],
        dns_domain=domain,
        cluster_id=metadata["CLUSTER_ID"],
        network=metadata["NETWORK"],
        network_view=tuple(filter(None, metadata.get("REQUESTED_NETWORK_VIEW", "").split(","))),
        labels=metadata["LABELS"],
        locality=Locality(**written.get("locality", {})),
        service_account=metadata["SERVICE_ACCOUNT"],
        istio_version=metadata["ISTIO_VERSION"],
        meta={"PROXY_CONFIG": metadata["PROXY_CONFIG"]},
    )
    assert node.id == written["id"]
    assert node.message.get("locality") == written.get("locality")
    assert node.metadata.items() <= metadata.items()
    assert pod == f"{metadata['NAME']}.{metadata['NAMESPACE']}"
