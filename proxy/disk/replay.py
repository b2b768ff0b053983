"""The tables that a gateway had after one push of a journal, rebuilt offline by the code that a running gateway uses.

Opens no sockets.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from eastgate.fastpath.loop.cluster_slots import ClusterSlots
from eastgate.insight.cluster_model import ProxyModel
from eastgate.insight.endpoint_table import padded
from eastgate.insight.snapshot_model import proxy_of
from eastgate.proxy.compile.compiler import Compiler
from eastgate.proxy.role import GATEWAY
from eastgate.xds.decode import CDS, EDS, LDS, RDS, SHORT_NAMES
from eastgate.xds.delta_subscription import DeltaSubscriptions
from eastgate.xds.errors import XdsError
from eastgate.xds.record import record
from eastgate.xds.response import Response
from eastgate.xds.store import Applied, Store
from eastgate.xds.subscription import SotwSubscriptions

from .journal import Frame, JournalError, JournalFile, files_of, first_of

LIST_HEADER = ("PUSH", "TIME", "TYPE", "BYTES", "ANSWER", "VERSION", "REASON")
TYPES = ((CDS, True), (EDS, False), (LDS, True), (RDS, False))


@record
class Push:
    """One push of a journal, without its bytes."""

    number: int
    at: str
    kind: str
    version: str
    nonce: str
    protocol: str
    reason: str
    size: int

    @classmethod
    def of(cls, frame: Frame) -> "Push":
        """Raises KeyError, TypeError and ValueError for a header that lacks something."""
        header = frame.header
        moment(str(header["at"]))
        texts = {name: str(header[name]) for name in ("at", "version", "nonce", "protocol", "reason")}
        return cls(int(header["push"]), kind=str(header["type"]), size=len(frame.payload), **texts)

    @property
    def sentence(self) -> str:
        said = f"rejected: {self.reason}" if self.reason else "accepted"
        return f"push {self.number} of {self.at}: {self.kind} version {self.version or '-'}, {said}"


@record
class Wanted:
    """Which push: the last one up to `number` or `at`, or the last there is. ``before``: the state that it met."""

    number: int = 0
    at: datetime | None = None
    before: bool = False

    def reached(self, push: Push) -> bool:
        """Whether the push comes too late."""
        if self.at is not None:
            return moment(push.at) > self.at
        return bool(self.number) and (push.number >= self.number if self.before else push.number > self.number)


@record(frozen=False)
class Replayed:
    """Where a journal was stopped. ``push``: the last one applied, None when the state is what its file began with.

    ``notes``: what of the journal is missing.
    """

    source: str
    store: Store
    compiler: Compiler
    push: Push | None = None
    node: Mapping[str, Any] | None = None
    notes: tuple[str, ...] = ()

    def model(self) -> ProxyModel:
        return proxy_of(self.store.snapshot, self.source)


def moment(text: str) -> datetime:
    """A time in ISO 8601; UTC where it names no zone. Raises ValueError."""
    at = datetime.fromisoformat(text)
    return at if at.tzinfo else at.replace(tzinfo=UTC)


class Journal:
    """A journal on disk: a directory, or one file of it."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        try:
            self.files = files_of(self.path) if self.path.is_dir() else [self.path]
        except OSError as error:
            raise JournalError(f"{path}: cannot be read: {error.strerror}") from None
        if not self.files:
            raise JournalError(f"{path}: is not a journal: it holds no pushes-*.gz (is it what --record names?)")

    def pushes(self) -> Iterator[Push]:
        """All pushes, oldest first. Raises JournalError."""
        for path in self.files:
            file = JournalFile(path)
            for frame in file.frames():
                if frame.kind == "push":
                    yield checked(file, frame)

    def at(self, wanted: Wanted) -> Replayed:
        """Rebuild the state of one push. Raises JournalError for one that is not there."""
        for index in range(len(self.files) - 1, -1, -1):
            file = JournalFile(self.files[index])
            if index and self._too_late(file, wanted):
                continue
            replayed = self._replay(file, wanted)
            if replayed is None:
                continue
            self._check_found(replayed, wanted)
            return replayed
        raise JournalError(f"{self.path}: it holds nothing complete yet")

    def _too_late(self, file: JournalFile, wanted: Wanted) -> bool:
        """Whether the file begins behind what is wanted."""
        if wanted.number:
            return first_of(file.path) > wanted.number
        if wanted.at is None:
            return False
        begin = next(file.frames(), None)
        try:
            return begin is None or moment(str(begin.header["at"])) > wanted.at
        except (KeyError, ValueError) as error:
            raise JournalError(f"{file.path}: its first frame does not say when it began: {error}") from None

    def _replay(self, file: JournalFile, wanted: Wanted) -> Replayed | None:
        """None for a file that a crash ended before it held anything."""
        # What a journal is replayed for is what a gateway made of it.
        store = Store(router=GATEWAY.routed_only)
        replayed = Replayed(str(self.path), store, Compiler(ClusterSlots()))
        sotw, delta = SotwSubscriptions(TYPES), DeltaSubscriptions(TYPES)
        notes: list[str] = []
        held = 0
        for frame in file.frames():
            if frame.kind == "begin":
                replayed.node = frame.header.get("node")
                if lost := frame.header.get("lost"):
                    notes.append(f"{lost} pushes before {file.path.name} were lost")
                continue
            push = checked(file, frame) if frame.kind == "push" else None
            if push is not None and wanted.reached(push):
                break
            if isinstance(withheld := frame.header.get("withheld"), list):
                notes.append(f"{frame.kind} at byte {frame.offset}: left out for a private key: {withheld}")
            if push is not None and not frame.payload:
                continue
            reader = delta if push is not None and push.protocol == "delta" else sotw
            try:
                response = reader.read(frame.payload)
            except XdsError as error:
                # The gateway ended its stream over it, and kept what it had.
                notes.append(f"{frame.kind} at byte {frame.offset} of {file.path.name}: {error}")
                continue
            if response.type_url not in SHORT_NAMES:
                raise JournalError(f"{file.path}: the push at byte {frame.offset} is of type {response.type_url!r}")
            held += frame.kind == "held"
            take(replayed, response)
            replayed.push = push or replayed.push
        if held < len(TYPES):
            return None
        if file.truncated:
            notes.append(f"{file.path.name}: {file.truncated}: ignored, as after a crash")
        replayed.notes = tuple(notes)
        return replayed

    def _check_found(self, replayed: Replayed, wanted: Wanted) -> None:
        reached = replayed.push.number if replayed.push else 0
        if wanted.at is not None and replayed.push is None:
            first = next(self.pushes(), None)
            if first is None or moment(first.at) > wanted.at:
                raise JournalError(f"{self.path}: nothing is older than {wanted.at.isoformat()}: {self._span()}")
        if wanted.number and wanted.before:
            if all(push.number != wanted.number for push in self.pushes()):
                raise JournalError(f"{self.path}: no push {wanted.number}: {self._span()}")
        elif wanted.number and reached != wanted.number:
            raise JournalError(f"{self.path}: no push {wanted.number}: {self._span()}")

    def _span(self) -> str:
        numbers = [push.number for push in self.pushes()]
        return f"it holds {numbers[0]} to {numbers[-1]}" if numbers else "it holds none"


def checked(file: JournalFile, frame: Frame) -> Push:
    """The push of a frame. Raises JournalError."""
    try:
        return Push.of(frame)
    except (KeyError, TypeError, ValueError) as error:
        raise JournalError(
            f"{file.path}: the push at byte {frame.offset} is damaged: its header lacks or spoils {error}"
        ) from None


def take(replayed: Replayed, response: Response) -> Applied:
    """What the stream does with a response: apply, compile, take back what does not compile."""
    applied = replayed.store.apply_response(response)
    if applied.changed:
        replayed.store.revoke(replayed.compiler.apply(replayed.store.snapshot))
    return applied


def wanted_of(push: int | None, at: str) -> Wanted:
    """The push that flags ask for. Raises JournalError."""
    if push is not None and at:
        raise JournalError("--push and --at: give one of them")
    if push is not None:
        return Wanted(number=push)
    if not at:
        return Wanted()
    try:
        return Wanted(at=moment(at))
    except ValueError:
        raise JournalError(f"--at {at!r}: expected a time such as 2026-03-04T09:12:01Z") from None


def described(replayed: Replayed) -> str:
    return replayed.push.sentence if replayed.push else "before the first push: what the gateway held by then"


def list_text(pushes: Sequence[Push]) -> str:
    """A line for each push."""
    lines = [LIST_HEADER] + [
        (str(one.number), one.at, one.kind, str(one.size), "NACK" if one.reason else "ACK", one.version, one.reason)
        for one in pushes
    ]
    return padded(lines)
