"""`eastgate sidecar`: the running proxy beside one workload, without pilot-agent."""

from typing import Any

import click
from eastgate.proxy.given import IDENTITY, JOURNAL, LOG, SERVING, STREAM

from .lazy import loading
from .options import FROM_ENVIRONMENT, declared_options, plain_option, told


def print_rules(context: click.Context, _: click.Parameter, tool: str | None) -> None:
    """Answer --print-iptables before anything else is looked at."""
    if tool is not None:
        from eastgate.proxy.interception import TOOLS, plan

        found = next(one for one in TOOLS if one == tool)
        click.echo(plan(found), nl=False)
        context.exit()


@click.command(epilog=FROM_ENVIRONMENT)
@declared_options(STREAM, IDENTITY, SERVING, JOURNAL, LOG)
@plain_option(
    "--print-iptables",
    type=click.Choice(["iptables", "ip6tables", "nft"]),
    is_flag=False,
    flag_value="iptables",
    default=None,
    is_eager=True,
    expose_value=False,
    callback=print_rules,
    help="print the rules that send connections here, and end: for iptables-restore, ip6tables-restore or nft",
)
def command(**flags: Any) -> None:
    """Run beside one workload, configured by istiod."""
    with loading():
        from eastgate.proxy import log
        from eastgate.proxy.app import run_gateway
        from eastgate.proxy.role import SIDECAR
        from eastgate.proxy.settings import resolve

    settings = resolve(told(flags), SIDECAR)
    log.configure(settings.given.log_level, settings.given.log_format)
    run_gateway(settings)
