"""Where `endpoints`, `explain` and `doctor` get what they talk about: a running proxy's admin, or files. Reads only."""

import json
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eastgate.insight.cluster_model import ProxyModel
from eastgate.insight.read_dump import DumpShapeError, join, read_document, read_documents
from eastgate.proxy.errors import DumpError, UnreachableError

TIMEOUT_S = 5.0


def fetch(url: str) -> Any:
    """JSON of an admin page. Raises UnreachableError or DumpError."""
    if not url.startswith(("http://", "https://")):
        raise DumpError(f"--admin {url!r}: expected a URL such as http://127.0.0.1:15000")
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        raise UnreachableError(f"{url}: answered {error.code} {error.reason} (is that an admin address?)") from None
    except (urllib.error.URLError, TimeoutError, OSError) as error:
        reason = getattr(error, "reason", error)
        raise UnreachableError(f"{url}: no answer: {reason} (is the proxy running, and its admin there?)") from None
    except ValueError:
        raise UnreachableError(f"{url}: the answer is not JSON (is that an admin address?)") from None


def load(path: str) -> Any:
    """JSON of a dump file. Raises DumpError."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise DumpError(f"--dump {path}: {error.strerror}") from None
    except ValueError as error:
        raise DumpError(f"--dump {path}: not JSON: {error}") from None


def live_proxy(admin: str) -> ProxyModel:
    """A running proxy: its configuration, joined with what it found out by itself."""
    admin = admin.rstrip("/")
    try:
        live = read_document(fetch(f"{admin}/clusters?format=json"), admin)
        return join(read_document(fetch(f"{admin}/config_dump?include_eds"), admin), live)
    except DumpShapeError as error:
        raise DumpError(str(error)) from None


def proxies(admin: str, dumps: Sequence[str]) -> tuple[ProxyModel, ...]:
    """The proxies of the dump files, or the running one when there are none. Raises EastgateError."""
    if not dumps:
        return (live_proxy(admin),)
    try:
        return read_documents([(f"--dump {path}", load(path)) for path in dumps])
    except DumpShapeError as error:
        raise DumpError(str(error)) from None
