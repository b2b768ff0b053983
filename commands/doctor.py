"""`eastgate doctor`: why failover or cross-network traffic cannot work."""

import sys
from typing import TYPE_CHECKING

import click

from .asked import Asked, asked_options
from .options import DUMP_HELP, dump_option, json_option, plain_option

if TYPE_CHECKING:
    from eastgate.insight.cluster_model import ProxyModel

SIDECARS = 10


@click.command()
@asked_options
@dump_option(f"{DUMP_HELP}; several config_dumps, and each folder or journal, are several proxies")
@plain_option("--mesh", is_flag=True, help="gateways and some sidecars of all --context, side by side")
@plain_option(
    "--sample",
    default=SIDECARS,
    type=click.IntRange(0),
    show_default=True,
    help="with --mesh: workloads of each cluster whose sidecar is asked; 0 = all",
)
@plain_option("--cluster", default="", metavar="NAME", help="only findings about this cluster")
@plain_option("--ignore", multiple=True, metavar="RULE", help="leave out this rule; repeatable")
@plain_option("--all", "show_all", is_flag=True, help="name every cluster that a rule found")
@json_option
def command(
    asked: Asked,
    dump: tuple[str, ...],
    mesh: bool,
    sample: int,
    cluster: str,
    ignore: tuple[str, ...],
    show_all: bool,
    as_json: bool,
) -> None:
    """Say why failover or cross-network traffic cannot work. Exit code 1 when there is a finding."""
    import json
    from dataclasses import asdict

    from eastgate.insight.doctor_text import diagnosis, print_report
    from eastgate.insight.dump_source import proxies
    from eastgate.proxy.disk.sides import journals_among

    from .output import note

    asked.check(dumps=bool(dump), mesh=mesh)
    if mesh:
        models = walked(asked, sample)
    else:
        journals, files = journals_among(dump)
        note(text for one in journals for text in one.notes)
        models = tuple(one.model for one in journals)
        if files or not journals:
            with asked.proxy() as admin:
                models = (*proxies(admin, files, more=True), *models)
    found = diagnosis(models, cluster=cluster, ignore=ignore)
    if as_json:
        click.echo(json.dumps({"findings": [asdict(one) for one in found]}, indent=1))
    else:
        from eastgate.insight.console import output_console

        print_report(found, models, output_console(), show_all=show_all)
    sys.exit(1 if found else 0)


def walked(asked: Asked, sample: int) -> "tuple[ProxyModel, ...]":
    """The proxies of all contexts, with progress; what did not answer is said. Raises InsightError."""
    from eastgate.insight.kubectl import Kubectl
    from eastgate.insight.mesh_walk import contexts, walk

    from .output import note
    from .progress import progress

    clusters = tuple(contexts(Kubectl(asked.kubectl, "", asked.kubeconfig), asked.contexts))
    with progress("asking proxies") as told:
        found = walk(clusters, sidecars=sample, port=asked.port, told=told)
    note(found.failures)
    return found.proxies
