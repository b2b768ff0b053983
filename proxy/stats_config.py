"""stats_config of a bootstrap: which counters are shown, and which parts of their names become labels.

Envoy's StatsMatcher and TagSpecifier (envoy.config.metrics.v3). What the matcher leaves out is in neither /stats nor
/stats/prometheus. Counters that Envoy does not have, `eastgate.*`, are shown whatever the matcher says: it was not
written for them.
"""

import re
from collections.abc import Mapping
from dataclasses import field
from typing import Any

from eastgate.xds.record import record

from .bootstrap_reader import Reader
from .patterns import Pattern, PatternError

OURS = "eastgate."
_HOW = ("exact", "prefix", "suffix", "contains", "safe_regex")
# Envoy's expressions of tags are ECMAScript's. RE2 has no lookahead; without it they find what they found, and more.
_LOOKAHEAD = re.compile(r"\(\?=(?:[^()\\]|\\.)*\)")


@record
class NamePatterns:
    """A list of StringMatchers, of which one has to match. Those that ignore case are kept in lower case, apart."""

    exact: frozenset[str] = frozenset()
    prefixes: tuple[str, ...] = ()
    suffixes: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    expression: str = ""
    lower: "NamePatterns | None" = None
    pattern: Pattern | None = field(default=None, compare=False)

    def match(self, name: str) -> bool:
        return (
            name.startswith(self.prefixes)
            or name.endswith(self.suffixes)
            or name in self.exact
            or any(part in name for part in self.parts)
            or (self.pattern is not None and self.pattern.matches(name))
            or (self.lower is not None and self.lower.match(name.lower()))
        )


@record
class StatsMatcher:
    """Which names are shown. ``patterns`` None: all of them, or none where ``included`` is False."""

    included: bool = True
    patterns: NamePatterns | None = None

    @property
    def shows_all(self) -> bool:
        return self.included and self.patterns is None

    def shows(self, name: str) -> bool:
        """Whether the counter of this name, as /stats has it, is shown."""
        if self.patterns is None:
            return self.included or name.startswith(OURS)
        return self.patterns.match(name) is self.included or name.startswith(OURS)


@record
class Tag:
    """A label: a constant, or what the groups of an expression find in a name. Group 1 is cut out of it, group 2, or 1
    where there is no second, is the value.
    """

    name: str
    expression: str = ""
    value: str = ""


@record
class StatsConfig:
    """``tags`` None: nothing is said of them; ``default_tags``: beside those that Envoy has by itself. ``unread``: what
    cannot be honoured, in words.
    """

    matcher: StatsMatcher = StatsMatcher()
    tags: tuple[Tag, ...] | None = None
    default_tags: bool = True
    unread: tuple[str, ...] = ()


def stats_config(reader: Reader, value: Mapping[str, Any]) -> StatsConfig:
    """stats_config of a bootstrap. Raises BootstrapError for what is no such message, or an expression that is none."""
    config = reader.optional(value, "", "stats_config")
    unread: list[str] = []
    tags = []
    for path, one in reader.items(config, "stats_config", "stats_tags"):
        tag = Tag(
            reader.text(one, path, "tag_name"), reader.text(one, path, "regex"), reader.text(one, path, "fixed_value")
        )
        if tag.expression and (reason := why_unreadable(tag.expression)):
            unread.append(f"{path}.regex: {reason}")
        elif tag.name and (tag.expression or tag.value):
            tags.append(tag)
    defaults = reader.get(config, "use_all_default_tags") is not False
    return StatsConfig(_matcher(reader, config), tuple(tags) if tags or not defaults else None, defaults, tuple(unread))


def readable(expression: str) -> str:
    """The expression as RE2 reads it, or as near as that comes."""
    try:
        Pattern(expression)
    except PatternError:
        return _LOOKAHEAD.sub("", expression)
    return expression


def why_unreadable(expression: str) -> str:
    """Why an expression of a tag cannot be evaluated; empty: it can."""
    try:
        Pattern(readable(expression))
    except PatternError as error:
        return f"{expression!r} is none: {error}"
    return ""


def _matcher(reader: Reader, config: Mapping[str, Any]) -> StatsMatcher:
    path = "stats_config.stats_matcher"
    matcher = reader.optional(config, "stats_config", "stats_matcher")
    if reader.get(matcher, "reject_all"):
        return StatsMatcher(included=False)
    for name, included in (("inclusion_list", True), ("exclusion_list", False)):
        if reader.get(matcher, name) is not None:
            found = reader.mapping(matcher, path, name)
            return StatsMatcher(included, _patterns(reader, found, f"{path}.{name}"))
    return StatsMatcher()


def _patterns(reader: Reader, found: Mapping[str, Any], path: str) -> NamePatterns:
    plain: dict[str, list[str]] = {how: [] for how in _HOW}
    lower: dict[str, list[str]] = {how: [] for how in _HOW}
    for where, one in reader.items(found, path, "patterns"):
        how = next((how for how in _HOW if reader.get(one, how) is not None), "")
        if not how:
            raise reader.fail(where, f"says none of {', '.join(_HOW)}")
        if how == "safe_regex":
            expression = reader.text(reader.mapping(one, where, how), f"{where}.{how}", "regex")
            try:
                Pattern(expression)
            except PatternError as error:
                raise reader.fail(f"{where}.{how}.regex", f"{expression!r} is none: {error}") from None
            plain[how].append(expression)
        elif reader.get(one, "ignore_case"):
            lower[how].append(reader.text(one, where, how).lower())
        else:
            plain[how].append(reader.text(one, where, how))
    return _compiled(plain, _compiled(lower) if any(lower.values()) else None)


def _compiled(by_kind: Mapping[str, list[str]], lower: NamePatterns | None = None) -> NamePatterns:
    expression = "|".join(f"(?:{one})" for one in by_kind["safe_regex"])
    return NamePatterns(
        frozenset(by_kind["exact"]),
        tuple(by_kind["prefix"]),
        tuple(by_kind["suffix"]),
        tuple(by_kind["contains"]),
        expression,
        lower,
        Pattern(expression) if expression else None,
    )
