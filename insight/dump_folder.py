"""Dumps in a folder: which files belong to one proxy. Reads files; what is in them is for read_dump.

One folder with one config_dump is one proxy, whatever its files are called, so that a folder for each proxy always
works. Where a folder has several config_dumps, files belong together that have the same name but for the word that says
what they are: `client.config_dump.json` and `client.clusters.json`, or `clusters-client.json`.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .cluster_model import ProxyModel
from .errors import DumpError
from .read_dump import DumpShapeError, join, read_document

KIND = re.compile(r"(config_?dump|clusters|listeners|ledger|xds)(\?[^.]*)?", re.IGNORECASE)
SEPARATORS = "-_. "
# Of what people keep beside dumps, what may be JSON: an admin's answers are saved under any name.
ENDINGS = (".json", ".txt", "")


def read_folder(folder: str) -> tuple[ProxyModel, ...]:
    """The proxies whose dumps lie in the folder, or below it. Raises DumpError where there is none."""
    found: list[ProxyModel] = []
    root = Path(folder)
    try:
        below = sorted({root, *(path.parent for path in root.rglob("*") if path.is_file())})
        for one in below:
            found += proxies_of(one, root)
    except OSError as error:
        raise DumpError(f"--dump {error.filename or folder}: {error.strerror}") from None
    if not found:
        raise DumpError(f"--dump {folder}: no config_dump and no /clusters JSON in it")
    return tuple(found)


def documents_below(folder: str) -> Iterator[tuple[Path, Any]]:
    """The dumps in a folder and below it, each with its file. Raises DumpError."""
    try:
        for path in sorted(Path(folder).rglob("*")):
            if (document := document_of(path)) is not None:
                yield path, document
    except OSError as error:
        raise DumpError(f"--dump {error.filename or folder}: {error.strerror}") from None


def proxies_of(folder: Path, root: Path) -> Iterator[ProxyModel]:
    """The proxies of the files in one folder."""
    documents = [(path, document) for path in sorted(folder.iterdir()) if (document := document_of(path)) is not None]
    several = sum("configs" in document for _, document in documents) > 1
    by_proxy: dict[str, list[tuple[Path, Any]]] = {}
    for path, document in documents:
        by_proxy.setdefault(proxy_name(path) if several else "", []).append((path, document))
    for name, files in sorted(by_proxy.items()):
        source = "/".join(filter(None, (str(folder.relative_to(root)).strip("."), name))) or root.name
        yield joined(source, files)


def joined(source: str, files: list[tuple[Path, Any]]) -> ProxyModel:
    """One proxy of its files; the config_dump first."""
    proxy: ProxyModel | None = None
    try:
        for path, document in sorted(
            files, key=lambda file: ("configs" not in file[1], "cluster_statuses" not in file[1])
        ):
            read = read_document(document, source)
            if proxy is not None and read.has_configuration:
                raise DumpError(f"--dump {path}: a second config_dump of {source}")
            proxy = read if proxy is None else join(proxy, read)
    except DumpShapeError as error:
        raise DumpError(f"--dump {error}") from None
    assert proxy is not None
    return proxy


def proxy_name(path: Path) -> str:
    """The name of a file but for what kind of dump it is."""
    return KIND.sub("", path.stem if path.suffix in ENDINGS else path.name, count=1).strip(SEPARATORS)


def document_of(path: Path) -> Any | None:
    """A dump; None for a file that is none. Raises DumpError for a .json that is no JSON: it may be half a dump."""
    if not path.is_file() or (path.suffix not in ENDINGS and not KIND.search(path.name)):
        return None
    try:
        document = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        if path.suffix == ".json":
            raise DumpError(f"--dump {path}: not JSON: {error}") from None
        return None
    is_dump = isinstance(document, dict) and any(
        key in document for key in ("configs", "cluster_statuses", "clusterStatuses", "listener_statuses", "stream")
    )
    return document if is_dump else None
