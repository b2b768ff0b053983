"""`eastgate doctor` for people, and which findings to hear. Finds nothing itself."""

from collections.abc import Sequence
from itertools import groupby
from operator import attrgetter

from rich.console import Console

from .cluster_model import ProxyModel
from .doctor import RULE_NAMES, examine
from .errors import DumpError, InsightError
from .findings import Finding

# Of one rule, so many clusters are named unless all are asked for.
EVIDENCE_SHOWN = 5


def select(found: Sequence[Finding], *, cluster: str, ignore: Sequence[str]) -> list[Finding]:
    """Without the rules to ignore; of one cluster only, where one is named, and of what concerns no single one."""
    return [one for one in found if one.rule not in ignore and (not cluster or one.cluster in ("", cluster))]


def diagnosis(proxies: Sequence[ProxyModel], *, cluster: str, ignore: Sequence[str]) -> list[Finding]:
    """What doctor finds, errors first, the same things about several clusters together. Raises InsightError."""
    for rule in ignore:
        if rule not in RULE_NAMES:
            raise InsightError(f"--ignore {rule}: no such rule; there is {', '.join(sorted(RULE_NAMES))}")
    if cluster and not any(cluster in proxy.clusters for proxy in proxies):
        raise DumpError(f"unknown cluster {cluster!r} in {', '.join(proxy.source for proxy in proxies)}")
    for proxy in proxies:
        if not proxy.has_endpoints:
            raise DumpError(
                f"{proxy.source}: the config_dump has no endpoints: take it with /config_dump?include_eds,"
                " or add /clusters"
            )
    found = select(examine(proxies), cluster=cluster, ignore=ignore)
    return sorted(found, key=lambda one: (one.severity != "error", one.rule, one.cause, one.fix))


def print_report(found: Sequence[Finding], models: Sequence[ProxyModel], console: Console, *, show_all: bool) -> None:
    """For people: one paragraph a rule, with its evidence by cluster."""
    count = sum(len(proxy.clusters) for proxy in models)
    console.print(f"{count} clusters in {', '.join(proxy.source for proxy in models)}")
    for (rule, severity, cause, fix), group in groupby(found, attrgetter("rule", "severity", "cause", "fix")):
        members = list(group)
        console.print(f"\n{severity}: {rule}", style="bold red" if severity == "error" else "bold yellow")
        shown = members if show_all else members[:EVIDENCE_SHOWN]
        for one in shown:
            console.print(f"  {one.cluster + ': ' if one.cluster else ''}{one.evidence}")
        if len(members) > len(shown):
            console.print(f"  and {len(members) - len(shown)} more clusters (--all)")
        console.print(f"  cause: {cause}")
        console.print(f"  fix:   {fix}")
    console.print(f"\n{summary(found)}")


def summary(found: Sequence[Finding]) -> str:
    if not found:
        return "nothing found"
    errors = sum(one.severity == "error" for one in found)
    warnings = len(found) - errors
    return f"{errors} error{'s' * (errors != 1)}, {warnings} warning{'s' * (warnings != 1)}"
