"""`eastgate ledger`: which version of each resource was accepted or rejected."""

import click

from .asked import Asked, asked_options
from .options import dump_option, json_option, plain_option


@click.command()
@asked_options
@dump_option("read the config_dump, or eastgate's /debug/xds, of one proxy instead: a file, or a folder")
@plain_option("--type", "kind", type=click.Choice(["cds", "eds", "lds", "rds", "sds"]), help="only this type")
@plain_option("--state", type=click.Choice(["acked", "nacked", "requested", "restored"]), help="only what is so")
@plain_option("--name", default="", metavar="PART", help="only resources whose name holds this")
@json_option
def command(asked: Asked, dump: tuple[str, ...], kind: str | None, state: str | None, name: str, as_json: bool) -> None:
    """Show which version of each resource was accepted or rejected, when, and why.

    Of Envoy, which keeps no ledger, by its config_dump.
    """
    import json
    from datetime import UTC, datetime

    from eastgate.insight.dump_ledger import ledger_among, ledger_of
    from eastgate.insight.dump_source import documents, with_query
    from eastgate.insight.errors import NoSuchPageError
    from eastgate.proxy.admin.ledger_page import ledger_text

    asked.check(dumps=bool(dump))
    query = {"kind": kind or "", "state": state or "", "name": name}
    now = datetime.now(UTC)
    if dump:
        source, document = ledger_among(documents(dump), now, **query)
    else:
        with asked.proxy() as admin:
            page = "/debug/xds"
            try:
                document = admin.read(with_query(page, type=kind, state=state, name=name))
            except NoSuchPageError:
                page = "/config_dump?include_eds"
                document = ledger_of(admin.read(page), now, **query)
            source = f"{admin.name}{page}"
    text = ledger_text(document, source)
    click.echo(json.dumps(document, indent=1) if as_json else text, nl=as_json)
