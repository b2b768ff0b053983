"""`eastgate mesh diff`: what a change of a mesh file moves."""

import click

from .options import plain_option


@click.command()
@click.argument("old", type=click.Path())
@click.argument("new", type=click.Path())
@plain_option("--client", "clients", multiple=True, metavar="CLUSTER/WORKLOAD", help="only this workload; repeatable")
@plain_option("--fail-over", type=click.FloatRange(0, 100), metavar="POINTS", help="exit 1 when more than this moves")
@plain_option("--markdown", is_flag=True, help="a table for GitHub")
def command(old: str, new: str, clients: tuple[str, ...], fail_over: float | None, markdown: bool) -> None:
    """Say which shares the change from OLD to NEW moves, for each client and gateway; files or folders."""
    from eastgate.mesh.mesh_file import load
    from eastgate.proxy.errors import ExpectationError
    from eastgate.trial.prediction import moved, moved_text, pairs

    from .output import note
    from .progress import predicting, reading

    before, after = load(old, reading(old)), load(new, reading(new))
    try:
        both = pairs(before.mesh, after.mesh, clients)
        changes = moved(before.mesh, after.mesh, clients, predicting(f"what moves from {old} to {new}"))
    except LookupError as error:
        raise click.UsageError(str(error.args[0])) from None
    for finding in after.findings:
        if finding not in before.findings:
            click.echo(finding, err=True)
    alone = ["/".join(one.identity) for one, was in both if was is None]
    if alone and len(alone) == len(both):
        raise ExpectationError(f"nothing to compare: no client of {new} was in {old}")
    note(f"{name} was not in {old}: not compared" for name in alone)
    click.echo(moved_text(changes, markdown=markdown), nl=False)
    most = max((one.points for one in changes), default=0.0)
    if fail_over is not None and most > fail_over:
        raise ExpectationError(f"{most:.1f} points move, and {fail_over:g} are allowed")
