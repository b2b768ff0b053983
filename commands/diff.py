"""`eastgate diff`: what the step from one configuration to another does to traffic. Renders; computes nothing.

A side is a push of a journal (`JOURNAL@17`), a time of it (`JOURNAL@2026-03-04T09:12:01Z`), its end (`JOURNAL`), or a
config_dump. One side alone is a push beside the state that it met.
"""

import json
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from eastgate.insight.cluster_model import ProxyModel
from eastgate.insight.traffic_diff import Difference, difference
from eastgate.proxy.disk.journal import JournalError, is_journal
from eastgate.proxy.errors import DumpError

from .dump_source import proxies
from .replay import Journal, Wanted, described, moment


@dataclass(frozen=True, slots=True)
class Side:
    """One configuration, and what it is in words."""

    model: ProxyModel
    text: str


def parsed(text: str) -> tuple[str, Wanted | None]:
    """(path, which push of it); None where the text names none. Raises JournalError."""
    path, at, which = text.rpartition("@")
    if not at or Path(text).exists():
        return text, None
    if which.isascii() and which.isdigit() and int(which) > 0:
        return path, Wanted(number=int(which))
    try:
        return path, Wanted(at=moment(which))
    except ValueError:
        raise JournalError(f"{text}: expected PATH@PUSH or PATH@TIME, such as {path}@17") from None


def journal_side(path: str, wanted: Wanted) -> Side:
    """A state of a journal; its notes go to stderr. Raises JournalError."""
    replayed = Journal(path).at(wanted)
    for note in replayed.notes:
        sys.stderr.write(f"eastgate: note: {note}\n")
    text = described(replayed)
    if wanted.before:
        text = f"before push {wanted.number}"
    return Side(replayed.model(), f"{path}, {text}")


def side(text: str) -> Side:
    """Raises EastgateError."""
    path, wanted = parsed(text)
    if wanted is not None or is_journal(Path(path)):
        return journal_side(path, wanted or Wanted())
    models = proxies("", (path,))
    if len(models) != 1:
        raise DumpError(f"{path}: {len(models)} proxies where one belongs")
    return Side(models[0], path)


def sides(before: str, after: str) -> tuple[Side, Side]:
    """Both sides. Raises EastgateError."""
    if after:
        return side(before), side(after)
    path, wanted = parsed(before)
    if wanted is None and not is_journal(Path(path)):
        raise DumpError(f"{before}: what should it be compared with? Name a second file, or a push: JOURNAL@17")
    found = Journal(path).at(wanted or Wanted())
    if found.push is None:
        raise JournalError(f"{before}: no push to compare: {described(found)}")
    number = found.push.number
    return journal_side(path, Wanted(number=number, before=True)), journal_side(path, Wanted(number=number))


def as_json(before: Side, after: Side, found: Difference) -> dict[str, Any]:
    """The difference as JSON; shares are between 0 and 1, points are percentage points."""
    clusters = []
    for one in found.clusters:
        shown = asdict(one)
        shown["moved_points"] = shown.pop("moved")
        shown["endpoints"] = [{**asdict(each), "points": each.points} for each in one.endpoints]
        shown["priorities"] = [
            {"priority": priority, "before_percent": old, "after_percent": new} for priority, old, new in one.priorities
        ]
        clusters.append(shown)
    return {
        "before": before.text,
        "after": after.text,
        "clusters": clusters,
        "chains": [{**asdict(one), "sentence": one.sentence} for one in found.chains],
    }


def print_difference(before: str, after: str, *, cluster: str, json_wanted: bool) -> int:
    """Print what differs on stdout; return 1 when something does. Raises EastgateError."""
    one, other = sides(before, after)
    found = difference(one.model, other.model)
    if cluster:
        if cluster not in {**one.model.clusters, **other.model.clusters}:
            raise DumpError(f"--cluster {cluster}: neither side has such a cluster")
        chosen = tuple(each for each in found.clusters if each.name == cluster)
        chains = tuple(each for each in found.chains if cluster in (*each.before, *each.after))
        found = replace(found, clusters=chosen, chains=chains)
    differs = bool(found.clusters or found.chains)
    if json_wanted:
        sys.stdout.write(json.dumps(as_json(one, other, found), indent=1) + "\n")
        return int(differs)
    lines = [f"from {one.text}", f"to   {other.text}", ""]
    lines += [each.sentence for each in found.clusters]
    lines += [each.sentence for each in found.chains]
    lines += [] if differs else ["nothing that decides where connections go"]
    sys.stdout.write("\n".join(lines) + "\n")
    return int(differs)
