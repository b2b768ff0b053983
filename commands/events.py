"""`eastgate events`: what has happened to traffic, and why."""

from typing import Any

import click

from .asked import Asked, asked_options
from .options import json_option, plain_option
from .output import note

KINDS = ("loads", "ejected", "returned", "certificate", "rejected", "accepted")


@click.command()
@asked_options
@plain_option("--follow", is_flag=True, help="go on with what happens from now on, until interrupted")
@plain_option("--kind", type=click.Choice(KINDS), help="only such events")
@plain_option("--since", default=0, type=click.IntRange(0), metavar="ID", help="only those after this one")
@json_option
def command(asked: Asked, follow: bool, kind: str | None, since: int, as_json: bool) -> None:
    """Say when traffic moved, endpoints were ejected, certificates near their end and resources were rejected; and why.

    With --follow, JSON is one event a line, and a proxy that goes away is waited for.
    """
    import json

    from eastgate.insight.event_text import EventReader, event_line

    def show(events: list[dict[str, Any]]) -> None:
        for event in events:
            click.echo(json.dumps(event) if as_json else event_line(event))

    asked.check()
    reader = EventReader(kind or "", since)
    if follow:
        for events in reader.follow(asked.proxy, lambda why: note([f"{why}; asking again"])):
            show(events)
    with asked.proxy() as admin:
        found = reader.read(admin)
    if as_json:
        click.echo(json.dumps({"events": found}, indent=1))
    else:
        show(found)
