"""`eastgate doctor`: why failover or cross-network traffic cannot work."""

import sys

import click

from .options import DUMP_HELP, admin_option, dump_option, json_option, plain_option


@click.command()
@admin_option
@dump_option(f"{DUMP_HELP}; several config_dumps, and each folder, are several proxies")
@plain_option("--cluster", default="", metavar="NAME", help="only findings about this cluster")
@plain_option("--ignore", multiple=True, metavar="RULE", help="leave out this rule; repeatable")
@plain_option("--all", "show_all", is_flag=True, help="name every cluster that a rule found")
@json_option
def command(
    admin: str, dump: tuple[str, ...], cluster: str, ignore: tuple[str, ...], show_all: bool, as_json: bool
) -> None:
    """Say why failover or cross-network traffic cannot work. Exit code 1 when there is a finding."""
    import json
    from dataclasses import asdict

    from eastgate.insight.doctor_text import diagnosis, print_report
    from eastgate.insight.dump_source import proxies

    models = proxies(admin, dump, more=True)
    found = diagnosis(models, cluster=cluster, ignore=ignore)
    if as_json:
        click.echo(json.dumps({"findings": [asdict(one) for one in found]}, indent=1))
    else:
        from eastgate.insight.console import output_console

        print_report(found, models, output_console(), show_all=show_all)
    sys.exit(1 if found else 0)
