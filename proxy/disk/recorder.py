"""Every push into a journal, on a thread of its own: a disk that stalls holds up nobody; it costs pushes, which are
counted. After a loss the journal goes on in a new file, so that what it says stays true.
"""

import asyncio
import fcntl
import os
import threading
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from eastgate.proxy.control_errors import ControlErrors, Part
from eastgate.proxy.errors import SettingsError
from eastgate.proxy.log import Log
from eastgate.proxy.sensitive import holds_secret
from eastgate.xds.ads import Push
from eastgate.xds.decode import CDS, EDS, LDS, RDS, SHORT_NAMES, read_text
from eastgate.xds.delta_subscription import DELTA_RESPONSE
from eastgate.xds.errors import XdsError
from eastgate.xds.message import encode, read
from eastgate.xds.record import record
from eastgate.xds.resources import Snapshot
from eastgate.xds.subscription import DISCOVERY_RESPONSE

from .journal import JournalWriter

# What may wait for a slow disk: a few complete states of a large mesh.
QUEUE_BYTES = 64 << 20
# How long close() waits for what is queued.
CLOSE_S = 5.0
# How long after a failed write the next file is tried.
RETRY_S = 10.0
# Rejections told by push; the reason of the NACK names the first of them too.
REJECTED_SHOWN = 100


@record
class _Begin:
    """A new file, with what is held. ``lost``: pushes since the last file that are in none."""

    snapshot: Snapshot
    at: str
    lost: int


@record
class _Write:
    push: Push
    at: str


def at_now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def without_keys(payload: bytes, protocol: str) -> tuple[bytes, list[str]]:
    """The response without resources that hold a key, password or token, and what these are called."""
    if not holds_secret(payload):
        return payload, []
    kind = DELTA_RESPONSE if protocol == "delta" else DISCOVERY_RESPONSE
    message = read(kind, payload)
    kept, names = [], []
    for one in message.get("resources", ()):
        resource = one.get("resource", b"") if protocol == "delta" else one
        if holds_secret(resource):
            value = read("google.protobuf.Any", resource).get("value", b"")
            names.append(read_text(value, 1))
        else:
            kept.append(one)
    return encode(kind, {**message, "resources": kept}), names


def held_frames(snapshot: Snapshot) -> Iterator[tuple[Mapping[str, Any], bytes]]:
    """What is accepted, as one response per type, in the order in which they are to be applied."""
    held: tuple[tuple[str, Mapping[str, Any]], ...] = (
        (CDS, snapshot.clusters),
        (EDS, snapshot.assignments),
        (LDS, snapshot.listeners),
        (RDS, snapshot.routes),
    )
    for type_url, resources in held:
        version = snapshot.versions.get(type_url, "")
        every = (encode("google.protobuf.Any", {"type_url": type_url, "value": one.raw}) for one in resources.values())
        packed = [one for one in every if not holds_secret(one)]
        response = {"version_info": version, "resources": packed, "type_url": type_url}
        yield {"type": SHORT_NAMES[type_url], "version": version}, encode(DISCOVERY_RESPONSE, response)


class Recorder:
    """The journal of one stream. Made, fed and closed by the loop; `_run` is on the thread."""

    def __init__(
        self,
        folder: str,
        node: Mapping[str, Any],
        *,
        file_bytes: int,
        keep: int,
        errors: ControlErrors | None = None,
    ) -> None:
        self._errors = errors if errors is not None else ControlErrors()
        self.recorded = 0
        """Pushes in the journal. Written by the thread only."""
        self.lost = 0
        """Pushes that are in no file: the disk was too slow. Written by the loop only."""
        self.failed = 0
        """Pushes that the disk did not take. Written by the thread only."""
        self._node = dict(node)
        self._file_bytes = file_bytes
        self._path = Path(folder)
        self._log = Log("journal")
        self._writer = JournalWriter(self._path, keep=keep)
        # Its put takes no lock that the thread could hold while it waits for the interpreter. None ends the thread.
        self._queue: SimpleQueue[_Begin | _Write | None] = SimpleQueue()
        self._put_bytes = 0
        self._taken_bytes = 0
        self._lost_told = 0
        self._gap = False
        self._broken = False
        self._retry_s = 0.0
        self._rotating = False
        self._closing = False
        self._lock = self._locked()
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)

    def begin(self, snapshot: Snapshot) -> None:
        """Start, with what is held before the first push."""
        self._begin(snapshot)
        self._thread.start()

    def record(self, push: Push, snapshot: Snapshot) -> None:
        """Queue a push; `snapshot` is what is held after it. Never waits for the disk."""
        now_s = asyncio.get_running_loop().time()
        queued_bytes = self._put_bytes - self._taken_bytes
        if self._gap or self._broken:
            # This push is in no file, but what came of it is in the next one.
            self.lost += 1
            if now_s < self._retry_s and self._broken:
                return
            if queued_bytes == 0:
                self._retry_s = now_s + RETRY_S
                self._gap = self._broken = False
                self._begin(snapshot)
            return
        if queued_bytes and queued_bytes + len(push.payload) > QUEUE_BYTES:
            self.lost += 1
            self._gap = True
            return
        self._put_bytes += len(push.payload)
        self._queue.put(_Write(push, at_now()))
        if self._writer.size >= self._file_bytes and not self._rotating:
            self._begin(snapshot)

    def counters(self) -> tuple[int, int, int]:
        """(recorded, lost, failed)"""
        return self.recorded, self.lost, self.failed

    def close(self) -> None:
        """Write what is queued, but wait for it no longer than CLOSE_S. A second call does nothing."""
        if not self._closing:
            self._closing = True
            self._queue.put(None)
        if self._thread.ident is not None:
            self._thread.join(CLOSE_S)
        if self._thread.is_alive():
            queued_bytes = self._put_bytes - self._taken_bytes
            self._log.error("journal is stuck, pushes are lost", path=str(self._path), bytes=queued_bytes)

    def _begin(self, snapshot: Snapshot) -> None:
        self._rotating = True
        self._queue.put(_Begin(snapshot, at_now(), self.lost - self._lost_told))
        self._lost_told = self.lost

    def _locked(self) -> int:
        """Keep other processes away. Raises SettingsError."""
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SettingsError("--record", str(self._path), "another process records there") from None
        except OSError as error:
            raise SettingsError("--record", str(self._path), error.strerror or str(error)) from None
        return descriptor

    # On the thread.

    def _run(self) -> None:
        try:
            self._writer.find_next()
        except OSError as error:
            self._complain(error)
        while True:
            if self._queue.empty():
                self._sync()
            item = self._queue.get()
            if item is None:
                break
            self._take(item)
            if isinstance(item, _Write):
                self._taken_bytes += len(item.push.payload)
        try:
            self._writer.close()
        except OSError as error:
            self._complain(error)
        os.close(self._lock)

    def _sync(self) -> None:
        try:
            self._writer.sync()
        except OSError as error:
            self._complain(error)

    def _take(self, item: _Begin | _Write) -> None:
        with self._errors.guard(Part.DISK, str(self._path)) as edge:
            self._try_take(item)
        if edge.error is not None:
            # As a disk that fails: what is whole stays, and a new file is begun later.
            self.failed += isinstance(item, _Write)
            self._broken = True

    def _try_take(self, item: _Begin | _Write) -> None:
        try:
            if isinstance(item, _Begin):
                try:
                    self._writer.begin(
                        {"at": item.at, "node": self._node, "lost": item.lost}, held_frames(item.snapshot)
                    )
                finally:
                    self._rotating = False
            else:
                self._write(item)
        except OSError as error:
            self.failed += isinstance(item, _Write)
            self._complain(error)

    def _write(self, item: _Write) -> None:
        if self._broken:
            self.failed += 1
            return
        push = item.push
        try:
            payload, withheld = without_keys(push.payload, push.protocol)
        except XdsError:
            # It cannot be taken apart, and holds what looks like a key.
            payload, withheld = b"", ["everything"]
        header: dict[str, Any] = {
            "at": item.at,
            "type": SHORT_NAMES[push.type_url],
            "version": push.version,
            "nonce": push.nonce,
            "protocol": push.protocol,
            "reason": push.reason,
            "rejected": [[SHORT_NAMES[one.type_url], one.name] for one in push.rejected[:REJECTED_SHOWN]],
        }
        if withheld:
            header["withheld"] = withheld
        self._writer.push(header, payload)
        self.recorded += 1

    def _complain(self, error: OSError) -> None:
        if not self._broken:
            self._log.error("journal cannot be written", path=str(self._path), reason=error.strerror or str(error))
        self._broken = True
