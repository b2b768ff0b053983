"""`eastgate replay`: what a gateway had after one push of a journal, shown or served."""

from typing import TYPE_CHECKING

import click

from .options import json_option, plain_option
from .output import note

if TYPE_CHECKING:
    from eastgate.proxy.disk.replay import Journal, Replayed


@click.command()
@click.argument("journal", type=click.Path())
@plain_option("--push", default=None, type=click.IntRange(min=1), metavar="N", help="after push N  [default: the last]")
@plain_option("--at", default="", metavar="TIME", help="as it was at this time, 2026-03-04T09:12:01Z")
@plain_option("--cluster", default="", metavar="NAME", help="only this cluster")
@plain_option("--explain", is_flag=True, help="explain the shares of the cluster, as eastgate explain does")
@plain_option("--list", "listed", is_flag=True, help="list the pushes instead")
@json_option
@plain_option("--serve", default="", metavar="HOST:PORT", help="be a control plane that sends this, plaintext ADS")
@plain_option("--interval", default=0.0, type=click.FloatRange(0), metavar="SECONDS", help="and then push after push")
def command(
    journal: str,
    push: int | None,
    at: str,
    cluster: str,
    explain: bool,
    listed: bool,
    as_json: bool,
    serve: str,
    interval: float,
) -> None:
    """Show the endpoints that a gateway had after one push of JOURNAL, a directory of --record or a file of it."""
    from eastgate.proxy.disk.replay import Journal, wanted_of

    if serve:
        from eastgate.proxy import log
        from eastgate.proxy.replay_server import run_serve

        log.configure("info")
        run_serve(journal, serve, push=push, at=at, interval_s=interval)
        return
    opened = Journal(journal)
    if listed:
        show_list(opened, as_json=as_json)
        return
    replayed = opened.at(wanted_of(push, at))
    note(replayed.notes)
    if explain:
        show_shares(replayed, cluster, as_json=as_json)
    else:
        show_endpoints(replayed, cluster, as_json=as_json)


def show_list(journal: "Journal", *, as_json: bool) -> None:
    """All pushes."""
    import json
    from dataclasses import asdict

    from eastgate.proxy.disk.replay import list_text

    pushes = list(journal.pushes())
    text = json.dumps([asdict(push) for push in pushes], indent=1) if as_json else list_text(pushes)
    click.echo(text, nl=as_json)


def show_endpoints(replayed: "Replayed", cluster: str, *, as_json: bool) -> None:
    """The table of `eastgate endpoints`."""
    import json
    from dataclasses import asdict

    from eastgate.insight.answer import find_cluster
    from eastgate.insight.endpoint_table import rows_of_all, table_text
    from eastgate.proxy.disk.replay import described

    model = replayed.model()
    if cluster:
        find_cluster([model], cluster)
    rows = rows_of_all([model], cluster)
    shown = json.dumps([asdict(row) for row in rows], indent=1) if as_json else table_text(rows)
    click.echo(shown if as_json else f"{described(replayed)}\n\n{shown}", nl=as_json)


def show_shares(replayed: "Replayed", cluster: str, *, as_json: bool) -> None:
    """What `eastgate explain` says."""
    import json

    from eastgate.insight.answer import answer, answer_json, find_cluster
    from eastgate.insight.answer_text import ENDPOINTS_SHOWN, print_answer
    from eastgate.insight.console import output_console
    from eastgate.proxy.disk.replay import described

    if not cluster:
        raise click.UsageError("--explain: say which cluster with --cluster NAME")
    said = answer(*find_cluster([replayed.model()], cluster), what_if=(), duplicates="envoy")
    if as_json:
        click.echo(json.dumps(answer_json(said), indent=1))
        return
    console = output_console()
    console.print(described(replayed) + "\n")
    print_answer(said, console, limit=ENDPOINTS_SHOWN)
