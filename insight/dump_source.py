"""Where `endpoints`, `explain` and `doctor` get what they talk about: a running proxy's admin, or files. Reads only."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from contextlib import suppress
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse, IncompleteRead
from itertools import chain, groupby
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote, urlencode, urlsplit

from eastgate.xds.outside_text import may_be_host
from eastgate.xds.record import record

from .cluster_model import ProxyModel
from .dump_folder import documents_below, read_folder
from .errors import DumpError, NoSuchPageError, UnreachableError
from .read_dump import DumpShapeError, join, read_document, read_documents

# The first dump waits for the process that renders it; one of a large mesh, or on a busy node, takes seconds.
TIMEOUT_S = 30.0
# An answer that is slower or longer is none: a command must end.
ANSWER_S = 300.0
ANSWER_BYTES = 1 << 30
PIECE_BYTES = 1 << 20
# What eastgate says beside its dumps. Envoy has no ledger: its rejections stand in its config_dump.
MORE_PAGES = ("/listeners?format=json", "/debug/xds?state=nacked")


def admin_url(text: str) -> str:
    """The URL of an admin that is named by HOST:PORT or by a URL. Raises ValueError that says what is wrong with it."""
    example = "such as 127.0.0.1:15000"
    if not text.isprintable() or " " in text or not text.isascii():
        raise ValueError(f"expected HOST:PORT or a URL without blanks, {example}")
    scheme, mark, _ = text.partition("://")
    url = text if mark else f"http://{text}"
    if mark and scheme not in ("http", "https"):
        raise ValueError(f"{scheme}:// is not what an admin speaks; expected HOST:PORT or a URL, {example}")
    try:
        parts = urlsplit(url)
        port = parts.port
        if parts.hostname and not may_be_host(parts.hostname):
            raise ValueError(f"{parts.hostname!r} is no name of a host")
    except ValueError as error:
        raise ValueError(f"no address: {error}; expected HOST:PORT or a URL, {example}") from None
    if not parts.hostname or port == 0 or parts.username is not None or parts.query or parts.fragment:
        raise ValueError(f"expected HOST:PORT or a URL, {example}")
    return url.rstrip("/")


def with_query(url: str, **query: str | None) -> str:
    """The URL with a query, of what is not empty."""
    chosen = {name: value for name, value in query.items() if value}
    return f"{url}?{urlencode(chosen, quote_via=quote)}" if chosen else url


def fetch(url: str) -> Any:
    """JSON of an admin page. Raises UnreachableError."""
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:
            return json.loads(_whole(answer))
    except urllib.error.HTTPError as error:
        failure = NoSuchPageError if error.code == HTTPStatus.NOT_FOUND else UnreachableError
        raise failure(f"{url}: answered {error.code} {error.reason} (is that an admin address?)") from None
    except HTTPException as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UnreachableError(f"{url}: what listens there speaks no HTTP ({reason}): is it a gRPC port?") from None
    except (urllib.error.URLError, TimeoutError, OSError) as error:
        cause = error.reason if isinstance(error, urllib.error.URLError) else error
        raise UnreachableError(f"{url}: no answer: {cause} (is the proxy running, and its admin there?)") from None
    except (ValueError, RecursionError):
        raise UnreachableError(f"{url}: the answer is not JSON (is that an admin address?)") from None


def _whole(answer: HTTPResponse) -> bytes:
    """The body. Raises HTTPException for one that ends early, TimeoutError for one that does not end."""
    end = time.monotonic() + ANSWER_S
    body = bytearray()
    # At most one read of the socket at a time, so that a byte now and then does not hold us here.
    while piece := answer.read1(PIECE_BYTES):
        body += piece
        if len(body) > ANSWER_BYTES:
            raise TimeoutError(f"more than {ANSWER_BYTES >> 20} MiB came, and no end")
        if time.monotonic() > end:
            raise TimeoutError(f"the answer did not end within {ANSWER_S:.0f} s")
    # read1 says nothing of a body that was cut.
    if answer.length:
        raise IncompleteRead(bytes(body), answer.length)
    return bytes(body)


def load(path: str) -> Any:
    """JSON of a dump file. Raises DumpError."""
    try:
        return json.loads(Path(path).read_bytes())
    except OSError as error:
        raise DumpError(f"--dump {path}: {error.strerror}") from None
    except RecursionError:
        raise DumpError(f"--dump {path}: not JSON of a dump: it is nested too deeply") from None
    except ValueError as error:
        raise DumpError(f"--dump {path}: not JSON: {error}") from None


def documents(dumps: Sequence[str]) -> list[tuple[str, Any]]:
    """What the dump files say, and the dumps in folders, each with where it stands. Raises DumpError."""
    found: list[tuple[str, Any]] = []
    for path in dumps:
        if Path(path).is_dir():
            below = [(f"--dump {file}", document) for file, document in documents_below(path)]
            found += below or [(f"--dump {path}", None)]
        else:
            found.append((f"--dump {path}", load(path)))
    return found


class Admin(Protocol):
    """Pages of a running proxy. ``name``: how it is called where something is said of it."""

    @property
    def name(self) -> str: ...
    def read(self, path: str) -> Any: ...


@record
class UrlAdmin:
    """An admin at a URL without a slash at its end."""

    name: str

    def read(self, path: str) -> Any:
        """JSON of a page. Raises UnreachableError, and NoSuchPageError where the proxy has no such page."""
        return fetch(self.name + path)


def live_proxy(admin: Admin | str, *, more: bool = False) -> ProxyModel:
    """A running proxy: its configuration, joined with what it found out by itself. A text is a URL.

    ``more``: with what its other pages say, as far as it has them. Raises InsightError.
    """
    asked = UrlAdmin(admin.rstrip("/")) if isinstance(admin, str) else admin
    try:
        live = read_document(asked.read("/clusters?format=json"), asked.name)
        proxy = join(read_document(asked.read("/config_dump?include_eds"), asked.name), live)
        for path in MORE_PAGES if more else ():
            with suppress(NoSuchPageError):
                proxy = join(proxy, read_document(asked.read(path), asked.name))
        return proxy
    except DumpShapeError as error:
        raise DumpError(str(error)) from None


def proxies(admin: Admin | str, dumps: Sequence[str], *, more: bool = False) -> tuple[ProxyModel, ...]:
    """The proxies of the dump files and folders, or the running one when there are none; ``more`` as in live_proxy.

    Raises InsightError.
    """
    if not dumps:
        return (live_proxy(admin, more=more),)
    found: list[ProxyModel] = []
    try:
        for is_folder, paths in groupby(dumps, lambda path: Path(path).is_dir()):
            if is_folder:
                found += chain.from_iterable(map(read_folder, paths))
            else:
                found += read_documents([(f"--dump {path}", load(path)) for path in paths])
    except DumpShapeError as error:
        raise DumpError(str(error)) from None
    return tuple(found)
