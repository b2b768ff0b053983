"""One response of a discovery service, whatever the variant of the protocol that it came by."""

from collections.abc import Mapping, Sequence
from dataclasses import field

from .record import record


@record
class Response:
    """What a response of either variant says.

    ``resources``: Anys. ``names``: what the server calls each of them, empty where it does not say. ``ttls``: how long
    each stays unless it is sent again, as Durations of the wire reader, None for ever. ``removed``: None when the
    resources are all that was asked for (state of the world). ``versions``: of each resource, where the server versions
    them one by one. ``heartbeats``: names of resources that are only said to live on, with their ttl.
    """

    type_url: str
    version: str
    nonce: str = ""
    resources: Sequence[bytes] = ()
    names: Sequence[str] = ()
    removed: Sequence[str] | None = None
    versions: Mapping[str, str] | None = None
    ttls: Sequence[str | None] = ()
    heartbeats: Mapping[str, str | None] = field(default_factory=dict)
