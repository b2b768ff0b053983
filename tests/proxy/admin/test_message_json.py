"""Resources as JSON: against the package's own JSON, and what must not be shown."""

import base64
import json
import subprocess
import sys
from datetime import timedelta

import pytest
from eastgate.proxy.admin.frames import framed
from eastgate.proxy.admin.message_json import MessageReader, answer, redacted, shortest
from eastgate.xds.errors import XdsError
from envoy_data_plane.envoy.config.cluster.v3 import (
    Cluster,
    ClusterDiscoveryType,
    ClusterRingHashLbConfig,
    OutlierDetection,
)
from envoy_data_plane.envoy.config.core.v3 import DataSource, TransportSocket
from envoy_data_plane.envoy.config.endpoint.v3 import ClusterLoadAssignment
from envoy_data_plane.envoy.config.listener.v3 import Listener
from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import (
    CommonTlsContext,
    TlsCertificate,
    UpstreamTlsContext,
)
from envoy_data_plane.google.protobuf import Any as PackedAny
from envoy_data_plane.google.protobuf import Empty, StringValue
from envoy_data_plane.message_pool import default_message_pool

from ...support.recordings import CDS, EDS, LDS, recorded, stages

READER = MessageReader()
KINDS = {CDS: Cluster, LDS: Listener}
# Messages that no package of this environment knows: in both renderings nothing but their type.
STRANGERS = ("stats.PluginConfig",)


@pytest.mark.filterwarnings("ignore:.* is deprecated:DeprecationWarning")
@pytest.mark.parametrize("role", ["gke-gateway", "anthos-gateway"])
@pytest.mark.parametrize("stage", stages())
def test_recorded_resources_are_what_the_package_shows(stage: str, role: str, monkeypatch: pytest.MonkeyPatch) -> None:
    resources = recorded(stage, role)
    ours = {url: [READER.read(url, raw) for raw in resources[url].values()] for url in KINDS}
    for name in STRANGERS:
        monkeypatch.setitem(default_message_pool.url_to_type, f"type.googleapis.com/{name}", Empty)
    for url, kind in KINDS.items():
        for shown, raw in zip(ours[url], resources[url].values(), strict=True):
            message = kind.parse(raw)
            if url == CDS:
                # The package does not know what is in these; the next test does.
                shown.pop("filters", None)
                message.filters = []
            assert shown == {"@type": url, **message.to_dict(casing=str)}


def test_typed_struct_of_istio_is_shown() -> None:
    raw = next(raw for raw in recorded("1-default", "gke-gateway")[CDS].values() if b"TypedStruct" in raw)
    (shown,) = READER.read(CDS, raw)["filters"]
    assert shown["typed_config"]["value"] == {"enable_discovery": True, "protocol": "istio-peer-exchange"}


def test_values_have_the_forms_of_protobufs_json() -> None:
    cluster = Cluster(
        name="c",
        type=ClusterDiscoveryType.STATIC,
        connect_timeout=timedelta(seconds=1, milliseconds=500),
        ring_hash_lb_config=ClusterRingHashLbConfig(minimum_ring_size=1 << 40),
        outlier_detection=OutlierDetection(max_ejection_percent=0),
    )
    shown = READER.read(CDS, bytes(cluster))
    assert shown["connect_timeout"] == "1.500s"
    assert shown["ring_hash_lb_config"] == {"minimum_ring_size": str(1 << 40)}
    assert shown["outlier_detection"] == {"max_ejection_percent": 0}


def test_packed_well_known_type_and_unknown_type() -> None:
    packed = PackedAny.pack(StringValue(value="x"))
    socket = TransportSocket(name="s", typed_config=packed)
    assert READER.read(CDS, bytes(Cluster(transport_socket=socket)))["transport_socket"]["typed_config"] == {
        "@type": "type.googleapis.com/google.protobuf.StringValue",
        "value": "x",
    }
    socket.typed_config = PackedAny(type_url="type.googleapis.com/no.such.Type", value=b"\x08\x01")
    assert READER.read(CDS, bytes(Cluster(transport_socket=socket)))["transport_socket"]["typed_config"] == {
        "@type": "type.googleapis.com/no.such.Type"
    }


def test_private_keys_are_redacted_as_by_envoy() -> None:
    certificate = TlsCertificate(
        certificate_chain=DataSource(inline_string="CERTIFICATE"),
        private_key=DataSource(inline_bytes=b"KEY"),
        password=DataSource(inline_string="SECRET"),
    )
    tls = UpstreamTlsContext(common_tls_context=CommonTlsContext(tls_certificates=[certificate]))
    raw = bytes(Cluster(transport_socket=TransportSocket(name="tls", typed_config=PackedAny.pack(tls))))
    text = READER.text(CDS, raw)
    assert "CERTIFICATE" in text
    assert "SECRET" not in text
    assert base64.b64encode(b"KEY").decode() not in text
    (shown,) = json.loads(text)["transport_socket"]["typed_config"]["common_tls_context"]["tls_certificates"]
    assert shown["private_key"] == {"inline_bytes": "W3JlZGFjdGVkXQ=="}
    assert shown["password"] == {"inline_string": "[redacted]"}
    assert redacted(["a", {"inline_bytes": b"b", "@type": "t", "n": 1}], in_bytes=False) == [
        "[redacted]",
        {"inline_bytes": "W3JlZGFjdGVkXQ==", "n": 1},
    ]


def test_field_that_nobody_knows_is_named() -> None:
    # Field 1000, varint 1.
    assert READER.read(CDS, b"\x0a\x01c\xc0\x3e\x01") == {"@type": CDS, "name": "c", "eastgate_unread": ["#1000"]}


def test_bytes_that_are_no_message_are_an_error() -> None:
    with pytest.raises(XdsError):
        READER.text(CDS, b"\x0a\x7f")
    with pytest.raises(XdsError):
        READER.text("type.googleapis.com/no.such.Type", b"")


def test_numbers_have_the_fewest_digits() -> None:
    assert shortest(0.10000000149011612, single=True) == 0.1
    assert shortest(0.1, single=False) == 0.1
    assert shortest(float("inf"), single=True) == "Infinity"


def test_assignment_shows_what_envoy_works_with() -> None:
    assert READER.read(EDS, bytes(ClusterLoadAssignment(cluster_name="c"))) == {
        "@type": EDS,
        "cluster_name": "c",
        "policy": {"overprovisioning_factor": 140},
    }


def test_process_answers_in_order_also_to_what_it_cannot_read() -> None:
    questions = [(CDS, b"\x0a\x01a"), (CDS, b"\x0a\x7f"), (EDS, b"\x0a\x01b")]
    run = subprocess.run(
        [sys.executable, "-P", "-m", "eastgate.proxy.admin.message_json"],
        input=b"".join(framed(url.encode() + b"\0" + raw) for url, raw in questions),
        capture_output=True,
        timeout=60,
        check=True,
    )
    answers, left = [], run.stdout
    while left:
        size = int.from_bytes(left[:4], "big")
        answers.append(left[4 : 4 + size])
        left = left[4 + size :]
    greeting, *answers = answers
    assert greeting == b""
    assert [json.loads(one).get("name") for one in answers] == ["a", None, None]
    assert "eastgate_error" in json.loads(answers[1])
    assert json.loads(answers[2])["cluster_name"] == "b"
    assert run.stderr == b""


def test_without_the_package_the_answer_is_what_we_read_and_names_the_rest() -> None:
    raw = next(raw for raw in recorded("1-default", "gke-gateway")[CDS].values() if b"TypedStruct" in raw)
    shown = json.loads(answer(None, CDS, raw))
    assert shown["name"] == READER.read(CDS, raw)["name"]
    assert "transport_socket_matches" in shown["eastgate_unread"]
    raw = recorded("1-default", "gke-gateway")[EDS]["outbound_.80_._.echo-svc.default.svc.cluster.local"]
    assert json.loads(answer(None, EDS, raw))["endpoints"]


def test_resource_that_cannot_be_shown_costs_itself_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(type_url: str, raw: bytes) -> str:
        raise IndexError("string index out of range")

    monkeypatch.setattr(READER, "text", broken)
    shown = json.loads(answer(READER, CDS, b"\x0a\x01a"))
    assert shown == {"@type": CDS, "eastgate_error": "IndexError('string index out of range')"}


def test_map_with_an_empty_key_is_redacted() -> None:
    assert redacted({"": {"inline_string": "a"}}, in_bytes=False) == {"": {"inline_string": "[redacted]"}}
