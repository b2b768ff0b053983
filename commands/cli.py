"""The command line: flags to settings, errors to exit codes. 0 fine, 1 a finding, 2 bad usage or configuration."""

import sys
from typing import Any

import click
from eastgate.proxy.errors import EastgateError
from eastgate.proxy.given import JOURNAL, LOG, SERVING, STREAM

from .options import DUMP_HELP, declared_options, option, source_of, told

CONTEXT = {"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "EASTGATE", "show_default": True}
FROM_ENVIRONMENT = "Each option can be given as EASTGATE_<OPTION> too: EASTGATE_DRAIN_TIME for --drain-time."


def print_version(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    """Answer --version before anything else is looked at."""
    if wanted:
        from eastgate.proxy.build_info import lines

        click.echo("\n".join(lines()))
        context.exit()


@click.group(context_settings=CONTEXT)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=print_version, help="Show versions and exit."
)
def eastgate() -> None:
    """A TCP data plane for Istio multi-cluster meshes."""


@eastgate.command(epilog=FROM_ENVIRONMENT)
@declared_options(STREAM, SERVING, JOURNAL, LOG)
def gateway(**flags: Any) -> None:
    """Run as an east-west gateway, configured by istiod."""
    from eastgate.proxy import log
    from eastgate.proxy.app import run_gateway
    from eastgate.proxy.settings import resolve

    settings = resolve(told(flags))
    log.configure(settings.given.log_level, settings.given.log_format)
    run_gateway(settings)


@eastgate.command()
@option("--admin", default="http://127.0.0.1:15000", metavar="URL", help="admin of a running proxy")
@click.option("--dump", multiple=True, metavar="FILE", help=DUMP_HELP)
@option("--cluster", default="", metavar="NAME", help="only this cluster")
@click.option("--json", "as_json", is_flag=True, help="print JSON")
def endpoints(admin: str, dump: tuple[str, ...], cluster: str, as_json: bool) -> None:
    """Show endpoints with health, priority, locality, weight and share."""
    from .endpoints import print_endpoints

    print_endpoints(admin, dump, cluster, as_json=as_json)


@eastgate.command()
@click.argument("cluster")
@option("--admin", default="http://127.0.0.1:15000", metavar="URL", help="admin of a running proxy, Envoy or eastgate")
@click.option("--dump", multiple=True, metavar="FILE", help=DUMP_HELP)
@click.option(
    "--what-if",
    multiple=True,
    metavar="OUTAGE",
    help="show before and after: down=ADDRESS, zone=, region=, locality=, priority=, cluster=; repeatable",
)
@click.option(
    "--duplicates",
    default="envoy",
    type=click.Choice(["envoy", "sum"]),
    help="one address in several entries: the first counts, as in Envoy, or their weights are added up",
)
@click.option("--all", "show_all", is_flag=True, help="print every endpoint of a large cluster")
@click.option("--json", "as_json", is_flag=True, help="print JSON")
def explain(cluster: str, admin: str, dump: tuple[str, ...], **wanted: Any) -> None:
    """Explain the shares of CLUSTER: who gets how much, and why."""
    from .explain import print_explanation

    print_explanation(cluster, admin, dump, **wanted)


@eastgate.command()
@option("--admin", default="http://127.0.0.1:15000", metavar="URL", help="admin of a running proxy, Envoy or eastgate")
@click.option("--dump", multiple=True, metavar="FILE", help=f"{DUMP_HELP}; several config_dumps are several proxies")
@click.option("--cluster", default="", metavar="NAME", help="only findings about this cluster")
@click.option("--ignore", multiple=True, metavar="RULE", help="leave out this rule; repeatable")
@click.option("--all", "show_all", is_flag=True, help="name every cluster that a rule found")
@click.option("--json", "as_json", is_flag=True, help="print JSON")
def doctor(admin: str, dump: tuple[str, ...], **wanted: Any) -> None:
    """Say why failover or cross-network traffic cannot work. Exit code 1 when there is a finding."""
    from .doctor import print_diagnosis

    sys.exit(print_diagnosis(admin, dump, **wanted))


@eastgate.command()
@option("--admin", default="http://127.0.0.1:15000", metavar="URL", help="admin of a running eastgate")
@click.option("--type", "kind", default="", type=click.Choice(["", "cds", "eds", "lds"]), help="only this type")
@click.option("--state", default="", type=click.Choice(["", "acked", "nacked", "requested", "restored"]))
@click.option("--name", default="", metavar="PART", help="only resources whose name holds this")
@click.option("--json", "as_json", is_flag=True, help="print JSON")
def ledger(admin: str, kind: str, state: str, name: str, as_json: bool) -> None:
    """Show which version of each resource was accepted or rejected, when, and why."""
    from urllib.parse import quote, urlencode

    from eastgate.proxy.admin.ledger_page import print_ledger

    from .dump_source import fetch

    url = f"{admin.rstrip('/')}/debug/xds"
    query = urlencode({"type": kind, "state": state, "name": name}, quote_via=quote)
    print_ledger(fetch(f"{url}?{query}"), url, as_json=as_json)


@eastgate.command(epilog=FROM_ENVIRONMENT)
@click.argument("directory", type=click.Path(file_okay=False))
@declared_options(STREAM, JOURNAL, LOG)
def record(directory: str, **flags: Any) -> None:
    """Subscribe to istiod as a gateway would, serve nobody, and keep every push in a journal in DIRECTORY."""
    from eastgate.proxy import log
    from eastgate.proxy.settings import resolve

    from .record import run_record

    settings = resolve(told({**flags, "record": directory, "workers": 0}))
    log.configure(settings.given.log_level, settings.given.log_format)
    run_record(settings)


@eastgate.command()
@click.argument("journal", type=click.Path())
@click.option("--push", default=None, type=click.IntRange(min=1), metavar="N", help="after push N  [default: the last]")
@click.option("--at", default="", metavar="TIME", help="as it was at this time, 2026-03-04T09:12:01Z")
@click.option("--cluster", default="", metavar="NAME", help="only this cluster")
@click.option("--explain", is_flag=True, help="explain the shares of the cluster, as eastgate explain does")
@click.option("--list", "listed", is_flag=True, help="list the pushes instead")
@click.option("--json", "as_json", is_flag=True, help="print JSON")
@click.option("--serve", default="", metavar="HOST:PORT", help="be a control plane that sends this, plaintext ADS")
@click.option("--interval", default=0.0, type=click.FloatRange(0), metavar="SECONDS", help="and then push after push")
def replay(journal: str, serve: str, interval: float, **wanted: Any) -> None:
    """Show the endpoints that a gateway had after one push of JOURNAL, a directory of --record or a file of it."""
    if serve:
        from eastgate.proxy import log

        from .replay_serve import run_serve

        log.configure("info")
        run_serve(journal, serve, push=wanted["push"], at=wanted["at"], interval_s=interval)
        return
    from .replay import print_replay

    print_replay(journal, **wanted)


@eastgate.command()
@click.argument("before")
@click.argument("after", required=False, default="")
@click.option("--cluster", default="", metavar="NAME", help="only this cluster and the chains that lead to it")
@click.option("--json", "as_json", is_flag=True, help="print JSON")
def diff(before: str, after: str, cluster: str, as_json: bool) -> None:
    """Say what the step from BEFORE to AFTER does to traffic, in shares. Exit code 1 when something differs.

    Each is JOURNAL@PUSH, JOURNAL@TIME, JOURNAL (its end) or a config_dump with endpoints. BEFORE alone: what that push
    did.
    """
    from .diff import print_difference

    sys.exit(print_difference(before, after, cluster=cluster, json_wanted=as_json))


@eastgate.command()
@click.option("--connections", default=None, type=click.IntRange(1, 1_000_000), help="connections per stage  [1000]")
@click.option("--json", "as_json", is_flag=True, help="print JSON")
def demo(connections: int | None, as_json: bool) -> None:
    """Two meshed clusters on loopback, failing over and back: gateways, control planes and mTLS are real."""
    from eastgate.proxy import log

    from .mesh_run import run_demo

    log.configure("error")
    run_demo(as_json=as_json, connections=connections)


@eastgate.command()
@click.argument("file", required=False, default="", type=click.Path(dir_okay=False))
@click.option("--step", default="", metavar="NAME", help="the mesh as it is in this step of the file's scenario")
@click.option("--dump", multiple=True, metavar="FILE", help=DUMP_HELP)
@click.option("--cluster", default="", metavar="NAME", help="the cluster of the dump")
@click.option("--connections", default=20_000, type=click.IntRange(100, 10_000_000), help="through each  [20000]")
@click.option("--json", "as_json", is_flag=True, help="print JSON")
def compare_envoy(file: str, step: str, dump: tuple[str, ...], cluster: str, connections: int, as_json: bool) -> None:
    """The same configuration and connections through real Envoy and eastgate: shares, CPU, memory, latency.

    The configuration is the scenario's service of a mesh FILE, or one cluster of a dump.
    """
    from eastgate.proxy import log

    from .compare_envoy import run_compare

    log.configure("error")
    run_compare(file, step=step, dumps=dump, cluster=cluster, connections=connections, as_json=as_json)


@eastgate.group()
def mesh() -> None:
    """The embedded control plane: serve a mesh file, or run its scenario."""


@mesh.command()
@click.argument("file", type=click.Path(dir_okay=False))
@option("--listen", default="127.0.0.1:15010", metavar="HOST:PORT", help="plaintext ADS; port 0 = free")
@declared_options(LOG)
def serve(file: str, listen: str, **flags: Any) -> None:
    """Send every node what istiod would send for FILE; read it again when it changes."""
    from eastgate.proxy import log

    from .mesh_serve import run_serve

    said = told(flags)
    log.configure(said.log_level, said.log_format)
    run_serve(file, listen)


@mesh.command()
@click.argument("file", type=click.Path(dir_okay=False))
@click.option("--connections", default=None, type=click.IntRange(1, 1_000_000), help="connections per step")
@click.option("--json", "as_json", is_flag=True, help="print JSON")
def run(file: str, connections: int | None, as_json: bool) -> None:
    """Run the scenario of FILE on loopback; exit 1 when a share is off by more than sampling allows."""
    from eastgate.proxy import log

    from .mesh_run import read_file, run_file

    log.configure("warning")
    run_file(read_file(file), file, as_json=as_json, connections=connections)


@eastgate.command()
def version() -> None:
    """Print the version, and those of what it runs on."""
    from eastgate.proxy.build_info import lines

    click.echo("\n".join(lines()))


def main() -> None:
    """Entry point: errors of the user become one line on stderr."""
    try:
        eastgate.main(standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message())
        sys.exit(2)
    except click.BadParameter as error:
        where = source_of(error.ctx, error.param) if error.ctx and error.param else ""
        reason = " ".join((error.message or error.format_message()).split())
        print(f"eastgate: {where}: {reason}" if where else f"eastgate: {reason}", file=sys.stderr)
        sys.exit(2)
    except click.ClickException as error:
        print(f"eastgate: {' '.join(error.format_message().split())}", file=sys.stderr)
        sys.exit(2)
    except click.Abort:
        sys.exit(130)
    except EastgateError as error:
        from eastgate.proxy.log import one_line

        # Names in it may come from a file or from a proxy.
        print(f"eastgate: {one_line(str(error))}", file=sys.stderr)
        sys.exit(error.exit_code)
