"""What a file says and nobody honours, told once for each kind of thing, with the line of the first one."""

from .documents import Path
from .gather import Place

HTTP = ("spec", "http")
HTTP_TEXT = "http routes have no effect on TCP connections; of HTTP the first request of one chooses its destination"


class Findings:
    """Collects findings in the order in which they are met."""

    def __init__(self) -> None:
        self._found: dict[str, list[tuple[Place, str]]] = {}

    def note(self, place: Place, text: str) -> None:
        """Something that looks wrong: a line of its own."""
        self._add(f"{place.document.file}:{place.path}:{text}", place, text)

    def unread(self, place: Place, title: str, path: Path) -> None:
        """A field that is not honoured; the same one of the same kind is told once."""
        named = [str(part) for part in path]
        kind = title.partition(" ")[0]
        prefix = f"{title}: " if title else ""
        if path[:2] == HTTP:
            self._add(f"{kind} http", place, f"{prefix}{HTTP_TEXT}")
            return
        fields = ".".join(part for part in path if isinstance(part, str))
        self._add(f"{kind} {fields}", place, f"{prefix}{'.'.join(named)} is not honoured")

    def left_out(self, place: Place, kind: str, why: str) -> None:
        """An object that is left out; its kind is told once."""
        self._add(f"{kind} {why}", place, f"{kind}: {why}")

    def _add(self, key: str, place: Place, text: str) -> None:
        self._found.setdefault(key, []).append((place, text))

    def lines(self) -> tuple[str, ...]:
        """One line for each, with file and line of the first and the number of the others."""
        made = []
        for found in self._found.values():
            place, text = found[0]
            more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
            made.append(f"{place.document.file}:{place.document.line(place.path)}: {text}{more}")
        return tuple(dict.fromkeys(made))
