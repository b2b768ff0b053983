"""The one exception of the control side."""


class XdsError(Exception):
    """Something from outside cannot be accepted: what kind of thing, its name, and why, in words for an operator.

    ``kind`` is CDS, EDS, LDS, RDS or SDS for a resource, otherwise what was read (``DiscoveryResponse``, ``node``).
    ``resource`` is its name, empty where it has none or the name could not be read.
    """

    def __init__(self, kind: str, resource: str, reason: str) -> None:
        super().__init__(kind, resource, reason)
        self.kind = kind
        self.resource = resource
        self.reason = reason

    def __str__(self) -> str:
        named = f"{self.kind} {self.resource}" if self.resource else self.kind
        return f"{named} rejected: {self.reason}"
