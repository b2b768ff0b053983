"""Node identity: what istiod demands of the id and of each kind of metadata."""

from typing import Any

import pytest
from eastgate.xds.errors import XdsError
from eastgate.xds.node import DEFAULT_ISTIO_VERSION, NodeIdentity
from eastgate.xds.resources import Locality


def node(**settings: Any) -> NodeIdentity:
    return NodeIdentity(
        **{"type": "router", "ips": ("10.0.0.7",), "pod_name": "gw-1", "namespace": "istio", **settings}
    )


def test_id_has_four_parts() -> None:
    assert node().id == "router~10.0.0.7~gw-1.istio~istio.svc.cluster.local"
    assert node(dns_domain="d").id == "router~10.0.0.7~gw-1.istio~d"
    assert node(id="router~1.1.1.1~a.b~c").id == "router~1.1.1.1~a.b~c"


def test_metadata_holds_what_is_set_and_nothing_empty() -> None:
    metadata = node(
        ips=("10.0.0.7", "2001:db8::7"), network="n1", network_view=("n1", "n2"), labels={"a": "b"}, cluster_id="c"
    ).metadata
    assert metadata["INSTANCE_IPS"] == "10.0.0.7,2001:db8::7"
    assert metadata["REQUESTED_NETWORK_VIEW"] == "n1,n2"
    assert metadata["LABELS"] == {"a": "b"}
    assert (metadata["NETWORK"], metadata["CLUSTER_ID"], metadata["NAMESPACE"]) == ("n1", "c", "istio")
    assert metadata["PROXY_CONFIG"]
    assert not {"REQUESTED_NETWORK_VIEW", "NETWORK", "LABELS", "SERVICE_ACCOUNT"} & node().metadata.keys()


def test_version_of_istio_is_ours_unless_somebody_says_another() -> None:
    assert node().metadata["ISTIO_VERSION"] == DEFAULT_ISTIO_VERSION
    assert "ISTIO_VERSION" not in node(istio_version="").metadata
    environment = {"ISTIO_META_ISTIO_VERSION": "1.29.3"}
    assert node().with_environment(environment).metadata["ISTIO_VERSION"] == "1.29.3"
    for said in ({"istio_version": "1.30.1"}, {"meta": {"ISTIO_VERSION": "1.30.1"}}):
        assert node(**said).metadata["ISTIO_VERSION"] == "1.30.1"
        assert node(**said).with_environment(environment).metadata["ISTIO_VERSION"] == "1.30.1"


def test_message_has_locality_and_a_truthful_user_agent() -> None:
    message = node(locality=Locality("r", "z"), labels={"app": "gw"}).message
    assert message["locality"] == {"region": "r", "zone": "z"}
    assert (message["user_agent_name"], message["cluster"]) == ("eastgate", "gw.istio")
    assert "locality" not in node().message


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"type": "waypoint"}, "node type rejected: 'waypoint' is none of router, sidecar"),
        ({"ips": ()}, "node address rejected: no IP address"),
        ({"ips": ("host",)}, "node address rejected: 'host' is not an IP address"),
        ({"pod_name": "a~b"}, "node pod name rejected: 'a~b' is not a Kubernetes name"),
        ({"id": "router~1.1.1.1~a"}, "node id rejected: 'router~1.1.1.1~a' is not router~<ip>"),
        ({"id": "sidecar~1.1.1.1~a.b~c"}, "node id rejected"),
        (
            {"meta": {"ENABLE_HBONE": True}},
            'node metadata ENABLE_HBONE rejected: it must be the string "true" or "false"',
        ),
        ({"meta": {"INSTANCE_IPS": ["1.1.1.1"]}}, "INSTANCE_IPS rejected: it must be a comma separated string"),
        ({"meta": {"LABELS": {"a": 1}}}, "LABELS rejected: it must be a map of strings to strings"),
        ({"meta": {"ENVOY_STATUS_PORT": "15021"}}, "ENVOY_STATUS_PORT rejected: it must be a number"),
        ({"meta": {"PROXY_CONFIG": "{}"}}, "PROXY_CONFIG rejected: it must be an object"),
        ({"meta": {"MESH_ID": 1}}, "MESH_ID rejected: it must be a string"),
    ],
)
def test_what_istiod_would_refuse_is_refused_here(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(XdsError) as caught:
        node(**settings)
    assert text in str(caught.value)


def test_environment_of_pilot_agent_is_read() -> None:
    found = node(labels={"a": "mine"}).with_environment(
        {
            "ISTIO_META_NETWORK": "n1",
            "ISTIO_META_REQUESTED_NETWORK_VIEW": "n1",
            "ISTIO_META_CLUSTER_ID": "c1",
            "ISTIO_META_UNPRIVILEGED_POD": "true",
            "ISTIO_META_ENVOY_STATUS_PORT": "15021",
            "ISTIO_METAJSON_LABELS": '{"a": "theirs", "b": "c"}',
            "ISTIO_META_MY_KEY": "anything",
            "PATH": "/bin",
        }
    )
    metadata = found.metadata
    assert metadata["NETWORK"] == metadata["REQUESTED_NETWORK_VIEW"] == "n1"
    assert (metadata["CLUSTER_ID"], metadata["ENVOY_STATUS_PORT"]) == ("c1", 15021.0)
    assert metadata["LABELS"] == {"a": "mine", "b": "c"}
    assert metadata["MY_KEY"] == "anything"
    assert "PATH" not in metadata


def test_what_was_said_wins_over_the_environment() -> None:
    environment = {"ISTIO_META_NETWORK": "theirs", "ISTIO_META_CLUSTER_ID": "theirs", "ISTIO_META_MESH_ID": "theirs"}
    metadata = node(network="n1", cluster_id="c1", meta={"MESH_ID": "m1"}).with_environment(environment).metadata
    assert (metadata["NETWORK"], metadata["CLUSTER_ID"], metadata["MESH_ID"]) == ("n1", "c1", "m1")


@pytest.mark.parametrize(
    ("variable", "value", "text"),
    [
        ("ISTIO_METAJSON_LABELS", "{", "node metadata ISTIO_METAJSON_LABELS rejected: not JSON"),
        ("ISTIO_METAJSON_LABELS", "[]", "node metadata LABELS rejected"),
        ("ISTIO_META_ENVOY_STATUS_PORT", "http", "ENVOY_STATUS_PORT rejected: it must be a number, not 'http'"),
        ("ISTIO_META_ENABLE_HBONE", "yes", "ENABLE_HBONE rejected"),
        ("ISTIO_META_OWNER", "\udcff", "node OWNER rejected: '\\udcff' is no text in UTF-8"),
        ("ISTIO_METAJSON_PLACE", r'{"rack": [1, "\ud800"]}', "node rack rejected: '\\ud800' is no text in UTF-8"),
        ("ISTIO_METAJSON_LABELS", r'{"\ud800": "a"}', "node key of LABELS rejected: '\\ud800' is no text"),
    ],
)
def test_bad_environment_is_named(variable: str, value: str, text: str) -> None:
    with pytest.raises(XdsError) as caught:
        node().with_environment({variable: value})
    assert text in str(caught.value)


def test_router_of_a_network_without_view_is_warned_about() -> None:
    assert "REQUESTED_NETWORK_VIEW is empty" in node(network="n1").warning
    assert node(network="n1", network_view=("n1",)).warning == ""
    assert node(network="n1", meta={"REQUESTED_NETWORK_VIEW": "n1"}).warning == ""
    assert node().warning == ""
    assert node(type="sidecar", network="n1").warning == ""
