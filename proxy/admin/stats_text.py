"""The text and JSON forms of /stats."""

import json
from collections.abc import Iterable, Iterator, Mapping

from . import histograms
from .histograms import Buckets
from .stat import Stat


def as_text(stats: Iterable[Stat], versions: Mapping[str, str], form: Buckets = Buckets.NONE) -> Iterator[str]:
    """`name: value` lines, version texts first and histograms last."""
    for name, text in sorted(versions.items()):
        if text:
            yield f'{name}: "{text}"\n'
    last = []
    for stat in stats:
        if stat.durations is None:
            yield f"{stat.name}: {stat.value}\n"
        else:
            last.append(stat)
    for stat in last:
        if stat.durations is not None:
            yield f"{stat.name}: {histograms.as_text(stat.durations, form)}\n"


def as_json(stats: Iterable[Stat], form: Buckets = Buckets.NONE) -> Iterator[str]:
    """The JSON text of all stats, a piece for each; all histograms are one element, as in Envoy."""
    yield '{\n "stats": ['
    separator = "\n"
    last = []
    for stat in stats:
        if stat.durations is not None:
            last.append((stat.name, stat.durations))
            continue
        yield f'{separator}  {{"name": {json.dumps(stat.name)}, "value": {stat.value}}}'
        separator = ",\n"
    if last:
        yield f"{separator}  "
        yield from histograms.json_pieces(last, form)
    yield "\n ]\n}\n"
