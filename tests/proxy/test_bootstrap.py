"""The bootstrap of a real pilot-agent, and every mistake in it told with its JSON path."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from eastgate.proxy.about import node_identity
from eastgate.proxy.bootstrap import read_bootstrap
from eastgate.proxy.bootstrap_reader import BootstrapError
from eastgate.proxy.errors import SettingsError
from eastgate.proxy.settings import gateway_settings
from eastgate.xds.bind_config import Bind, SourceAddress
from eastgate.xds.credentials import Credentials
from eastgate.xds.resources import Locality

from ..support.certificates import FileCa
from ..support.recordings import FOLDER

RECORDED = FOLDER / "envoy" / "anthos-gateway" / "bootstrap.json"
ADS = "dynamic_resources.ads_config"
CLUSTER = "static_resources.clusters[3]"


def changed(tmp_path: Path, change: Callable[[dict[str, Any]], object]) -> str:
    """A file with the recorded bootstrap after `change`."""
    value = json.loads(RECORDED.read_text())
    change(value)
    file = tmp_path / "bootstrap.json"
    file.write_text(json.dumps(value))
    return str(file)


def xds_cluster(value: dict[str, Any]) -> dict[str, Any]:
    (cluster,) = [one for one in value["static_resources"]["clusters"] if one["name"] == "xds-grpc"]
    return cluster  # type: ignore[no-any-return]


def xds_endpoints(value: dict[str, Any]) -> list[dict[str, Any]]:
    return xds_cluster(value)["load_assignment"]["endpoints"][0]["lb_endpoints"]  # type: ignore[no-any-return]


def test_recorded_bootstrap_is_read() -> None:
    said = read_bootstrap(str(RECORDED))
    assert said.node_id == "router~10.10.1.30~istio-eastwestgateway-a.gateway~gateway.svc.cluster.local"
    assert said.discovery == ("unix:./etc/istio/proxy/XDS",)
    assert (said.protocol, said.admin, said.credentials) == ("delta", "127.0.0.1:15000", Credentials())
    assert said.metadata["REQUESTED_NETWORK_VIEW"] == "default"
    assert said.sockets == {"sds-grpc": "unix:./var/run/secrets/workload-spiffe-uds/socket"}


@pytest.mark.parametrize("name", ["upstream_bind_config", "upstreamBindConfig"])
def test_what_connections_come_from_is_that_of_the_file(tmp_path: Path, name: str) -> None:
    assert gateway_settings(discovery=(), bootstrap=str(RECORDED)).upstream_bind is None
    source = {"source_address": {"address": "127.0.0.9", "port_value": 0}, "socket_options": [{"level": 6, "name": 99}]}
    file = changed(tmp_path, lambda value: value.update(cluster_manager={name: source, "local_cluster_name": "mine"}))
    said = gateway_settings(discovery=(), bootstrap=file)
    assert said.local_cluster == "mine"
    assert said.upstream_bind == Bind((SourceAddress(bytes([127, 0, 0, 9]), 0),), options=())
    [reason] = said.unread
    assert reason.startswith("cluster_manager.upstream_bind_config.socket_options: level 6, name 99 ")


def test_node_that_istiod_hears_is_that_of_the_file() -> None:
    node = node_identity(gateway_settings(discovery=(), bootstrap=str(RECORDED)), {}).message
    recorded = json.loads(RECORDED.read_text())["node"]
    assert (node["id"], node["cluster"], node["metadata"]) == (
        recorded["id"],
        recorded["cluster"],
        recorded["metadata"],
    )


def test_secrets_are_asked_for_at_the_socket_of_the_file_unless_a_flag_names_another() -> None:
    where = gateway_settings(discovery=(), bootstrap=str(RECORDED)).secret_sockets
    assert where == {"sds-grpc": "unix:./var/run/secrets/workload-spiffe-uds/socket"}
    for given in ("/run/spire.sock", "unix:/run/spire.sock"):
        where = gateway_settings(discovery=(), bootstrap=str(RECORDED), sds_socket=given).secret_sockets
        assert where == {"sds-grpc": "unix:/run/spire.sock"}
    assert gateway_settings(discovery=("h:1",)).secret_sockets == {}
    with pytest.raises(SettingsError, match="--sds-socket"):
        gateway_settings(discovery=("h:1",), sds_socket="unix:")


def test_static_clusters_of_any_other_shape_are_no_sockets(tmp_path: Path) -> None:
    def odd(value: dict[str, Any]) -> None:
        for cluster in value["static_resources"]["clusters"]:
            if cluster["name"] == "sds-grpc":
                cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0] = {"endpoint": {"address": {"pipe": 5}}}

    assert read_bootstrap(changed(tmp_path, odd)).sockets == {}


def test_flags_win_over_the_file(tmp_path: Path) -> None:
    settings = gateway_settings(
        discovery=["127.0.0.1:15010"],
        bootstrap=changed(
            tmp_path,
            lambda value: value.update(
                node={**value["node"], "locality": {"region": "r", "subZone": "s"}},
                clusterManager={"localClusterName": "proxies"},
            ),
        ),
        xds_protocol="sotw",
        admin="127.0.0.1:0",
        network="elsewhere",
        cluster_id="c9",
        label=["istio=other"],
        meta=["OWNER=me"],
    )
    assert (settings.discovery, settings.xds_protocol, settings.admin) == (
        ("127.0.0.1:15010",),
        "sotw",
        ("127.0.0.1", 0),
    )
    assert settings.locality == Locality("r", "", "s")
    assert settings.local_cluster == "proxies"
    metadata = node_identity(settings, {}).metadata
    assert (metadata["NETWORK"], metadata["REQUESTED_NETWORK_VIEW"]) == ("elsewhere", "elsewhere")
    assert (metadata["CLUSTER_ID"], metadata["OWNER"], metadata["LABELS"]["istio"]) == ("c9", "me", "other")
    assert metadata["LABELS"]["app"] == "istio-eastwestgateway"


def test_api_type_and_camel_case_and_trailing_comma(tmp_path: Path) -> None:
    file = tmp_path / "bootstrap.yaml"
    file.write_text("""{
      "node": {"id": "router~10.0.0.1~a.b~b.svc.cluster.local",},
      "dynamicResources": {"adsConfig": {"apiType": "GRPC", "grpcServices": [{"envoyGrpc": {"clusterName": "ads"}}]}},
      "staticResources": {"clusters": [{"name": "ads", "loadAssignment": {"endpoints": [
        {"lbEndpoints": [{"endpoint": {"address": {"socketAddress": {"address": "::1", "portValue": 15010}}}}]},
        {"lbEndpoints": [{"endpoint": {"address": {"socketAddress": {"address": "istiod", "portValue": 15010}}}}]}]}}]}
    }""")
    said = read_bootstrap(str(file))
    assert (said.protocol, said.discovery, said.admin) == ("sotw", ("[::1]:15010", "istiod:15010"), "")


def test_tls_of_the_cluster_is_used(tmp_path: Path) -> None:
    ca = FileCa(tmp_path)
    pair = ca.issue("one")

    def tls(value: dict[str, Any]) -> None:
        certificate = {
            "certificate_chain": {"filename": str(pair.certificate)},
            "private_key": {"filename": str(pair.key)},
        }
        xds_cluster(value)["transport_socket"] = {
            "typed_config": {
                "sni": "istiod.istio-system.svc",
                "common_tls_context": {
                    "tls_certificates": [certificate],
                    "validation_context": {"trusted_ca": {"filename": str(ca.root)}},
                },
            }
        }

    settings = gateway_settings(discovery=(), bootstrap=changed(tmp_path, tls))
    assert settings.credentials == Credentials(
        root_cert=str(ca.root),
        client_cert=str(pair.certificate),
        client_key=str(pair.key),
        cluster_id="anthos",
        server_name="istiod.istio-system.svc",
    )

    def key_is_gone(value: dict[str, Any]) -> None:
        tls(value)
        context = xds_cluster(value)["transport_socket"]["typed_config"]["common_tls_context"]
        context["tls_certificates"][0]["private_key"]["filename"] = "/nowhere"

    where = f"{CLUSTER}.transport_socket.typed_config.common_tls_context.tls_certificates[0].private_key.filename"
    with pytest.raises(BootstrapError) as caught:
        read_bootstrap(changed(tmp_path, key_is_gone))
    assert f"{where}: '/nowhere': cannot be read" in str(caught.value)


MISTAKES: list[tuple[Callable[[dict[str, Any]], object], str]] = [
    (lambda value: value.pop("node"), "node: is missing"),
    (lambda value: value["node"].pop("id"), "node.id: is missing"),
    (lambda value: value["node"].update(id="router~ten"), "node.id: expected router~IP"),
    (lambda value: value["node"].update(locality={"zone": 7}), "node.locality.zone: must be a string, not 7"),
    (
        lambda value: value.update(cluster_manager={"local_cluster_name": 7}),
        "cluster_manager.local_cluster_name: must be a string, not 7",
    ),
    (lambda value: value["node"]["metadata"].update(LABELS=[]), "node.metadata.LABELS: must be an object"),
    (lambda value: value.pop("dynamic_resources"), "dynamic_resources: is missing"),
    (lambda value: value["dynamic_resources"].pop("ads_config"), f"{ADS}: is missing"),
    (lambda value: value["dynamic_resources"]["ads_config"].update(api_type="REST"), f"{ADS}.api_type: 'REST' is none"),
    (lambda value: value["dynamic_resources"]["ads_config"].pop("grpc_services"), f"{ADS}.grpc_services: is missing"),
    (lambda value: xds_cluster(value).update(name="x"), f"{ADS}.grpc_services[0].envoy_grpc.cluster_name: 'xds-grpc'"),
    (lambda value: xds_cluster(value).pop("load_assignment"), f"{CLUSTER}.load_assignment: is missing"),
    (lambda value: xds_endpoints(value).clear(), f"{CLUSTER}.load_assignment.endpoints: holds no endpoint"),
    (
        lambda value: xds_endpoints(value)[0]["endpoint"].update(address={"pipe": {"path": ""}}),
        f"{CLUSTER}.load_assignment.endpoints[0].lb_endpoints[0].endpoint.address.pipe.path: is missing",
    ),
    (
        lambda value: value["admin"]["address"]["socket_address"].update(port_value="x"),
        "admin.address.socket_address.port_value: must be a port number, not 'x'",
    ),
]


@pytest.mark.parametrize(("change", "message"), MISTAKES, ids=[message.split(" ")[0] for _, message in MISTAKES])
def test_mistake_is_told_with_file_path_and_cause(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    file = changed(tmp_path, change)
    with pytest.raises((BootstrapError, SettingsError)) as caught:
        gateway_settings(discovery=(), bootstrap=file)
    assert str(caught.value).startswith(f"--bootstrap {file}: {message}")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"{", "is neither JSON nor YAML at line 1, column 2"),
        (b"[]", "holds no object"),
        (b"\xff", "is not text in UTF-8 (byte 0)"),
    ],
)
def test_file_that_is_none_is_told(tmp_path: Path, content: bytes | None, message: str) -> None:
    file = tmp_path / "bootstrap.json"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(BootstrapError) as caught:
        read_bootstrap(str(file))
    assert str(caught.value) == f"--bootstrap {file}: {message}"
