"""The command line: flags to settings, errors to exit codes. 0 fine, 1 a finding, 2 bad usage or configuration."""

import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click
from eastgate.proxy.errors import EastgateError

Command = TypeVar("Command", bound=Callable[..., Any])

DUMP_HELP = "read Envoy's or eastgate's config_dump (with EDS), /clusters JSON, or both, instead; repeatable"

CONTEXT = {"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "EASTGATE", "show_default": True}


@click.group(context_settings=CONTEXT)
def eastgate() -> None:
    """A TCP data plane for Istio multi-cluster meshes."""


def option(flag: str, **settings: Any) -> Callable[[Command], Command]:
    """An option that also reads EASTGATE_<FLAG>."""
    name = flag.removeprefix("--").replace("-", "_").upper()
    return click.option(flag, envvar=f"EASTGATE_{name}", show_envvar=True, **settings)


def options(*each: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Several options that commands share, in this order."""

    def apply(command: Command) -> Command:
        for one in reversed(each):
            command = one(command)
        return command

    return apply


stream_options = options(
    option("--discovery", multiple=True, metavar="HOST:PORT", help="istiod's ADS, or unix:PATH; repeat for fail-over"),
    option(
        "--discovery-root-cert", default="", metavar="FILE", help="istiod's root certificate; turns TLS on (port 15012)"
    ),
    option(
        "--discovery-server-name", default="", metavar="NAME", help="name in istiod's certificate  [default: the host]"
    ),
    option("--token-file", default="", metavar="FILE", help="bearer token for istiod, read anew at each connection"),
    option("--client-cert", default="", metavar="FILE", help="client certificate chain for istiod"),
    option("--client-key", default="", metavar="FILE", help="its private key"),
    option(
        "--xds-protocol", default=None, type=click.Choice(["sotw", "delta"]), help="variant of ADS  [default: sotw]"
    ),
    option(
        "--bootstrap", default="", metavar="FILE", help="Envoy's bootstrap as pilot-agent renders it; flags win over it"
    ),
    option(
        "--node-id", default="", metavar="ID", help="router~IP~POD.NAMESPACE~DOMAIN; made up from the rest if missing"
    ),
    option("--cluster-id", default="", metavar="NAME", help="name of this Kubernetes cluster in the mesh"),
    option("--network", default="", metavar="NAME", help="network of this gateway"),
    option(
        "--network-view",
        default=None,
        metavar="NAMES",
        help="networks whose endpoints are wanted  [default: --network]",
    ),
    option("--namespace", default="", metavar="NAME", help="namespace of the gateway  [default: istio-system]"),
    option("--label", multiple=True, metavar="K=V", help="label that Gateway selectors see; repeatable"),
    option("--locality", default="", metavar="R/Z/S", help="region, zone, sub zone"),
    option(
        "--local-cluster",
        default="",
        metavar="NAME",
        help="cluster of the gateways like this one: routes by zone  [off]",
    ),
    option("--meta", multiple=True, metavar="K=V", help="further node metadata; repeatable"),
)
journal_options = options(
    option("--record-file-mb", default=64.0, type=float, metavar="MB", help="size of one file of the journal"),
    option("--record-files", default=8, type=int, metavar="N", help="files of the journal to keep"),
)


@eastgate.command()
@stream_options
@option("--sds-socket", default="", metavar="PATH", help="Unix socket where pilot-agent serves the workload's keys")
@option(
    "--admin", default="", metavar="HOST:PORT", help="admin, loopback only; port 0 = free  [default: 127.0.0.1:15000]"
)
@option("--status", default="", metavar="HOST:PORT", help="readiness for kubelet's probes, and nothing else  [off]")
@option("--metrics", default="", metavar="HOST:PORT", help="/stats/prometheus, and nothing else  [off]")
@option("--state-dir", default="", metavar="DIR", help="keep the last good configuration there, serve it at start")
@option("--state-max-age", default=86_400.0, type=float, metavar="SECONDS", help="oldest configuration to serve")
@option("--record", default="", metavar="DIR", help="keep every push of istiod in a journal there")
@journal_options
@option(
    "--workers",
    default=None,
    type=int,
    metavar="N",
    help="native threads; 0: one loop on the control thread  [default: granted CPUs]",
)
@option("--drain-time", default=45.0, type=float, metavar="SECONDS", help="how long to go on accepting after SIGTERM")
@option("--access-log", default="", metavar="PATH", help="file for one line per connection; - is stdout")
@option("--access-log-format", default="text", type=click.Choice(["text", "json"]))
@option("--max-connections", default=1_000_000, type=int, metavar="N", help="open connections before refusing more")
@option("--defer-accept", is_flag=True, help="leave clients in the kernel until they send something")
@option("--fast-open", is_flag=True, help="take data with the first packet (TCP Fast Open)")
@option("--busy-poll", default=0, type=int, metavar="MICROSECONDS", help="ask for events so long before going to sleep")
@option("--log-level", default="info", type=click.Choice(["debug", "info", "warning", "error", "critical"]))
@option("--seed", default=None, type=int, metavar="N", help="seed of all random choices, for repeatable runs")
def gateway(**flags: Any) -> None:
    """Run as an east-west gateway, configured by istiod."""
    from eastgate.proxy import log
    from eastgate.proxy.app import run_gateway
    from eastgate.proxy.settings import gateway_settings

    settings = gateway_settings(**flags)
    log.configure(settings.log_level)
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


@eastgate.command()
@click.argument("directory", type=click.Path(file_okay=False))
@stream_options
@journal_options
@option("--log-level", default="info", type=click.Choice(["debug", "info", "warning", "error", "critical"]))
def record(directory: str, log_level: str, **flags: Any) -> None:
    """Subscribe to istiod as a gateway would, serve nobody, and keep every push in a journal in DIRECTORY."""
    from eastgate.proxy import log
    from eastgate.proxy.settings import gateway_settings

    from .record import run_record

    settings = gateway_settings(record=directory, log_level=log_level, workers=0, **flags)
    log.configure(log_level)
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
@option("--log-level", default="info", type=click.Choice(["debug", "info", "warning", "error", "critical"]))
def serve(file: str, listen: str, log_level: str) -> None:
    """Send every node what istiod would send for FILE; read it again when it changes."""
    from eastgate.proxy import log

    from .mesh_serve import run_serve

    log.configure(log_level)
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
    """Print the version."""
    from importlib.metadata import version as installed_version

    print(f"eastgate {installed_version('eastgate')}")


def main() -> None:
    """Entry point: errors of the user become one line on stderr."""
    try:
        eastgate.main(standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message())
        sys.exit(2)
    except click.ClickException as error:
        print(f"eastgate: {' '.join(error.format_message().split())}", file=sys.stderr)
        sys.exit(2)
    except click.Abort:
        sys.exit(130)
    except EastgateError as error:
        print(f"eastgate: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
