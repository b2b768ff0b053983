"""YAML documents that remember on which line everything stands. Knows nothing of meshes."""

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import yaml
from eastgate.xds.outside_text import YAML_VALUE_FAULTS

from .errors import MeshError

MAX_VALUES = 1_000_000
"""Values in one file, aliases counted each time: a few nested aliases would otherwise fill the memory."""

EVENTS = 2 * MAX_VALUES
"""Parts of YAML in one file. Each makes an object of some hundred bytes before a value can be counted."""

LARGE_BYTES = 1 << 20
"""What is smaller has fewer parts than that, and is read before anybody wonders."""

Path = tuple[str | int, ...]
Progress = Callable[[int, int], None]
"""Is told how many bytes of how many have been read, again and again. Whatever it raises ends the reading."""

TELL_S = 2.0
"""How often it is said how far a large file has been read."""


@dataclass(frozen=True, slots=True)
class Document:
    """One YAML document. ``lines``: line (from 1) by path, for every mapping value and list item."""

    file: str
    content: Any
    lines: Mapping[Path, int]

    def line(self, path: Path) -> int:
        """Line of the value at `path`, or of the nearest thing around it."""
        while path not in self.lines and path:
            path = path[:-1]
        return self.lines.get(path, 1)

    def error(self, path: Path, cause: str) -> MeshError:
        """The error that says `cause` where `path` stands."""
        return MeshError(self.file, self.line(path), cause)


NOT_PLAIN = frozenset({"timestamp", "value", "int", "float"})
INTEGER = re.compile(r"[-+]?(?:0b[01_]+|0o?[0-7_]+|0x[0-9a-fA-F_]+|0|[1-9][0-9_]*)\Z")
FLOAT = re.compile(
    r"[-+]?(?:(?:[0-9][0-9_]*)?\.[0-9]+|[0-9][0-9_]*\.)(?:[eE][-+]?[0-9]+)?\Z|[-+]?\.(?:inf|Inf|INF)\Z|\.(?:nan|NaN|NAN)\Z"
)
TEMPLATE = "a template such as {{ .Values.x }} is rendered first (helm template)"
"""Why YAML of a repository is often none."""

# libyaml's, where PyYAML has it: ten times as fast.
_Safe = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_Safe):  # type: ignore[misc, valid-type]
    """A safe loader that takes plain texts for what Kubernetes takes them for: no dates, no 22:00 for a number, no "=".

    PyYAML registers constructors by class; these are resolvers alone.
    """

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [(tag, pattern) for tag, pattern in found if tag.rpartition(":")[2] not in NOT_PLAIN]
        for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_Loader.add_implicit_resolver("tag:yaml.org,2002:int", INTEGER, list("-+0123456789"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", FLOAT, list("-+0123456789."))


class _Stream:
    """Bytes in pieces. Between two of them signals are heard, also while libyaml reads, and progress is told."""

    def __init__(self, data: bytes, progress: Progress) -> None:
        self._data, self._progress, self._at = data, progress, 0

    def read(self, size: int = -1) -> bytes:
        """The next piece."""
        begin, end = self._at, len(self._data) if size < 0 else min(self._at + size, len(self._data))
        self._at = end
        self._progress(end, len(self._data))
        return self._data[begin:end]


def silent(done: int, total: int) -> None:
    """Nobody waits for it."""


def now_and_then(tell: Progress) -> Progress:
    """`tell`, where the reading takes long, and not again before so long again."""
    told_s = time.monotonic()

    def told(done: int, total: int) -> None:
        nonlocal told_s
        now = time.monotonic()
        if now - told_s >= TELL_S:
            told_s = now
            tell(done, total)

    return told


def _check_size(data: bytes, file: str, progress: Progress) -> None:
    """Raises MeshError for more parts of YAML than there may be, before they take memory."""
    for number, event in enumerate(yaml.parse(_Stream(data, progress), Loader=_Safe)):
        if number > EVENTS:
            line = event.start_mark.line + 1
            raise MeshError(file, line, f"too large: more than {MAX_VALUES:,} values up to here")


def read_documents(text: str | bytes, file: str, progress: Progress = silent) -> tuple[Document, ...]:
    """All documents of a YAML stream that are not empty.

    Raises MeshError for text that is not YAML, for keys that stand twice or are no text, and for what is too large,
    bombs of aliases among it.
    """
    data = text.encode() if isinstance(text, str) else text
    documents: list[Document] = []
    loader = None
    try:
        if len(data) > LARGE_BYTES:
            _check_size(data, file, progress)
        loader = _Loader(_Stream(data, progress))
        while loader.check_node():
            node = loader.get_node()
            walk = _Walk(loader, file)
            content = walk.value(node, ())
            if content is not None:
                documents.append(Document(file, content, walk.lines))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 0
        parts = (error.context, error.problem, TEMPLATE if _is_template(data, line) else "")
        raise MeshError(file, line, f"not YAML: {', '.join(filter(None, parts))}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise MeshError(file, 0, f"not YAML: {_sentence(error)}") from None
    finally:
        if loader is not None:
            loader.dispose()
    return tuple(documents)


def _is_template(data: bytes, line: int) -> bool:
    """Whether a line, or the one before it, where a parser may have noticed nothing yet, is of a template."""
    return any(b"{{" in one for one in data.split(b"\n", line)[max(0, line - 2) : line])


def _sentence(error: Exception) -> str:
    """What PyYAML says of text that is none."""
    if isinstance(error, yaml.reader.ReaderError | UnicodeDecodeError):
        return f"it is no text in UTF-8, or holds what YAML does not allow: {' '.join(str(error).split())}"
    return str(error)


class _Walk:
    """Turns nodes into values and notes their lines."""

    def __init__(self, loader: _Loader, file: str) -> None:
        self.lines: dict[Path, int] = {}
        self._loader, self._file, self._values = loader, file, 0

    def value(self, node: yaml.Node, path: Path) -> Any:
        """The value of a node; its children under longer paths."""
        self._values += 1
        line = node.start_mark.line + 1
        if self._values > MAX_VALUES or len(path) > 100:
            raise MeshError(self._file, line, "too large or too deep: an alias may repeat itself")
        self.lines[path] = line
        if isinstance(node, yaml.MappingNode):
            self._loader.flatten_mapping(node)
            found: dict[str, Any] = {}
            for key_node, value_node in node.value:
                key = self._key(key_node)
                if key in found:
                    raise MeshError(self._file, key_node.start_mark.line + 1, f"{key!r} stands twice in one mapping")
                found[key] = self.value(value_node, (*path, key))
                # A reader looks for the key, which may stand above a value that has many lines.
                self.lines[(*path, key)] = key_node.start_mark.line + 1
            return found
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*path, index)) for index, item in enumerate(node.value)]
        return self._scalar(node)

    def _scalar(self, node: yaml.Node) -> Any:
        """What a text stands for. Raises MeshError for what is not of its kind."""
        try:
            return self._loader.construct_object(node)
        except YAML_VALUE_FAULTS:
            kind = node.tag.rpartition(":")[2]
            cause = f"{node.value[:60]!r} is no {kind}: quote it where text is meant"
            raise MeshError(self._file, node.start_mark.line + 1, cause) from None

    def _key(self, node: yaml.Node) -> str:
        """The text of a key. What looks like true or 1.5 is one in Kubernetes, too."""
        if not isinstance(node, yaml.ScalarNode):
            hint = f"; {TEMPLATE}" if isinstance(node, yaml.MappingNode) else ""
            raise MeshError(self._file, node.start_mark.line + 1, f"a key must be text{hint}")
        return str(node.value)
