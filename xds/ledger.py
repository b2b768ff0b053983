"""Who was accepted, who was rejected, when and why, by resource. Told by the stream; decides nothing, opens nothing.

What is kept per resource is one reference to what came with it, however often it comes: resources of one response
share it. A resource that left the configuration leaves the ledger.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping

from .decode import CDS, EDS, LDS, RDS, SDS
from .record import record
from .resources import Rejection, Snapshot

# What of a reason is kept for as long as the resource lives.
REASON_LIMIT = 512

TYPES = (CDS, EDS, LDS, RDS, SDS)
ACKED, NACKED, REQUESTED, RESTORED = "ACKED", "NACKED", "REQUESTED", "RESTORED"
STATES = (ACKED, NACKED, REQUESTED, RESTORED)

Wanted = Mapping[str, frozenset[str]]
"""Names that were asked for, by type."""


@record
class Accepted:
    """The response that a resource was last accepted from; ``at_s`` is loop time."""

    version: str
    nonce: str
    at_s: float


@record
class Rejected:
    """The response that a resource was last rejected from."""

    version: str
    nonce: str
    at_s: float
    reason: str


@record
class Line:
    """One resource. ``state``: ACKED; NACKED while the newest version is not the one that serves; REQUESTED when it was
    asked for and never came; RESTORED when it is served from the last good configuration on disk.
    """

    type_url: str
    name: str
    state: str
    accepted: Accepted | None
    rejected: Rejected | None


class Ledger:
    """Owned by the loop of the stream that feeds it."""

    def __init__(self) -> None:
        self._accepted: dict[str, dict[str, Accepted]] = {type_url: {} for type_url in TYPES}
        self._rejected: dict[str, dict[str, Rejected]] = {type_url: {} for type_url in TYPES}
        self.rejections = dict.fromkeys(TYPES, 0)
        """Rejected versions of resources so far, by type."""
        self.assignments_accepted: Counter[str] = Counter()
        """How often each assignment came and was accepted, changed or not."""
        self.assignments_rejected: Counter[str] = Counter()

    def note(
        self,
        type_url: str,
        version: str,
        nonce: str,
        at_s: float,
        *,
        accepted: Iterable[str],
        rejected: Collection[Rejection] = (),
        versions: Mapping[str, str] | None = None,
    ) -> None:
        """Note what became of a response. ``versions``: of single resources, where the server gives them their own."""
        refused = {one.name for one in rejected}
        shared = Accepted(version, nonce, at_s)
        names = [name for name in accepted if name not in refused]
        book = self._accepted[type_url]
        if versions is None:
            book.update(dict.fromkeys(names, shared))
        else:
            by_version = {version: shared}
            for name in names:
                own = versions.get(name) or version
                book[name] = by_version.get(own) or by_version.setdefault(own, Accepted(own, nonce, at_s))
        if type_url == EDS:
            self.assignments_accepted.update(names)
            self.assignments_rejected.update(refused)
        self.rejections[type_url] += len(rejected)
        for one in rejected:
            # A compiler may lay the fault with a resource of another type.
            own = (versions or {}).get(one.name) or version
            self._rejected[one.type_url][one.name] = Rejected(own, nonce, at_s, one.reason[:REASON_LIMIT])

    def forget(self, snapshot: Snapshot) -> None:
        """Drop whatever is no longer held, nor being rejected."""
        refused = {(one.type_url, one.name) for one in snapshot.rejections}
        for type_url, held in _held(snapshot).items():
            book = self._accepted[type_url]
            if len(book) > len(held):
                self._accepted[type_url] = {name: one for name, one in book.items() if name in held}
                if type_url == EDS:
                    for counted in (self.assignments_accepted, self.assignments_rejected):
                        for name in [name for name in counted if name not in held]:
                            del counted[name]
            for name in [name for name in self._rejected[type_url] if name not in held]:
                if (type_url, name) not in refused:
                    del self._rejected[type_url][name]

    def counts(self, snapshot: Snapshot, wanted: Wanted) -> dict[str, dict[str, int]]:
        """How many resources of each type are in each state. ``wanted``: names that are subscribed to."""
        found = {}
        for type_url, held in _held(snapshot).items():
            nacked = {one.name for one in snapshot.rejections if one.type_url == type_url}
            known = self._accepted[type_url].keys()
            requested = wanted.get(type_url, frozenset()).difference(held, nacked)
            restored = len(held) - len(known & held) - sum(name in held and name not in known for name in nacked)
            acked = len(known & held) - sum(name in known and name in held for name in nacked)
            found[type_url] = {ACKED: acked, NACKED: len(nacked), REQUESTED: len(requested), RESTORED: restored}
        return found

    def lines(self, snapshot: Snapshot, wanted: Wanted) -> Iterator[Line]:
        """All resources by type and name. Made from copies: the ledger may go on meanwhile."""
        books = {type_url: (dict(book), dict(self._rejected[type_url])) for type_url, book in self._accepted.items()}
        refused = {(one.type_url, one.name) for one in snapshot.rejections}
        return _lines(snapshot, wanted, books, refused)


def _held(snapshot: Snapshot) -> dict[str, Mapping[str, object]]:
    return {
        CDS: snapshot.clusters,
        EDS: snapshot.assignments,
        LDS: snapshot.listeners,
        RDS: snapshot.routes,
        SDS: dict.fromkeys(snapshot.secret_names),
    }


def _lines(
    snapshot: Snapshot,
    wanted: Wanted,
    books: Mapping[str, tuple[Mapping[str, Accepted], Mapping[str, Rejected]]],
    refused: Collection[tuple[str, str]],
) -> Iterator[Line]:
    for type_url, held in _held(snapshot).items():
        accepted, rejected = books[type_url]
        asked = wanted.get(type_url, frozenset())
        being_rejected = {name for kind, name in refused if kind == type_url}
        for name in sorted({*held, *asked, *being_rejected}):
            one = accepted.get(name) if name in held else None
            if name in being_rejected:
                state = NACKED
            elif one is not None:
                state = ACKED
            else:
                state = RESTORED if name in held else REQUESTED
            yield Line(type_url, name, state, one, rejected.get(name))
