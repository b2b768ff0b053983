"""`eastgate mesh endpoints`: what a proxy of a mesh file would have."""

import click

from .options import json_option, plain_option


@click.command()
@click.argument("file", type=click.Path())
@plain_option("--client", default="", metavar="CLUSTER/WORKLOAD", help="as this workload's sidecar has them")
@plain_option("--gateway", default="", metavar="CLUSTER/WORKLOAD", help="as this east-west gateway has them")
@plain_option("--cluster", default="", metavar="NAME", help="only this cluster, or those of a host")
@json_option
def command(file: str, client: str, gateway: str, cluster: str, as_json: bool) -> None:
    """Show the endpoints, shares and reasons that istiod's answer for FILE would mean; nothing is started."""
    import json
    from dataclasses import asdict

    from eastgate.insight.endpoint_table import padded
    from eastgate.mesh.mesh_file import load
    from eastgate.mesh.scenario import workload_named
    from eastgate.trial.prediction import CELLS, cells_of, hosts_within, predicted, routes_text, routes_within
    from eastgate.trial.stand_ins import view_of

    from .output import note
    from .progress import predicting, reading

    if bool(client) == bool(gateway):
        raise click.UsageError("name one of --client and --gateway")
    loaded = load(file, reading(file))
    try:
        workload = workload_named(loaded.mesh, client or gateway)
    except LookupError as error:
        raise click.UsageError(str(error.args[0])) from None
    for finding in loaded.findings:
        click.echo(finding, err=True)
    mesh, is_gateway = loaded.mesh, bool(gateway)
    node = view_of(mesh, workload, gateway=is_gateway)
    hosts = hosts_within(mesh, node, cluster)
    told = predicting("/".join(workload.identity))
    found = predicted(mesh, workload, gateway=is_gateway, hosts=hosts, progress=told)
    rows = [row for row in found if cluster in row.cluster]
    routes = list(routes_within(mesh, node, cluster))
    if not rows and not routes:
        note([f"{'/'.join(workload.identity)} has {why_nothing(cluster, gateway=is_gateway)}"])
    if as_json:
        led = [{**asdict(place), "parts": parts} for place, parts in routes]
        click.echo(json.dumps({"endpoints": [asdict(row) for row in rows], "routes": led}, indent=1))
    else:
        click.echo(padded([CELLS, *map(cells_of, rows)]), nl=False)
        click.echo(routes_text(mesh, node, routes), nl=False)


def why_nothing(cluster: str, *, gateway: bool) -> str:
    """Why there is nothing to show of a proxy."""
    if cluster:
        return f"no cluster with {cluster!r} in its name"
    return "no cluster: no Gateway that leads to a service selects it" if gateway else "no cluster: it sees no service"
