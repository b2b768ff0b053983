"""Big assignments, encoded by hand: envoy-data-plane takes 125 us an endpoint. All addresses are of loopback."""


def varint(number: int) -> bytes:
    written = b""
    while number > 0x7F:
        written += bytes([number & 0x7F | 0x80])
        number >>= 7
    return written + bytes([number])


def field(number: int, payload: bytes) -> bytes:
    """A field of bytes, text or a message."""
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def text_struct(name: str, value: str) -> bytes:
    """A Struct with one string in it."""
    return field(1, field(1, name.encode()) + field(2, field(3, value.encode())))


# What istiod writes for an endpoint of an injected pod.
METADATA = field(
    3,
    field(1, field(1, b"istio") + field(2, text_struct("workload", "echoserver-a001;a;echo;;anthos")))
    + field(1, field(1, b"envoy.transport_socket_match") + field(2, text_struct("tlsMode", "istio"))),
)


def endpoint(index: int, *, metadata: bytes = b"", weight: int = 1, health: int = 1) -> bytes:
    """An LbEndpoint as field of LocalityLbEndpoints; another address for each index below 16 million."""
    host = f"127.{index >> 16 & 255}.{index >> 8 & 255}.{index & 255}".encode()
    socket_address = field(2, host) + b"\x18" + varint(9)
    body = field(1, field(1, field(1, socket_address))) + b"\x10" + varint(health) + metadata
    return field(2, body + field(4, b"\x08" + varint(weight)))


def locality(zone: str, endpoints: list[bytes], *, priority: int = 0) -> bytes:
    """A LocalityLbEndpoints as field of an assignment."""
    name = field(1, field(1, b"asia-northeast1") + field(2, zone.encode()))
    level = b"\x28" + varint(priority) if priority else b""
    return field(2, name + b"".join(endpoints) + field(3, b"\x08" + varint(len(endpoints))) + level)


def localities(endpoints: list[bytes], count: int, *, priority: int = 0) -> bytes:
    """Endpoints dealt out to so many localities, as fields of an assignment."""
    dealt = (endpoints[index::count] for index in range(count))
    return b"".join(locality(f"z{index}", zone, priority=priority) for index, zone in enumerate(dealt))


def assignment(endpoints: list[bytes], *, zones: int = 6, name: str) -> bytes:
    """A ClusterLoadAssignment of one priority."""
    return field(1, name.encode()) + localities(endpoints, zones)
