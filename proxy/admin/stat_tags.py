"""Labels by the tags of a bootstrap: what its expressions cut out of the names of counters, as in Envoy.

    cluster.outbound|80||h;.upstream_cx_total  with  cluster_name: ^cluster([.](.+);)
    -> envoy_cluster_upstream_cx_total{cluster_name="outbound|80||h"}

Each expression looks at the whole name; what several of them found is cut out together. Where a bootstrap keeps Envoy's
default tags, which Istio's do not, counters keep the family and labels that those make, and get the others beside them.
"""

import re
from collections.abc import Iterable
from dataclasses import replace

from eastgate.proxy.stats_config import Tag, readable

from .exposition import family_name
from .stat import Stat

# Families of counters that Envoy has too; others have the labels that we give them.
PREFIX = "envoy_"
# Names that have been taken apart: more than a large mesh has, and a bound for what comes and goes.
KEPT = 200_000
# The word that a name must begin with, where an expression says one.
_FIRST_WORD = re.compile(r"\^([a-z_]+)(?![a-z_*+?{|])")

Labels = tuple[tuple[str, str], ...]


class _Expression:
    """One expression: where it matches, what is cut out, and the value."""

    def __init__(self, tag: Tag) -> None:
        import re2

        self.name = family_name(tag.name)
        options = re2.Options()
        options.log_errors = False
        expression = readable(tag.expression)
        self._compiled = re2.compile(expression, options=options)
        first = _FIRST_WORD.match(expression)
        self._first = first[1] if first and "|" not in expression.split("(", 1)[0] else ""

    def find(self, name: str) -> tuple[int, int, str] | None:
        """(begin, end, value), None where it does not match."""
        if self._first and not name.startswith(self._first):
            return None
        found = self._compiled.search(name)
        if found is None or not found.re.groups or found[1] is None:
            return None
        value = found[2] if found.re.groups > 1 and found[2] is not None else found[1]
        begin, end = found.span(1)
        return begin, end, value


class StatTags:
    """Gives counters the family and the labels that the tags of a bootstrap make of their names."""

    def __init__(self, tags: Iterable[Tag], *, defaults: bool = False) -> None:
        tags = tuple(tags)
        self._defaults = defaults
        self._constant: Labels = tuple((family_name(tag.name), tag.value) for tag in tags if not tag.expression)
        self._expressions = tuple(_Expression(tag) for tag in tags if tag.expression)
        self._known: dict[str, tuple[str, Labels]] = {}

    def tagged(self, stat: Stat) -> Stat:
        """The counter with its family and labels; ours keep theirs, and get the constant labels."""
        if not stat.family.startswith(PREFIX):
            return replace(stat, labels=(*stat.labels, *self._constant)) if self._constant else stat
        found = self._known.get(stat.name)
        if found is None:
            if len(self._known) >= KEPT:
                self._known.clear()
            found = self._known[stat.name] = self._taken_apart(stat.name)
        family, labels = found
        if self._defaults:
            kept = dict(stat.labels)
            more = (pair for pair in labels if pair[0] not in kept)
            return replace(stat, labels=(*stat.labels, *more))
        return replace(stat, family=family, labels=labels)

    def _taken_apart(self, name: str) -> tuple[str, Labels]:
        labels: dict[str, str] = {}
        cuts = []
        for one in self._expressions:
            # Of two expressions for one label the first that matches has it.
            if one.name not in labels and (found := one.find(name)) is not None:
                begin, end, labels[one.name] = found
                cuts.append((begin, end))
        rest, at = "", 0
        for begin, end in sorted(cuts):
            rest += name[at : max(at, begin)]
            at = max(at, end)
        return PREFIX + rest + name[at:], (*labels.items(), *self._constant)
