from .resources import Assignment

def decode_assignment(raw: bytes, /, kind: str = "EDS", resource: str = "") -> Assignment:
    """Read a ClusterLoadAssignment.

    Endpoints come in message order; of endpoints with the same address the first stays, as in Envoy, over all
    localities and priorities. Where the kind is not EDS it has their weights too, as far as they are of its priority
    and health: Envoy picks each of them. Fields that eastgate does not use are skipped unread. Raises
    XdsError(kind, resource or the message's own cluster_name, reason) for bytes that are no such message, with the byte
    offset, and for content that Envoy rejects or that cannot be honoured.
    """

def read_text(raw: bytes, field: int, /) -> str:
    """The string in top-level field `field` as far as it can be read, "" otherwise. Never raises: it names broken
    resources in errors.
    """
