"""What decoding costs: endpoints, clusters, a listener, beside Google's protobuf (upb) and envoy-data-plane.

    pytest bench/bench_decode.py --benchmark-only

`ns_per_item` in extra_info is the best round divided by the items in it. envoy-data-plane decodes fewer items per
round: it takes seconds otherwise.
"""

import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from eastgate.xds.assignment import decode_assignment
from eastgate.xds.decode import CDS, EDS, LDS, decode_cluster, decode_listener
from eastgate.xds.message import encode, read
from eastgate.xds.store import Store
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, struct_pb2, wrappers_pb2

from tests.support.encoded import METADATA, field, varint

ENDPOINTS = 10_000
CLUSTERS = 1_000
RECORDING = Path(__file__).parents[1] / "tests" / "data" / "recordings" / "2-failover" / "anthos-gateway"
RESPONSE = "envoy.service.discovery.v3.DiscoveryResponse"

# (number, name, type) of what istiod sends; a type with a capital is a message, [] after it means repeated.
ASSIGNMENT_MESSAGES = {
    "ClusterLoadAssignment": ((1, "cluster_name", "string"), (2, "endpoints", "LocalityLbEndpoints[]")),
    "LocalityLbEndpoints": (
        (1, "locality", "Locality"),
        (2, "lb_endpoints", "LbEndpoint[]"),
        (3, "load_balancing_weight", "google.protobuf.UInt32Value"),
        (5, "priority", "uint32"),
    ),
    "Locality": ((1, "region", "string"), (2, "zone", "string"), (3, "sub_zone", "string")),
    "LbEndpoint": (
        (1, "endpoint", "Endpoint"),
        (2, "health_status", "uint32"),
        (3, "metadata", "Metadata"),
        (4, "load_balancing_weight", "google.protobuf.UInt32Value"),
    ),
    "Endpoint": ((1, "address", "Address"), (3, "hostname", "string")),
    "Address": ((1, "socket_address", "SocketAddress"),),
    "SocketAddress": ((1, "protocol", "uint32"), (2, "address", "string"), (3, "port_value", "uint32")),
    "MetadataEntry": ((1, "key", "string"), (2, "value", "google.protobuf.Struct")),
    "Metadata": ((1, "filter_metadata", "MetadataEntry[]"),),
}


SHAPES = {"27 bytes": b"", "141 bytes, metadata": METADATA}


@cache
def assignment(count: int, shape: str) -> bytes:
    """An assignment of distinct endpoints, the sizes of which are those of the targets."""
    endpoints = []
    for index in range(count):
        host = f"10.{index // 100 % 10}.{index // 10 % 10}.{index % 10}".encode()
        socket_address = field(2, host) + b"\x18" + varint(8080 + index // 1000)
        body = field(1, field(1, field(1, socket_address))) + b"\x10\x01" + SHAPES[shape] + field(4, b"\x08\x01")
        endpoints.append(field(2, body))
    assert len(endpoints[0]) == int(shape.split()[0])
    entry = field(1, field(1, b"tokyo-onprem")) + b"".join(endpoints) + field(3, b"\x08" + varint(count))
    return field(1, b"outbound_.80_._.echo-svc.default.svc.cluster.local") + field(2, entry)


@cache
def upb_assignment() -> Any:
    pool = descriptor_pool.DescriptorPool()
    file = descriptor_pb2.FileDescriptorProto(name="bench.proto", package="bench", syntax="proto3")
    for module in (struct_pb2, wrappers_pb2):
        pool.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
        file.dependency.append(module.DESCRIPTOR.name)
    field_type = descriptor_pb2.FieldDescriptorProto
    for name, rows in ASSIGNMENT_MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, field_name, kind in rows:
            proto = message.field.add(name=field_name, number=number, label=field_type.LABEL_OPTIONAL)
            if kind.endswith("[]"):
                proto.label = field_type.LABEL_REPEATED
            kind = kind.removesuffix("[]")
            if kind.islower() and "." not in kind:
                proto.type = getattr(field_type, f"TYPE_{kind.upper()}")
            else:
                proto.type = field_type.TYPE_MESSAGE
                proto.type_name = f".{kind}" if "." in kind else f".bench.{kind}"
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("bench.ClusterLoadAssignment"))


@cache
def envoy_classes() -> tuple[Any, Any, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from envoy_data_plane.envoy.config.cluster.v3 import Cluster
        from envoy_data_plane.envoy.config.endpoint.v3 import ClusterLoadAssignment
        from envoy_data_plane.envoy.config.listener.v3 import Listener
    return Cluster, ClusterLoadAssignment, Listener


def payloads(kind: str) -> list[bytes]:
    response = read(RESPONSE, (RECORDING / f"{kind}.pb").read_bytes())
    return [read("google.protobuf.Any", resource)["value"] for resource in response["resources"]]


@cache
def recorded_clusters(count: int) -> tuple[bytes, ...]:
    """The recorded clusters of a gateway again and again, each under a name of its own."""
    recorded = payloads("cds")
    return tuple(recorded[index % len(recorded)] + field(1, f"{index:08}".encode()) for index in range(count))


@cache
def recorded_listener(count: int) -> bytes:
    """The recorded 15443 listener with `count` chains, each with a server name of its own."""
    message = read("envoy.config.listener.v3.Listener", payloads("lds")[0])
    chains = message["filter_chains"]
    message["filter_chains"] = [
        chains[index % len(chains)] + field(1, field(11, f"s{index}".encode())) for index in range(count)
    ]
    return encode("envoy.config.listener.v3.Listener", message)


def measure(benchmark: Any, run: Callable[[], Any], items: int, *, rounds: int = 30) -> None:
    # The codec is warm and the collector has nothing to do with the answer.
    benchmark.pedantic(run, rounds=rounds, iterations=1, warmup_rounds=1)
    benchmark.extra_info["ns_per_item"] = round(benchmark.stats.stats.min / items * 1e9, 1)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.benchmark(group="decode: endpoints")
def test_endpoints_native(benchmark: Any, shape: str) -> None:
    data = assignment(ENDPOINTS, shape)
    assert decode_assignment(data).columns.count == ENDPOINTS
    measure(benchmark, lambda: decode_assignment(data), ENDPOINTS)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.benchmark(group="decode: endpoints")
def test_endpoints_upb(benchmark: Any, shape: str) -> None:
    """Parsing only: nothing is read out of the message."""
    data, message = assignment(ENDPOINTS, shape), upb_assignment()
    assert len(message.FromString(data).endpoints[0].lb_endpoints) == ENDPOINTS
    measure(benchmark, lambda: message.FromString(data), ENDPOINTS)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.benchmark(group="decode: endpoints")
def test_endpoints_envoy_data_plane(benchmark: Any, shape: str) -> None:
    data, message = assignment(100, shape), envoy_classes()[1]
    measure(benchmark, lambda: message.parse(data), 100, rounds=3)


@pytest.mark.benchmark(group="decode: clusters")
def test_clusters_native(benchmark: Any) -> None:
    data = recorded_clusters(CLUSTERS)
    measure(benchmark, lambda: [decode_cluster(one) for one in data], CLUSTERS, rounds=10)


@pytest.mark.benchmark(group="decode: clusters")
def test_clusters_envoy_data_plane(benchmark: Any) -> None:
    data, message = recorded_clusters(25), envoy_classes()[0]
    measure(benchmark, lambda: [message.parse(one) for one in data], 25, rounds=3)


@pytest.mark.benchmark(group="decode: chains of one listener")
def test_chains_native(benchmark: Any) -> None:
    data = recorded_listener(CLUSTERS)
    measure(benchmark, lambda: decode_listener(data), CLUSTERS, rounds=10)


@pytest.mark.benchmark(group="decode: chains of one listener")
def test_chains_native_one_new(benchmark: Any) -> None:
    """The push that follows on a new service: every other chain has the bytes that it had."""
    data = recorded_listener(CLUSTERS)
    _, known = decode_listener(recorded_listener(CLUSTERS - 1))
    measure(benchmark, lambda: decode_listener(data, known), CLUSTERS, rounds=10)


@pytest.mark.benchmark(group="decode: chains of one listener")
def test_chains_envoy_data_plane(benchmark: Any) -> None:
    data, message = recorded_listener(25), envoy_classes()[2]
    measure(benchmark, lambda: message.parse(data), 25, rounds=3)


def packed(type_url: str, data: tuple[bytes, ...]) -> list[bytes]:
    return [encode("google.protobuf.Any", {"type_url": type_url, "value": one}) for one in data]


@pytest.mark.benchmark(group="apply a response")
def test_clusters_applied_first_time(benchmark: Any) -> None:
    resources = packed(CDS, recorded_clusters(CLUSTERS))
    measure(benchmark, lambda: Store().apply(CDS, "v", resources), CLUSTERS, rounds=10)


@pytest.mark.benchmark(group="apply a response")
def test_clusters_applied_again(benchmark: Any) -> None:
    """A push that changes nothing: bytes are compared, nothing is decoded."""
    resources = packed(CDS, recorded_clusters(CLUSTERS))
    store = Store()
    store.apply(CDS, "v", resources)
    measure(benchmark, lambda: store.apply(CDS, "v", resources), CLUSTERS, rounds=10)


@pytest.mark.benchmark(group="apply a response")
def test_one_assignment_of_many_clusters(benchmark: Any) -> None:
    """A readiness change: one assignment of 12 endpoints for one of 1,000 clusters."""
    store = Store(router=False)
    store.apply(CDS, "v", packed(CDS, recorded_clusters(CLUSTERS)))
    name = store.wanted_assignments[0].encode()
    versions = [packed(EDS, (assignment(count, "27 bytes") + field(1, name),)) for count in (11, 12)]
    turn = iter(range(10**9))
    measure(benchmark, lambda: store.apply(EDS, "v", versions[next(turn) % 2]), 1, rounds=200)


@pytest.mark.benchmark(group="apply a response")
def test_listener_applied_first_time(benchmark: Any) -> None:
    resources = packed(LDS, (recorded_listener(CLUSTERS),))
    measure(benchmark, lambda: Store().apply(LDS, "v", resources), CLUSTERS, rounds=10)
