"""Inputs of the guided targets: those that are kept, and seeds made from recordings.

Kept are the inputs that a long run found and a merge left over, one archive for each target in corpus/; and what once
broke a promise, as files of its own in corpus/<target>/.
"""

import io
import zipfile
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from pathlib import Path

from eastgate.xds.message import encode, read

from . import python_targets

CORPUS = Path(__file__).parent / "corpus"
RECORDINGS = Path(__file__).parents[1] / "data" / "recordings"
RESPONSE = "envoy.service.discovery.v3.DiscoveryResponse"
KINDS = ("cds", "eds", "lds", "rds")
MESSAGE_OF = {
    "cds": "envoy.config.cluster.v3.Cluster",
    "eds": "envoy.config.endpoint.v3.ClusterLoadAssignment",
    "lds": "envoy.config.listener.v3.Listener",
    "rds": "envoy.config.route.v3.RouteConfiguration",
}
SEED_LIMIT = 12_000
SEEDS = 40
# An archive does not depend on when it was made.
EPOCH = (1980, 1, 1, 0, 0, 0)


def kept(target: str) -> dict[str, bytes]:
    """Inputs of a target by name."""
    found = {path.name: path.read_bytes() for path in sorted((CORPUS / target).glob("*"))}
    archive = CORPUS / f"{target}.zip"
    if archive.exists():
        with zipfile.ZipFile(archive) as opened:
            found |= {name: opened.read(name) for name in sorted(opened.namelist())}
    return found


def keep(target: str, inputs: Iterable[bytes]) -> Path:
    """Write the archive of a target anew."""
    room = io.BytesIO()
    with zipfile.ZipFile(room, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as opened:
        for data in sorted(set(inputs), key=lambda one: (len(one), one)):
            opened.writestr(zipfile.ZipInfo(blake2b(data, digest_size=8).hexdigest(), EPOCH), data)
    archive = CORPUS / f"{target}.zip"
    archive.write_bytes(room.getvalue())
    return archive


def resources_of(kind: str) -> Iterator[bytes]:
    """Resources of one type that istiod sent."""
    for path in sorted(RECORDINGS.glob(f"[0-9]*/*/{kind}.pb")):
        if path.parent.parent.name != "2-delta":
            for one in read(RESPONSE, path.read_bytes()).get("resources", []):
                yield read("google.protobuf.Any", one)["value"]


def response(kind: str, resource: bytes) -> bytes:
    """A response that holds one resource."""
    url = f"type.googleapis.com/{MESSAGE_OF[kind]}"
    packed = encode("google.protobuf.Any", {"type_url": url, "value": resource})
    return encode(RESPONSE, {"version_info": "1", "resources": [packed], "type_url": url, "nonce": "1"})


def spread(found: Iterable[bytes]) -> list[bytes]:
    """At most SEEDS of these, from the smallest up."""
    ordered = sorted({one for one in found if len(one) <= SEED_LIMIT}, key=len)
    return ordered[:: max(1, len(ordered) // SEEDS)][:SEEDS]


def seeds(target: str) -> list[bytes]:
    """Inputs to begin with, made from what istiod sent."""
    if target in ("endpoint_reader", "assignment"):
        return spread(resources_of("eds"))
    if target == "wire":
        return [
            python_targets.NAMES.index(MESSAGE_OF[kind]).to_bytes(2, "little") + one
            for kind in KINDS
            for one in spread(resources_of(kind))
        ]
    if target == "responses":
        small = [[response(kind, one) for one in spread(resources_of(kind))] for kind in KINDS]
        chains = zip(*small, strict=False)
        return [python_targets.framed([one]) for some in small for one in some] + [
            python_targets.framed(list(chain)) for chain in chains
        ]
    if target == "proxy_protocol":
        binary = b"\r\n\r\n\0\r\nQUIT\n"
        return [
            b"PROXY TCP4 192.0.2.1 198.51.100.7 51234 15443\r\n",
            b"PROXY TCP6 2001:db8::1 2001:db8::2 51234 15443\r\n",
            b"PROXY UNKNOWN\r\n",
            binary + b"\x21\x11\0\x0c\xc0\0\2\1\xc6\x33\x64\7\xc8\x22\x3c\x53",
            binary + b"\x21\x21\0\x24" + bytes(range(36)),
            binary + b"\x20\0\0\0",
            binary + b"\x21\x11\0\x13\xc0\0\2\1\xc6\x33\x64\7\xc8\x22\x3c\x53\4\0\4PADS",
            binary + b"\x21\x12\x13\x94\xc0\0\2\1\xc6\x33\x64\7\xc8\x22\x3c\x53\xe0\x13\x85" + bytes(4997),
            b"PROXY TCP4 224.0.0.1 198.51.100.7 0051234 0\r\n",
            b"PING\r\n",
        ]
    return []
