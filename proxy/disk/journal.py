"""The journal of pushes on disk: its files, their frames, and reading them. Decides nothing about what is in them.

A journal is a directory of files `pushes-FIRST.gz`, FIRST being the number of the first push in it. Each file is a
series of gzip members, so `zcat` reads it, and each member is checked by gzip's own checksum and length. A member holds
one line of JSON, the header, and then the bytes of a DiscoveryResponse:

    kind    header                                                        payload
    begin   journal (format), node, first, at, lost                       none
    held    type, version                                                 what was accepted when the file began
    push    push, at, type, version, nonce, protocol, reason, rejected    the response as it came

A file needs no other file. What a crash cut off is the last member, which a reader leaves out and names.
"""

import json
import os
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from eastgate.proxy.errors import EastgateError
from eastgate.xds.record import record

FORMAT = 1
PREFIX, SUFFIX = "pushes-", ".gz"
# Of one member, unpacked: no response of a mesh is that large, and a damaged or foreign file does not take all memory.
MEMBER_BYTES = 1 << 30
READ_BYTES = 1 << 16
# zlib's fastest: assignments shrink to about a twelfth, higher levels take four times as long for a tenth more.
LEVEL = 1
_GZIP = 16 + zlib.MAX_WBITS
_MAGIC = b"\x1f\x8b"


class JournalError(EastgateError):
    """A journal that cannot be read, or does not hold what was asked for: file, place and cause."""


@record
class Frame:
    """One member. ``offset``: of its first byte in the file."""

    header: Mapping[str, Any]
    payload: bytes
    offset: int

    @property
    def kind(self) -> str:
        return str(self.header["kind"])


def packed(header: Mapping[str, Any], payload: bytes = b"") -> bytes:
    """A member, ready to be appended."""
    compressor = zlib.compressobj(LEVEL, wbits=_GZIP)
    line = json.dumps(header, separators=(",", ":")).encode() + b"\n"
    return compressor.compress(line) + compressor.compress(payload) + compressor.flush()


def file_name(first: int) -> str:
    return f"{PREFIX}{first:012d}{SUFFIX}"


def first_of(path: Path) -> int:
    """Number of the first push in the file of that name; 0 when it is none of a journal's."""
    digits = path.name.removeprefix(PREFIX).removesuffix(SUFFIX)
    return int(digits) if path.name == f"{PREFIX}{digits}{SUFFIX}" and digits.isascii() and digits.isdigit() else 0


def files_of(folder: Path) -> list[Path]:
    """The files of a journal, oldest first. Raises OSError."""
    return sorted((path for path in folder.iterdir() if first_of(path)), key=first_of)


def holds_journal(path: Path) -> bool:
    """Whether the path is a journal, by its content: a folder of dumps is none."""
    if not path.is_dir():
        return is_journal(path)
    return any(first_of(one) and is_journal(one) for one in path.iterdir())


def is_journal(path: Path) -> bool:
    """Whether the path looks like a journal rather than a dump."""
    if path.is_dir():
        return True
    try:
        with path.open("rb") as file:
            return file.read(2) == _MAGIC
    except OSError:
        return False


class JournalFile:
    """Frames of one file in order; ``truncated`` says afterwards what the end lacks, empty when it is whole."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.truncated = ""

    def frames(self) -> Iterator[Frame]:
        """Raises JournalError naming file and offset."""
        try:
            with self.path.open("rb") as file:
                yield from self._frames(file)
        except OSError as error:
            raise JournalError(f"{self.path}: cannot be read: {error.strerror}") from None

    def _frames(self, file: BinaryIO) -> Iterator[Frame]:
        data = file.read(READ_BYTES)
        offset, number = 0, 0
        while data:
            number += 1
            content, rest, size = self._member(file, data, offset, number)
            if content is None:
                self.truncated = f"frame {number} at byte {offset} is cut off"
                if number == 1:
                    raise self._damaged(offset, number, "the file ends within its first frame")
                return
            yield self._frame(content, offset, number)
            offset += size
            data = rest or file.read(READ_BYTES)

    def _member(self, file: BinaryIO, data: bytes, offset: int, number: int) -> tuple[bytes | None, bytes, int]:
        """(content, what follows it, size of the member); content is None when the file ends within the member."""
        decompressor = zlib.decompressobj(_GZIP)
        content: list[bytes] = []
        length = size = 0
        try:
            while True:
                size += len(data)
                content.append(decompressor.decompress(data, MEMBER_BYTES - length + 1))
                length += len(content[-1])
                if length > MEMBER_BYTES:
                    raise self._damaged(offset, number, f"it unpacks to more than {MEMBER_BYTES} bytes")
                if decompressor.eof:
                    rest = decompressor.unused_data
                    return b"".join(content), rest, size - len(rest)
                if not (data := file.read(READ_BYTES)):
                    return None, b"", size
        except zlib.error as error:
            reason = "no gzip member" if not content else str(error).rpartition(": ")[2]
            raise self._damaged(offset, number, reason) from None

    def _frame(self, content: bytes, offset: int, number: int) -> Frame:
        line, _, payload = content.partition(b"\n")
        try:
            header = json.loads(line)
            frame = Frame(header, payload, offset)
            if number == 1:
                if frame.kind != "begin":
                    raise KeyError("begin")
                if header["journal"] != FORMAT:
                    raise JournalError(
                        f"{self.path}: is of journal format {header['journal']}, this version reads {FORMAT}"
                    )
            elif frame.kind == "push":
                int(header["push"])
        except (ValueError, KeyError, TypeError):
            raise self._damaged(offset, number, "its header is none of a journal's") from None
        return frame

    def _damaged(self, offset: int, number: int, reason: str) -> JournalError:
        if number == 1:
            return JournalError(f"{self.path}: is not a journal: {reason}")
        return JournalError(f"{self.path}: frame {number} at byte {offset} is damaged: {reason}")


class JournalWriter:
    """Appends to the newest file of a directory. Owned by one thread; the directory by one process."""

    def __init__(self, folder: Path, *, keep: int) -> None:
        self.size = 0
        """Bytes of the file that is written to."""
        self.next_push = 1
        self._folder = folder
        self._keep = keep
        self._descriptor = -1
        self._unsynced = False

    def find_next(self) -> None:
        """Go on counting where the newest file ended. Raises OSError."""
        for path in reversed(files_of(self._folder)):
            self.next_push = max(self.next_push, first_of(path))
            try:
                for frame in JournalFile(path).frames():
                    if frame.kind == "push":
                        self.next_push = max(self.next_push, int(frame.header["push"]) + 1)
            except JournalError:
                # What can still be read of it stays; numbers go on behind.
                self.next_push += 1
            return

    def begin(self, header: Mapping[str, Any], held: Iterator[tuple[Mapping[str, Any], bytes]]) -> None:
        """Start a file with what is held now, and remove those that are too many. Raises OSError."""
        self.close()
        path = self._folder / file_name(self.next_push)
        # A file of that name holds no push: its process ended before one came.
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        self._descriptor = os.open(path, flags, 0o600)
        os.fchmod(self._descriptor, 0o600)
        self.size = 0
        self._append(packed({"kind": "begin", "journal": FORMAT, "first": self.next_push, **header}))
        for each, payload in held:
            self._append(packed({"kind": "held", **each}, payload))
        self.sync()
        for old in files_of(self._folder)[: -self._keep]:
            old.unlink(missing_ok=True)

    def push(self, header: Mapping[str, Any], payload: bytes) -> None:
        """Append a push. Raises OSError; the file is then as before."""
        self._append(packed({"kind": "push", "push": self.next_push, **header}, payload))
        self.next_push += 1

    def sync(self) -> None:
        """Have on disk what was appended. Raises OSError."""
        if self._unsynced and self._descriptor >= 0:
            os.fdatasync(self._descriptor)
            self._unsynced = False

    def close(self) -> None:
        """End the file. Raises OSError."""
        if self._descriptor >= 0:
            try:
                self.sync()
            finally:
                os.close(self._descriptor)
                self._descriptor = -1

    def _append(self, member: bytes) -> None:
        if self._descriptor < 0:
            raise OSError(0, "no file is open")
        written = 0
        try:
            while written < len(member):
                written += os.write(self._descriptor, member[written:])
        except OSError:
            os.ftruncate(self._descriptor, self.size)
            raise
        self.size += written
        self._unsynced = True
