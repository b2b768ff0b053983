"""The last good configuration on disk, to serve before a control plane answers. Decodes nothing, serves nothing.

File `last-good.state`, mode 0600, replaced as a whole: a line `eastgate-state FORMAT SHA256`, a line of JSON saying
whose configuration it is, then one DiscoveryResponse per type, each after its length in 8 bytes. The digest covers all
that follows the first line. The file's modification time is when istiod was last known to stand behind it.
"""

import hashlib
import json
import os
import stat
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eastgate.proxy.sensitive import holds_secret
from eastgate.xds.decode import CDS, EDS, LDS, RDS
from eastgate.xds.errors import XdsError
from eastgate.xds.message import encode, read
from eastgate.xds.record import record
from eastgate.xds.resources import Snapshot
from eastgate.xds.response import Response
from eastgate.xds.subscription import DISCOVERY_RESPONSE

NAME = "last-good.state"
DAMAGED = NAME + ".damaged"
FORMAT = 2
# Format 1 had no routes.
_READABLE = (b"1", b"2")
_MAGIC = b"eastgate-state"
# Who may write it besides its owner decides what is served.
_FOREIGN_WRITERS = stat.S_IWGRP | stat.S_IWOTH


class StateError(Exception):
    """A state file that is not served, and why. ``damaged``: it holds nothing that could be."""

    def __init__(self, reason: str, *, damaged: bool = False) -> None:
        super().__init__(reason)
        self.damaged = damaged


@record
class SavedState:
    """What a file held: responses in the order in which they are to be applied, and how old they are."""

    responses: tuple[Response, ...]
    age_s: float


class StateFile:
    """The file in one directory. ``identity``: what of the node decides the configuration; another's is not served."""

    def __init__(self, folder: str, identity: Mapping[str, Any], *, max_age_s: float) -> None:
        self.path = Path(folder) / NAME
        self._identity = json.loads(json.dumps(identity))
        self._max_age_s = max_age_s

    def load(self) -> SavedState | None:
        """Read the file; None when there is none. Raises StateError; a damaged file has then been moved aside."""
        try:
            with open(os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
                status = os.fstat(file.fileno())
                if reason := why_foreign(status):
                    raise StateError(reason)
                content = file.read()
            # A file outlives every monotonic clock.
            now_s = time.time()  # noqa: TID251
            age_s = max(0.0, now_s - status.st_mtime)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StateError(f"cannot be read: {error.strerror}") from None
        try:
            identity, responses = _parse(content)
        except StateError as error:
            if not error.damaged:
                raise
            aside = self.path.with_name(DAMAGED)
            try:
                os.replace(self.path, aside)
            except OSError as move:
                raise StateError(f"{error}; cannot be moved aside: {move.strerror}", damaged=True) from None
            raise StateError(f"{error}; moved to {aside}", damaged=True) from None
        if identity != self._identity:
            names = sorted(key for key in {*identity, *self._identity} if identity.get(key) != self._identity.get(key))
            raise StateError(f"is of another node: {', '.join(names)} differ")
        if age_s > self._max_age_s:
            raise StateError(f"is {age_s:.0f} s old, more than {self._max_age_s:g} s")
        return SavedState(responses, age_s)

    def save(self, snapshot: Snapshot) -> None:
        """Replace the file. Called from any thread, one at a time. Raises OSError; the former file is then intact."""
        body = [json.dumps(self._identity, sort_keys=True).encode() + b"\n"]
        kept: tuple[tuple[str, Mapping[str, Any]], ...] = (
            (CDS, snapshot.clusters),
            (EDS, snapshot.assignments),
            (LDS, snapshot.listeners),
            *([(RDS, snapshot.routes)] if snapshot.routes else []),
        )
        for type_url, resources in kept:
            every = (
                encode("google.protobuf.Any", {"type_url": type_url, "value": one.raw}) for one in resources.values()
            )
            # A key that came inside a resource instead of by SDS: such a resource is left out.
            packed = [one for one in every if not holds_secret(one)]
            version = snapshot.versions.get(type_url, "")
            value = {"version_info": version, "resources": packed, "type_url": type_url}
            response = encode(DISCOVERY_RESPONSE, value)
            body += [len(response).to_bytes(8), response]
        digest = hashlib.sha256()
        for part in body:
            digest.update(part)
        first = b"%s %d %s\n" % (_MAGIC, FORMAT, digest.hexdigest().encode())
        draft = self.path.with_name(f".{NAME}.new")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with open(descriptor, "wb") as file:
            os.fchmod(descriptor, 0o600)
            file.writelines((first, *body))
            file.flush()
            os.fsync(descriptor)
        os.replace(draft, self.path)

    def confirm(self) -> None:
        """Note that istiod still stands behind what was saved."""
        os.utime(self.path)


def why_foreign(status: os.stat_result) -> str:
    """Why a file or directory is not this user's alone to write to; empty when it is."""
    if status.st_uid not in (os.geteuid(), 0):
        return f"belongs to user {status.st_uid}, not to user {os.geteuid()} who runs this"
    if status.st_mode & _FOREIGN_WRITERS:
        return f"can be written to by others (mode {stat.S_IMODE(status.st_mode):04o}): chmod go-w"
    return ""


def _parse(content: bytes) -> tuple[dict[str, Any], tuple[Response, ...]]:
    first, _, rest = content.partition(b"\n")
    words = first.split(b" ")
    if len(words) != 3 or words[0] != _MAGIC:
        raise StateError("is no state file", damaged=True)
    if words[1] not in _READABLE:
        raise StateError(f"has format {words[1].decode('ascii', 'replace')}, this version reads {FORMAT}")
    if hashlib.sha256(rest).hexdigest().encode() != words[2]:
        raise StateError("is damaged: its checksum does not match", damaged=True)
    header, _, body = rest.partition(b"\n")
    responses = []
    try:
        while body:
            end = 8 + int.from_bytes(body[:8])
            message, body = read(DISCOVERY_RESPONSE, body[8:end]), body[end:]
            responses.append(
                Response(message["type_url"], message.get("version_info", ""), "", message.get("resources", ()))
            )
        identity = json.loads(header)
    except (XdsError, ValueError, KeyError) as error:
        raise StateError(f"is damaged: {error}", damaged=True) from None
    return identity, tuple(responses)
