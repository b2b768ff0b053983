"""`eastgate ledger`: which version of each resource was accepted or rejected."""

import click

from .asked import Asked, asked_options
from .options import json_option, plain_option


@click.command()
@asked_options
@plain_option("--type", "kind", type=click.Choice(["cds", "eds", "lds", "rds", "sds"]), help="only this type")
@plain_option("--state", type=click.Choice(["acked", "nacked", "requested", "restored"]), help="only what is so")
@plain_option("--name", default="", metavar="PART", help="only resources whose name holds this")
@json_option
def command(asked: Asked, kind: str | None, state: str | None, name: str, as_json: bool) -> None:
    """Show which version of each resource was accepted or rejected, when, and why."""
    import json

    from eastgate.insight.dump_source import with_query
    from eastgate.proxy.admin.ledger_page import ledger_text

    asked.check()
    with asked.proxy() as admin:
        document = admin.read(with_query("/debug/xds", type=kind, state=state, name=name))
        text = ledger_text(document, f"{admin.name}/debug/xds")
    click.echo(json.dumps(document, indent=1) if as_json else text, nl=as_json)
