"""What a resource is sent in: an Any, or an Any of a discovery.v3.Resource that says more about it (its name, how long
it lives). Delta sends every resource in a Resource; servers of the other variant may.
"""

from typing import NamedTuple

from .message import read

WRAPPER = "type.googleapis.com/envoy.service.discovery.v3.Resource"


class Envelope(NamedTuple):
    """An opened Any. ``name``: what a wrapper calls the resource, empty without one. ``ttl``: a Duration as the wire
    reader answers it, None where the resource stays. ``has_body`` False: the wrapper holds nothing; type and payload
    are empty then.
    """

    type_url: str
    payload: bytes
    name: str = ""
    ttl: str | None = None
    has_body: bool = True


def open_envelope(raw: bytes) -> Envelope:
    """Open an Any, and one wrapper in it. Raises XdsError for other bytes."""
    packed = read("google.protobuf.Any", raw)
    type_url, payload = packed.get("type_url", ""), packed.get("value", b"")
    if type_url != WRAPPER:
        return Envelope(type_url, payload)
    wrapper = read("envoy.service.discovery.v3.Resource", payload)
    name, ttl = wrapper.get("name", ""), wrapper.get("ttl")
    if "resource" not in wrapper:
        return Envelope("", b"", name, ttl, has_body=False)
    body = read("google.protobuf.Any", wrapper["resource"])
    return Envelope(body.get("type_url", ""), body.get("value", b""), name, ttl)
