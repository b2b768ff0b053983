"""`eastgate endpoints`: istioctl's endpoint table plus priority, locality, weight and share."""

import click

from .asked import Asked, asked_options
from .options import dump_option, json_option, option


@click.command()
@asked_options
@dump_option()
@option("--cluster", default="", metavar="NAME", help="only this cluster")
@json_option
def command(asked: Asked, dump: tuple[str, ...], cluster: str, as_json: bool) -> None:
    """Show endpoints with health, priority, locality, weight and share."""
    import json
    from dataclasses import asdict

    from eastgate.insight.dump_source import proxies
    from eastgate.insight.endpoint_table import rows_of_all, table_text

    asked.check(dumps=bool(dump))
    with asked.proxy() as admin:
        rows = rows_of_all(proxies(admin, dump), cluster)
    click.echo(json.dumps([asdict(row) for row in rows], indent=1) if as_json else table_text(rows), nl=as_json)
