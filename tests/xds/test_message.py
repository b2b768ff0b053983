"""Writing messages; that protobuf reads them is tests/differential/test_wire_vs_protobuf.py."""

import pytest
from eastgate.xds.message import encode, read


def test_request_with_node_reads_back() -> None:
    request = {
        "version_info": "v",
        "node": {
            "id": "router~1.1.1.1~a.b~c",
            "metadata": {"LABELS": {"a": "b"}, "PORT": 15021.0, "LIST": ["x", True, None], "EMPTY": {}},
            "locality": {"region": "r"},
        },
        "resource_names": ["a", "b"],
        "error_detail": {"code": 3, "message": "why"},
    }
    name = "envoy.service.discovery.v3.DiscoveryRequest"
    assert read(name, encode(name, request)) == request


def test_empty_values_are_left_out() -> None:
    assert encode("google.rpc.Status", {"code": 0, "message": ""}) == b""


@pytest.mark.parametrize("duration", ["0s", "10s", "1.500s", "-1.000005s", "0.000000001s"])
def test_durations(duration: str) -> None:
    cluster = encode("envoy.config.cluster.v3.Cluster", {"connect_timeout": duration})
    assert read("envoy.config.cluster.v3.Cluster", cluster) == {"connect_timeout": duration}


def test_wrappers_of_defaults_are_present() -> None:
    name = "envoy.config.listener.v3.Listener"
    assert read(name, encode(name, {"bind_to_port": False})) == {"bind_to_port": False}


def test_what_the_schema_does_not_have_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        encode("google.rpc.Status", {"nope": 1})
    with pytest.raises(KeyError):
        encode("envoy.config.cluster.v3.Cluster", {"type": "NOPE"})


def test_numbers_that_do_not_fit_are_value_errors() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        encode("google.rpc.Status", {"code": 2**31})
