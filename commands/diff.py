"""`eastgate diff`: what the step from one configuration to another does to traffic."""

import sys

import click

from .asked import Asked, asked_options
from .options import json_option, plain_option
from .output import note

# AFTER where it is the running proxy.
LIVE = "live"


@click.command()
@click.argument("before")
@click.argument("after", required=False, default="")
@asked_options
@plain_option("--cluster", default="", metavar="NAME", help="only this cluster and the chains that lead to it")
@json_option
def command(before: str, after: str, asked: Asked, cluster: str, as_json: bool) -> None:
    """Say what the step from BEFORE to AFTER does to traffic, in shares. Exit code 1 when something differs.

    Each is JOURNAL@PUSH, JOURNAL@TIME, JOURNAL (its end) or a config_dump with endpoints. BEFORE alone: what that push
    did; with --pod, or `live` for AFTER: what the running proxy has beside it.
    """
    import json

    from eastgate.proxy.disk.sides import compared, difference_json, live_side, sentences, side, sides

    asked.check()
    if asked.pod and after:
        raise click.UsageError("--pod: it is AFTER; name BEFORE alone")
    if asked.pod or after == LIVE:
        with asked.proxy() as admin:
            one, other = side(before), live_side(admin)
    else:
        one, other = sides(before, after)
    note((*one.notes, *other.notes))
    found = compared(one, other, cluster)
    if as_json:
        click.echo(json.dumps(difference_json(one, other, found), indent=1))
    else:
        click.echo("\n".join(sentences(one, other, found)))
    sys.exit(1 if found.clusters or found.chains else 0)
