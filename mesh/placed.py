"""Objects of YAML documents, each with its place and its clusters: lists opened, folders understood."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

from .documents import Document, Path, Progress, read_documents, silent
from .errors import MeshError
from .gather import Place
from .kubernetes import group_of

SUFFIXES = (".yaml", ".yml", ".json")
OBJECT_KEYS = frozenset({"kind", "metadata", "spec"})
CLUSTERS_ANNOTATION = "eastgate/clusters"
"""Annotation of an object that is applied to some clusters only, their names separated by commas."""


@dataclass(frozen=True, slots=True)
class Placed:
    """One object. ``folders``: names of the folders that its file stands in, below what was given."""

    place: Place
    content: dict[str, Any]
    folders: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """Its kind; empty: it is no object at all, and stands beside those of a folder."""
        return str(self.content.get("kind", ""))

    def is_ours(self, kind: str) -> bool:
        """Whether it is a document of our own of this kind: other meshes have a `Mesh` as well."""
        return self.kind == kind and not self.group

    @property
    def name(self) -> str:
        """Its name; empty: it has none."""
        metadata = self.content.get("metadata")
        return str(metadata.get("name") or "") if isinstance(metadata, dict) else ""

    @property
    def group(self) -> str:
        """API group of its apiVersion."""
        return group_of(self.content.get("apiVersion"))

    @property
    def namespace(self) -> str:
        """Its namespace, "default" where it says none."""
        metadata = self.content.get("metadata")
        return str((metadata.get("namespace") if isinstance(metadata, dict) else "") or "default")

    def clusters(self, known: Iterable[str]) -> frozenset[str]:
        """Clusters that it is applied to: of its annotation, else of a folder named like one, else all.

        Raises MeshError for an unknown one.
        """
        known = frozenset(known)
        metadata = self.content.get("metadata")
        annotations = (metadata.get("annotations") if isinstance(metadata, dict) else None) or {}
        text = str(annotations.get(CLUSTERS_ANNOTATION, "")) if isinstance(annotations, dict) else ""
        named = frozenset(part.strip() for part in text.split(",") if part.strip())
        for cluster in sorted(named - known):
            path = (*self.place.path, "metadata", "annotations")
            raise self.place.document.error(path, f"{self.kind}: unknown cluster {cluster!r}")
        return named or frozenset(known & set(self.folders)) or known


def read_bytes(path: str | FilePath) -> bytes:
    """The bytes of a file. Raises MeshError."""
    try:
        return FilePath(path).read_bytes()
    except OSError as error:
        raise MeshError(str(path), 0, f"cannot be read: {error.strerror}") from None


def files_of(path: FilePath) -> list[tuple[FilePath, tuple[str, ...]]]:
    """A file, or all YAML and JSON files below a folder in order, each with the folders that it stands in."""
    if not path.is_dir():
        return [(path, ())]
    found = sorted(one for one in path.rglob("*") if one.suffix in SUFFIXES and one.is_file())
    below = [(one, one.relative_to(path).parts[:-1]) for one in found]
    return [(one, folders) for one, folders in below if not any(part.startswith(".") for part in (*folders, one.name))]


def read_placed(
    text: str | bytes, file: str, folders: tuple[str, ...] = (), progress: Progress = silent, *, mixed: bool = False
) -> Iterator[Placed]:
    """The objects of a file. Raises MeshError for what is no object with a kind.

    ``mixed``: there may be other things, as in a repository: values of Helm, a package.json.
    """
    for document in read_documents(text, file, progress):
        if mixed and not _looks_like_object(document.content):
            yield Placed(Place(document, ()), {}, folders)
        else:
            yield from _opened(Place(document, ()), document.content, folders)


def _looks_like_object(content: Any) -> bool:
    return isinstance(content, dict) and bool(OBJECT_KEYS & content.keys())


def _opened(place: Place, content: Any, folders: tuple[str, ...]) -> Iterator[Placed]:
    if not isinstance(content, dict) or not isinstance(content.get("kind"), str):
        raise place.document.error(place.path, "a document must be a mapping with a kind")
    items = content.get("items")
    if content["kind"].endswith("List") and isinstance(items, list):
        for index, item in enumerate(items):
            # Items of a typed list (PodList) may leave out what the list says.
            if isinstance(item, dict) and content["kind"] != "List":
                item.setdefault("kind", content["kind"].removesuffix("List"))
                item.setdefault("apiVersion", content.get("apiVersion"))
            yield from _opened(Place(place.document, (*place.path, "items", index)), item, folders)
    else:
        yield Placed(place, content, folders)


def document_of(placed: Placed) -> Document:
    """The document that an object stands in."""
    return placed.place.document


def at(placed: Placed, *path: str | int) -> Path:
    """A path inside an object, as its document has it."""
    return (*placed.place.path, *path)
