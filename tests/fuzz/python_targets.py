"""What coverage-guided fuzzing calls where Python is in between: any bytes give an answer or an XdsError.

guided.py gives these functions to the fuzzer, tests call them with the inputs that are kept.
"""

from collections.abc import Callable, Iterator

from eastgate.fastpath.match import http_head as http_head_parser
from eastgate.xds.assignment import decode_assignment, read_text
from eastgate.xds.decode import CDS, EDS, LDS, RDS
from eastgate.xds.errors import XdsError
from eastgate.xds.message import read
from eastgate.xds.schema import MESSAGES
from eastgate.xds.store import Applied, Store
from eastgate.xds.subscription import Response, SotwSubscriptions
from eastgate.xds.wire import unknown_fields

from .prefixes import check_prefixes

NAMES = tuple(sorted(MESSAGES))
TYPES = ((CDS, True), (EDS, False), (LDS, True), (RDS, False))
HEAD_LIMIT = 16384
# Each of a case's responses is framed by its length.
FRAME = 3


def check_error(error: XdsError) -> None:
    """A reason is one line, whatever it quotes: it goes into the log and to istiod."""
    assert error.reason
    assert error.reason.isprintable(), error.reason


def wire(data: bytes) -> None:
    """Read a message of the schema. Two bytes say which, the rest is the message."""
    name = NAMES[int.from_bytes(data[:2], "little") % len(NAMES)]
    try:
        unknown_fields(read(name, data[2:]))
    except XdsError as error:
        check_error(error)


def assignment(data: bytes) -> None:
    """Read a ClusterLoadAssignment."""
    read_text(data, 1)
    try:
        columns = decode_assignment(data).columns
    except XdsError as error:
        check_error(error)
        return
    assert columns.count <= len(data)


def http_head(data: bytes) -> None:
    """Read the head of a first HTTP request, whole and at prefixes that the fuzzer chooses by what it writes."""
    lengths = {data[at] * len(data) >> 8 for at in range(min(len(data), 8))}
    for parse in (http_head_parser.parse, http_head_parser.inspect_bytes):
        found = check_prefixes(parse, data, limit=HEAD_LIMIT, lengths=lengths)
        assert found.authority.isascii()
        assert found.authority == found.authority.lower()


def framed(responses: list[bytes]) -> bytes:
    """The input of `responses` for some payloads of a stream."""
    return b"".join(len(one).to_bytes(FRAME, "little") + one for one in responses)


def payloads(data: bytes) -> Iterator[bytes]:
    while len(data) > FRAME:
        size = int.from_bytes(data[:FRAME], "little")
        yield data[FRAME : FRAME + size]
        data = data[FRAME + size :]


def responses(data: bytes) -> None:
    """Feed whole responses of a stream to a store, as ads.py does. What was accepted stays unless it is taken away."""
    store, subscriptions = Store(router=False), SotwSubscriptions(TYPES)
    for payload in payloads(data):
        before = store.snapshot
        try:
            response = subscriptions.read(payload)
        except XdsError as error:
            check_error(error)
            assert store.snapshot is before
            continue
        if response.type_url not in dict(TYPES):
            continue
        applied = store.apply(response.type_url, response.version, response.resources)
        check_applied(store, response, applied, before.generation)


def check_applied(store: Store, response: Response, applied: Applied, generation: int) -> None:
    snapshot = store.snapshot
    assert (snapshot.generation > generation) == applied.changed
    assert set(snapshot.assignments) <= {one.assignment_name for one in snapshot.clusters.values()}
    assert set(snapshot.routes) | snapshot.missing_routes == set(store.wanted_routes)
    assert (applied.reason == "") == (not applied.rejected)
    assert len(applied.rejected) + len(applied.accepted) <= len(response.resources)
    for one in applied.rejected:
        assert one.reason


TARGETS: dict[str, Callable[[bytes], None]] = {
    "http_head": http_head,
    "wire": wire,
    "assignment": assignment,
    "responses": responses,
}
