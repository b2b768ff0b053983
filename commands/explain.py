"""`eastgate explain`: a cluster's shares with their arithmetic, what-if, failover runway."""

import click

from .asked import Asked, asked_options
from .options import dump_option, json_option, plain_option


@click.command()
@click.argument("cluster")
@asked_options
@dump_option()
@plain_option(
    "--what-if",
    multiple=True,
    metavar="OUTAGE",
    help="show before and after: down=ADDRESS, zone=, region=, locality=, priority=, cluster=; repeatable",
)
@plain_option(
    "--duplicates",
    default="envoy",
    type=click.Choice(["envoy", "sum"]),
    help="one address in several entries: the first counts, as in Envoy, or their weights are added up",
)
@plain_option("--all", "show_all", is_flag=True, help="print every endpoint of a large cluster")
@json_option
def command(
    cluster: str,
    asked: Asked,
    dump: tuple[str, ...],
    what_if: tuple[str, ...],
    duplicates: str,
    show_all: bool,
    as_json: bool,
) -> None:
    """Explain the shares of CLUSTER: who gets how much, and why."""
    import json

    from eastgate.insight.answer import answer, answer_json, find_cluster
    from eastgate.insight.dump_source import proxies

    asked.check(dumps=bool(dump))
    with asked.proxy() as admin:
        models = proxies(admin, dump)
    said = answer(*find_cluster(models, cluster), what_if=what_if, duplicates=duplicates)
    if as_json:
        click.echo(json.dumps(answer_json(said), indent=1))
        return
    from eastgate.insight.answer_text import ENDPOINTS_SHOWN, print_answer
    from eastgate.insight.console import output_console

    print_answer(said, output_console(), limit=len(said.before.endpoints) if show_all else ENDPOINTS_SHOWN)
