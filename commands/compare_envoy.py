"""`eastgate compare-envoy`: one configuration and the same connections through real Envoy and through eastgate."""

import click

from .options import DUMP_HELP, json_option, plain_option


@click.command()
@click.argument("file", required=False, default="", type=click.Path(dir_okay=False))
@plain_option("--step", default="", metavar="NAME", help="the mesh as it is in this step of the file's scenario")
@plain_option("--dump", multiple=True, metavar="FILE", help=DUMP_HELP)
@plain_option("--cluster", default="", metavar="NAME", help="the cluster of the dump")
@plain_option("--connections", default=20_000, type=click.IntRange(100, 10_000_000), help="through each")
@json_option
def command(file: str, step: str, dump: tuple[str, ...], cluster: str, connections: int, as_json: bool) -> None:
    """The same configuration and connections through real Envoy and eastgate: shares, CPU, memory, latency.

    The configuration is the scenario's service of a mesh FILE, or one cluster of a dump.
    """
    import asyncio
    import json

    from eastgate.insight.console import output_console
    from eastgate.proxy import log
    from eastgate.trial.compare import compare, envoy_to_compare
    from eastgate.trial.compare_model import model_of
    from eastgate.trial.compare_report import check, document, render, rows

    if bool(file) == bool(dump):
        raise click.UsageError("name a mesh file, or --dump FILE with --cluster NAME")
    if dump and not cluster:
        raise click.UsageError("--cluster: missing: a dump holds many clusters")
    log.configure("error")
    binary = envoy_to_compare()
    model = model_of(file, step, dump, cluster)
    console = output_console()
    with console.status("starting") as status:
        envoy, ours = asyncio.run(compare(model, binary, connections, lambda what: status.update(what)))
    found = rows(model, envoy.measured, ours.measured)
    if as_json:
        said = document(model, found, envoy.measured, ours.measured, connections)
        click.echo(json.dumps(said, indent=2))
    else:
        render(model, found, envoy.measured, ours.measured, console)
    check(found)
