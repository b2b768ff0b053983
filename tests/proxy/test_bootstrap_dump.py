"""What is shown of a bootstrap file: its static resources, and no key of it."""

import base64
import json
from typing import Any

from eastgate.proxy.bootstrap_dump import shown, static_clusters, static_listeners, static_routes

from ..support.pilot_agent import RECORDED

DOCUMENT: dict[str, Any] = json.loads(RECORDED.read_text())


def test_static_resources_of_pilot_agent() -> None:
    assert [name for name, _ in static_clusters(DOCUMENT)] == ["prometheus_stats", "agent", "sds-grpc", "xds-grpc"]
    assert [name for name, _ in static_listeners(DOCUMENT)] == ["0.0.0.0_15090", "0.0.0.0_15021"]
    prefixes = [route["virtual_hosts"][0]["routes"][0]["match"]["prefix"] for _, route in static_routes(DOCUMENT)]
    assert prefixes == ["/stats/prometheus", "/healthz/ready"]
    assert {one["@type"].rpartition(".")[2] for _, one in static_routes(DOCUMENT)} == {"RouteConfiguration"}


def test_all_but_keys_is_shown() -> None:
    assert shown(DOCUMENT) == DOCUMENT
    certificate = {
        "certificate_chain": {"filename": "/c"},
        "privateKey": {"inlineBytes": "c2VjcmV0"},
        "password": {"inline_string": "secret"},
    }
    static = {"clusters": [{"name": "a", "transport_socket": {"typed_config": {"tlsCertificates": [certificate]}}}]}
    tracing = {"typed_config": {"access_token": "secret", "access_token_file": "/t"}}
    text = json.dumps(shown({"static_resources": static, "tracing": tracing}))
    assert "secret" not in text
    assert "c2VjcmV0" not in text
    assert base64.b64encode(b"[redacted]").decode() in text
    assert '"/t"' in text
    assert '"/c"' in text
    ((_, cluster),) = static_clusters({"staticResources": static})
    assert "secret" not in json.dumps(cluster)


def test_a_key_in_a_file_stays_named() -> None:
    assert shown({"x": {"private_key": {"filename": "/key"}}}) == {"x": {"private_key": {"filename": "/key"}}}


def test_odd_shapes_show_nothing() -> None:
    for value in ({}, {"static_resources": 5}, {"static_resources": {"listeners": [1, {"filter_chains": 5}]}}):
        assert list(static_routes(value)) == []
