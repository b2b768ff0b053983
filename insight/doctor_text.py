"""`eastgate doctor` for people, and which findings to hear. Finds nothing itself."""

from collections.abc import Sequence

from rich.console import Console

from .cluster_model import ProxyModel
from .doctor import RULE_NAMES, examine
from .errors import DumpError, InsightError
from .findings import Finding
from .read_dump import is_page

# Of one rule, so many clusters are named unless all are asked for.
EVIDENCE_SHOWN = 5
PROXIES_SHOWN = 2


def select(found: Sequence[Finding], *, cluster: str, ignore: Sequence[str]) -> list[Finding]:
    """Without the rules to ignore; of one cluster only, where one is named, and of what concerns no single one."""
    return [one for one in found if one.rule not in ignore and (not cluster or one.cluster in ("", cluster))]


def diagnosis(proxies: Sequence[ProxyModel], *, cluster: str, ignore: Sequence[str]) -> list[Finding]:
    """What doctor finds: errors first, by traffic at risk, the same about several clusters together.

    Raises InsightError.
    """
    for rule in ignore:
        if rule not in RULE_NAMES:
            raise InsightError(f"--ignore {rule}: no such rule; there is {', '.join(sorted(RULE_NAMES))}")
    if cluster and not any(cluster in proxy.clusters for proxy in proxies):
        raise DumpError(f"unknown cluster {cluster!r} in {', '.join(proxy.source for proxy in proxies)}")
    for proxy in proxies:
        if not proxy.has_endpoints and not is_page(proxy):
            raise DumpError(
                f"{proxy.source}: the config_dump has no endpoints: take it with /config_dump?include_eds,"
                " or add /clusters"
            )
    return [one for group in groups(select(examine(proxies), cluster=cluster, ignore=ignore)) for one in group]


def groups(found: Sequence[Finding]) -> list[list[Finding]]:
    """Findings that say the same of several clusters, together; those that put most traffic at risk first."""
    alike: dict[tuple[str, ...], list[Finding]] = {}
    for one in found:
        alike.setdefault((one.rule, one.severity, one.cause, one.fix, one.yaml), []).append(one)
    return sorted(
        alike.values(),
        key=lambda group: (group[0].severity != "error", *(-part for part in at_risk(group)), group[0].rule),
    )


def at_risk(group: Sequence[Finding]) -> tuple[float, float]:
    """Parts of all connections that a group of findings concerns, 0 to 1: now, and once failover has come so far."""
    return min(1.0, sum(one.now for one in group)), min(1.0, sum(one.reached for one in group))


def risk_text(group: Sequence[Finding]) -> str:
    """The same in words; empty where no connection is concerned."""
    now, reached = (f"{part:.1%}".replace(".0%", "%").replace("%", " %") for part in at_risk(group))
    if now == reached:
        return "" if now == "0 %" else f"{now} of connections"
    return f"{now} of connections now, {reached} when failover comes to it"


def print_report(found: Sequence[Finding], models: Sequence[ProxyModel], console: Console, *, show_all: bool) -> None:
    """For people: one paragraph a rule, with its evidence by cluster."""
    count = sum(len(proxy.clusters) for proxy in models)
    console.print(f"{count} clusters in {', '.join(proxy.source for proxy in models)}")
    for group in groups(found):
        first = group[0]
        console.print(
            f"\n{first.severity}: {first.rule}", style="bold red" if first.severity == "error" else "bold yellow"
        )
        shown = group if show_all else group[:EVIDENCE_SHOWN]
        for one in shown:
            where = f" [{places(one, show_all=show_all)}]" if len(models) > 1 else ""
            console.print(f"  {one.cluster + ': ' if one.cluster else ''}{one.evidence}{where}")
        if len(group) > len(shown):
            console.print(f"  and {len(group) - len(shown)} more clusters (--all)")
        if risk := risk_text(group):
            console.print(f"  at risk: {risk}")
        console.print(f"  cause: {first.cause}")
        console.print(f"  fix:   {first.fix}")
        if first.yaml:
            console.print(f"  yaml:  {first.yaml}")
    console.print(f"\n{summary(found)}")


def places(finding: Finding, *, show_all: bool) -> str:
    """The proxies that it was found in."""
    names = finding.proxies if show_all else finding.proxies[:PROXIES_SHOWN]
    more = len(finding.proxies) - len(names)
    return ", ".join(names) + (f" and {more} more" if more else "")


def summary(found: Sequence[Finding]) -> str:
    if not found:
        return "nothing found"
    errors = sum(one.severity == "error" for one in found)
    warnings = len(found) - errors
    return f"{errors} error{'s' * (errors != 1)}, {warnings} warning{'s' * (warnings != 1)}"
