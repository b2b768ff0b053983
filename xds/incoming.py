"""What a response holds, sorted by name before any of it is decoded: what may be, what cannot be, what would have to
be refused as a whole. Knows nothing of what was accepted before.
"""

from collections import Counter
from collections.abc import Generator, Iterator, Mapping
from dataclasses import field
from typing import NamedTuple

from .assignment import read_text
from .envelope import Envelope, open_envelope
from .errors import XdsError
from .fields import checked_text, duration, printable
from .record import record
from .resources import Rejection
from .response import Response

# Opening an envelope takes about 2 us.
_PER_SLICE = 256


class _Item(NamedTuple):
    """One resource of a response. ``label``: its name for people; ``reason``: why it cannot be used, "" otherwise.

    ``certain``: it is the resource of that name, and not perhaps another one.
    """

    name: str
    label: str
    body: Envelope
    ttl: str | None
    reason: str
    certain: bool = False


@record(frozen=False)
class Incoming:
    """``named``: payloads by name. ``heartbeats``: names that come without one and live on. ``ttls``: seconds by name.

    ``unreadable``: a resource has no name that can be trusted: it may be any. ``foreign``: one has another type than
    the response: nothing is to be used, and every resource stands in ``rejected``.
    """

    named: dict[str, bytes] = field(default_factory=dict)
    heartbeats: set[str] = field(default_factory=set)
    ttls: dict[str, float] = field(default_factory=dict)
    rejected: list[Rejection] = field(default_factory=list)
    unreadable: bool = False
    foreign: bool = False


def sort_steps(response: Response, held_version: str) -> Generator[None, None, Incoming]:
    """Sort a response, in slices. ``held_version``: the version of its type that was accepted last, which the
    heartbeats of a response that is the state of the world name.
    """
    made = Incoming()
    items: list[_Item] = []
    for index in range(len(response.resources)):
        items.append(_opened(response, index, held_version))
        if index % _PER_SLICE == _PER_SLICE - 1:
            yield
    items += _heartbeats(response.heartbeats)
    if any(_is_foreign(one, response) for one in items):
        made.foreign, made.rejected = True, list(_all_refused(items, response))
        return made
    counts = Counter(one.name for one in items if not one.reason)
    counts.update(response.removed or ())
    repeated: dict[str, _Item] = {}
    for one in items:
        made.unreadable = made.unreadable or not one.certain
        if one.reason:
            made.rejected.append(_rejection(one, one.reason, response))
        elif counts[one.name] > 1:
            repeated.setdefault(one.name, one)
        else:
            _take(one, made, response)
    # One of two may be another resource with a damaged name.
    made.unreadable = made.unreadable or bool(repeated)
    for one in repeated.values():
        made.rejected.append(_rejection(one, f"named {counts[one.name]} times in one response", response))
    return made


def sort_response(response: Response, held_version: str) -> Incoming:
    """sort_steps all at once."""
    steps = sort_steps(response, held_version)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            made: Incoming = end.value
            return made


def _opened(response: Response, index: int, held_version: str) -> _Item:
    said = response.names[index] if index < len(response.names) else ""
    ttl = response.ttls[index] if index < len(response.ttls) else None
    raw = response.resources[index]
    try:
        body = open_envelope(raw) if raw else Envelope("", b"", has_body=False)
    except XdsError as error:
        unopened = Envelope(response.type_url, raw)
        return _Item(said, _label(said, index, response), unopened, None, error.reason)
    own = read_text(body.payload, 1) if body.has_body else ""
    name = said or body.name or own
    if not _is_name(name):
        reason = "its name holds control characters" if name else "no name"
    elif not body.has_body:
        lives_on = response.removed is None and held_version and response.version == held_version
        reason = "" if lives_on else "it has no body"
    else:
        reason = "" if own == name else f"it calls itself {printable(own)!r}"
    # A heartbeat shows that the response is no complete state, whether it means something to us or not.
    certain = body.has_body and own == name and _is_name(name)
    return _Item(name, _label(name, index, response), body, body.ttl or ttl, reason, certain)


def _heartbeats(named: Mapping[str, str | None]) -> Iterator[_Item]:
    for name, ttl in named.items():
        yield _Item(name, printable(name), Envelope("", b"", name, ttl, has_body=False), ttl, "")


def _take(item: _Item, made: Incoming, response: Response) -> None:
    if item.ttl is not None:
        try:
            made.ttls[item.name] = duration("ttl", item.ttl)
        except ValueError as error:
            made.rejected.append(_rejection(item, str(error), response))
            made.unreadable = True
            return
    if item.body.has_body:
        made.named[item.name] = item.body.payload
    else:
        made.heartbeats.add(item.name)


def _is_foreign(item: _Item, response: Response) -> bool:
    return item.body.has_body and item.body.type_url != response.type_url


def _all_refused(items: list[_Item], response: Response) -> Iterator[Rejection]:
    """Those of another type first: the reason is cut where it grows long."""
    foreign = [one for one in items if _is_foreign(one, response)]
    for one in foreign:
        yield _rejection(one, f"its type is {printable(one.body.type_url) or 'missing'}", response)
    for one in items:
        if not _is_foreign(one, response):
            yield _rejection(one, f"refused together with {foreign[0].label}, which is of another type", response)


def _rejection(item: _Item, reason: str, response: Response) -> Rejection:
    return Rejection(response.type_url, item.label, response.version, reason, item.body.payload)


def _label(name: str, index: int, response: Response) -> str:
    return printable(name) if name else f"(resource {index + 1} of {len(response.resources)})"


def _is_name(name: str) -> bool:
    """Whether a resource may be called so; what may not be is no name that anything could be known by."""
    try:
        return bool(checked_text("name", name))
    except ValueError:
        return False
