"""`eastgate compare-envoy`: one configuration and the same connections through real Envoy and through eastgate."""

from typing import TYPE_CHECKING

import click

from .options import DUMP_HELP, json_option, plain_option

if TYPE_CHECKING:
    from pathlib import Path

    from eastgate.insight.cluster_model import ClusterModel
    from rich.console import Console

CONNECTIONS, PAIRED = 20_000, 3_000


@click.command()
@click.argument("file", required=False, default="", type=click.Path(dir_okay=False))
@plain_option("--step", default="", metavar="NAME", help="the mesh as it is in this step of the file's scenario")
@plain_option("--dump", multiple=True, metavar="FILE", help=DUMP_HELP)
@plain_option("--cluster", default="", metavar="NAME", help="the cluster of the dump")
@plain_option("--sidecar", is_flag=True, help="pairs of sidecars with mesh mTLS between the two, in place of gateways")
@plain_option(
    "--connections", type=click.IntRange(100, 10_000_000), help=f"through each; {CONNECTIONS}, with --sidecar {PAIRED}"
)
@json_option
def command(
    file: str,
    step: str,
    dump: tuple[str, ...],
    cluster: str,
    sidecar: bool,
    connections: int | None,
    as_json: bool,
) -> None:
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
    if sidecar:
        _pairs(model, binary, connections or PAIRED, console, as_json=as_json)
        return
    with console.status("starting") as status:
        made = compare(model, binary, connections or CONNECTIONS, lambda what: status.update(what))
        envoy, ours = asyncio.run(made)
    found = rows(model, envoy.measured, ours.measured)
    if as_json:
        said = document(model, found, envoy.measured, ours.measured)
        click.echo(json.dumps(said, indent=2))
    else:
        render(model, found, envoy.measured, ours.measured, console)
    check(found)


def _pairs(model: "ClusterModel", binary: "Path", connections: int, console: "Console", *, as_json: bool) -> None:
    """Pairs of sidecars, with sessions resumed and with full handshakes."""
    import asyncio
    import json

    from eastgate.trial.compare_report import check, document, render_pairs, rows
    from eastgate.trial.compare_sidecar import compare_sidecars

    with console.status("starting") as status:
        pairs = asyncio.run(compare_sidecars(model, binary, connections, lambda what: status.update(what)))
    found = {
        kind: (rows(model, envoy.measured, ours.measured), envoy.measured, ours.measured)
        for kind, (envoy, ours) in pairs.items()
    }
    if as_json:
        click.echo(json.dumps({kind: document(model, *one) for kind, one in found.items()}, indent=2))
    else:
        render_pairs(model, found, console)
    for rows_of, _, _ in found.values():
        check(rows_of)
