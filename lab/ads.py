"""What an istiod sends to proxies that do not run: raw ADS for given nodes, asked in the network of a cluster's node.

As a program: a JSON list of nodes on standard input, the answers as JSON on standard output.
"""

import base64
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from .errors import LabError
from .istio import plain_discovery
from .kubectl import Kubectl

PREFIX = "type.googleapis.com/envoy.config."
CDS = PREFIX + "cluster.v3.Cluster"
EDS = PREFIX + "endpoint.v3.ClusterLoadAssignment"
LDS = PREFIX + "listener.v3.Listener"
METHOD = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources"
ANSWER_S = 30.0
ALL_S = 600.0
ROOT = Path(__file__).parents[1]
LENGTH_DELIMITED = 2
FIXED = {1: 8, 5: 4}
NAME, CLUSTER_TYPE, EDS_TYPE = 1, 2, 3
RESOURCES, TYPE_URL, VALUE = 2, 4, 2
Resources = dict[str, dict[str, bytes]]


@dataclass(frozen=True, slots=True)
class Proxy:
    """A node as istiod sees it. ``locality``: region, zone and sub zone. ``part``: only names with this in them."""

    id: str
    metadata: Mapping[str, Any]
    locality: tuple[str, str, str] = ("", "", "")
    part: str = ""


def ask(kubectl: Kubectl, proxies: Sequence[Proxy]) -> list[Resources]:
    """Clusters, assignments and listeners of each proxy: type -> name -> bytes. Raises LabError."""
    told = json.dumps([asdict(one) for one in proxies])
    words = (sys.executable, "-m", "lab.ads", plain_discovery(kubectl))
    done = kubectl.node.in_network(*words, input=told, cwd=ROOT, timeout_s=ALL_S)
    return [
        {kind: {name: base64.b64decode(text) for name, text in named.items()} for kind, named in one.items()}
        for one in json.loads(done.stdout)
    ]


def fields(raw: bytes) -> Iterator[tuple[int, Any]]:
    """Number and value of each field of a message: bytes, or a number. What is asked here needs no schema."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = raw[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(raw):
        tag = varint()
        kind = tag & 7
        if kind == LENGTH_DELIMITED or kind in FIXED:
            length = FIXED.get(kind) or varint()
            yield tag >> 3, raw[at : at + length]
            at += length
        else:
            yield tag >> 3, varint()


def first(raw: bytes, number: int, default: Any) -> Any:
    """The first value of a field."""
    return next((value for found, value in fields(raw) if found == number), default)


def fetch(channel: Any, proxy: Proxy) -> Resources:
    """What istiod sends to one node now."""
    from envoy_data_plane.envoy.config.core.v3 import Locality, Node
    from envoy_data_plane.envoy.service.discovery.v3 import DiscoveryRequest
    from envoy_data_plane.google.protobuf import Struct

    requests: SimpleQueue[Any] = SimpleQueue()
    stream = channel.stream_stream(METHOD, request_serializer=bytes, response_deserializer=None)
    answers = stream(iter(requests.get, None), timeout=ANSWER_S)
    where = Locality(region=proxy.locality[0], zone=proxy.locality[1], sub_zone=proxy.locality[2])
    node = Node(id=proxy.id, metadata=Struct.from_dict(dict(proxy.metadata)), locality=where)
    found: Resources = {}
    for kind in (CDS, EDS, LDS):
        found[kind] = {}
        names: list[str] = []
        if kind == EDS:
            names = sorted(name for name, raw in found[CDS].items() if first(raw, CLUSTER_TYPE, 0) == EDS_TYPE)
            if not names:
                continue
        requests.put(DiscoveryRequest(node=node, type_url=kind, resource_names=names))
        answer = next(one for one in answers if first(one, TYPE_URL, b"") == kind.encode())
        for number, packed in fields(answer):
            if number == RESOURCES:
                raw = first(packed, VALUE, b"")
                name = first(raw, NAME, b"").decode()
                # A listener is not named after what it leads to.
                if proxy.part in name or (kind == LDS and proxy.part.encode() in raw):
                    found[kind][name] = raw
    requests.put(None)
    answers.cancel()
    return found


def main() -> None:
    import grpc

    proxies = [Proxy(one["id"], one["metadata"], tuple(one["locality"]), one["part"]) for one in json.load(sys.stdin)]
    options = [("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(sys.argv[1], options=options) as channel:
        try:
            answers = [fetch(channel, proxy) for proxy in proxies]
        except grpc.RpcError as error:
            raise LabError(f"istiod at {sys.argv[1]}: {error}") from None
    told = [
        {kind: {name: base64.b64encode(raw).decode() for name, raw in named.items()} for kind, named in one.items()}
        for one in answers
    ]
    json.dump(told, sys.stdout)


if __name__ == "__main__":
    main()
