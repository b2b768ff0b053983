"""Where `endpoints`, `explain` and `doctor` get what they talk about: a running proxy's admin, or files. Reads only."""

import json
import urllib.error
import urllib.request
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPException
from itertools import chain, groupby
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote, urlencode, urlsplit

from .cluster_model import ProxyModel
from .dump_folder import read_folder
from .errors import DumpError, NoSuchPageError, UnreachableError
from .read_dump import DumpShapeError, join, read_document, read_documents

# The first dump waits for the process that renders it; one of a large mesh, or on a busy node, takes seconds.
TIMEOUT_S = 30.0
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
        # What the resolver refuses with a ValueError of its own.
        (parts.hostname or "").encode("idna")
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
            return json.load(answer)
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


def load(path: str) -> Any:
    """JSON of a dump file. Raises DumpError."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise DumpError(f"--dump {path}: {error.strerror}") from None
    except RecursionError:
        raise DumpError(f"--dump {path}: not JSON of a dump: it is nested too deeply") from None
    except ValueError as error:
        raise DumpError(f"--dump {path}: not JSON: {error}") from None


class Admin(Protocol):
    """Pages of a running proxy. ``name``: how it is called where something is said of it."""

    @property
    def name(self) -> str: ...
    def read(self, path: str) -> Any: ...


@dataclass(frozen=True, slots=True)
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
