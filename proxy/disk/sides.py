"""The two sides that `eastgate diff` compares, from what the command line names.

A side is a push of a journal (`JOURNAL@17`), a time of it (`JOURNAL@2026-03-04T09:12:01Z`), its end (`JOURNAL`), or a
config_dump. One side alone is a push beside the state that it met.
"""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from eastgate.insight.cluster_model import ProxyModel
from eastgate.insight.dump_source import Admin, live_proxy, proxies
from eastgate.insight.errors import DumpError
from eastgate.insight.traffic_diff import Difference, difference
from eastgate.xds.record import record
from eastgate.xds.whole_number import UINT32, whole_number

from .journal import JournalError, holds_journal, is_journal
from .replay import Journal, Wanted, described, moment


@record
class Side:
    """One configuration, what it is in words, and what of its journal is missing."""

    model: ProxyModel
    text: str
    notes: tuple[str, ...] = ()


def parsed(text: str) -> tuple[str, Wanted | None]:
    """(path, which push of it); None where the text names none. Raises JournalError."""
    path, at, which = text.rpartition("@")
    if not at or Path(text).exists():
        return text, None
    if number := whole_number(which, UINT32):
        return path, Wanted(number=number)
    try:
        return path, Wanted(at=moment(which))
    except ValueError:
        raise JournalError(f"{text}: expected PATH@PUSH or PATH@TIME, such as {path}@17") from None


def journal_side(path: str, wanted: Wanted) -> Side:
    """A state of a journal. Raises JournalError."""
    replayed = Journal(path).at(wanted)
    text = described(replayed)
    if wanted.before:
        text = f"before push {wanted.number}"
    return Side(replayed.model(), f"{path}, {text}", replayed.notes)


def side(text: str) -> Side:
    """Raises JournalError or InsightError."""
    path, wanted = parsed(text)
    if wanted is not None or is_journal(Path(path)):
        return journal_side(path, wanted or Wanted())
    models = proxies("", (path,))
    if len(models) != 1:
        raise DumpError(f"{path}: {len(models)} proxies where one belongs")
    return Side(models[0], path)


def live_side(admin: Admin) -> Side:
    """What a running proxy has now. Raises InsightError."""
    return Side(live_proxy(admin), f"{admin.name}, now")


def journals_among(texts: Sequence[str]) -> tuple[list[Side], list[str]]:
    """The states of journals that these texts name, and the texts that name something else. Raises JournalError."""
    found, others = [], []
    for text in texts:
        path, wanted = parsed(text)
        if wanted is not None or holds_journal(Path(path)):
            found.append(journal_side(path, wanted or Wanted()))
        else:
            others.append(text)
    return found, others


def sides(before: str, after: str) -> tuple[Side, Side]:
    """Both sides. Raises JournalError or InsightError."""
    if after:
        return side(before), side(after)
    path, wanted = parsed(before)
    if wanted is None and not is_journal(Path(path)):
        raise DumpError(f"{before}: what should it be compared with? Name a second file, a push (JOURNAL@17), or live")
    found = Journal(path).at(wanted or Wanted())
    if found.push is None:
        raise JournalError(f"{before}: no push to compare: {described(found)}")
    number = found.push.number
    return journal_side(path, Wanted(number=number, before=True)), journal_side(path, Wanted(number=number))


def difference_json(before: Side, after: Side, found: Difference) -> dict[str, Any]:
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


def compared(one: Side, other: Side, cluster: str) -> Difference:
    """What differs, of one cluster and the chains that lead to it where one is named. Raises DumpError."""
    found = difference(one.model, other.model)
    if not cluster:
        return found
    if cluster not in {**one.model.clusters, **other.model.clusters}:
        raise DumpError(f"--cluster {cluster}: neither side has such a cluster")
    chosen = tuple(each for each in found.clusters if each.name == cluster)
    chains = tuple(each for each in found.chains if cluster in (*each.before, *each.after))
    return replace(found, clusters=chosen, chains=chains)


def sentences(one: Side, other: Side, found: Difference) -> list[str]:
    """The difference for people, a line each."""
    lines = [f"from {one.text}", f"to   {other.text}", ""]
    lines += [each.sentence for each in found.clusters]
    lines += [each.sentence for each in found.chains]
    return lines if found.clusters or found.chains else [*lines, "nothing that decides where connections go"]
