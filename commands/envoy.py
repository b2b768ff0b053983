"""`eastgate-envoy`: Envoy's own arguments, as pilot-agent writes them, for a process that stands where Envoy stood.

Flags that have no meaning here are taken and ignored; one that no Envoy has known is warned about, so that a newer
agent does not end in a loop of restarts. https://www.envoyproxy.io/docs/envoy/latest/operations/cli
"""

import os

# Before anything that takes time: a parent that ends while modules load must not go unnoticed.
PARENT = os.getppid()

import sys  # noqa: E402
from collections.abc import Callable  # noqa: E402
from typing import Any, NoReturn  # noqa: E402

import click  # noqa: E402
from eastgate.proxy.errors import EastgateError  # noqa: E402

from .lazy import loading  # noqa: E402

IGNORED_VALUES = (
    "--base-id",
    "--bootstrap-version",
    "--component-log-level",
    "--disable-extensions",
    "--drain-strategy",
    "--file-flush-interval-msec",
    "--file-flush-min-size-kb",
    "--local-address-ip-version",
    "--log-format",
    "--max-obj-name-len",
    "--max-stats",
    "--parent-shutdown-time-s",
    "--restart-epoch",
    "--service-zone",
    "--socket-mode",
    "--socket-path",
)
IGNORED_FLAGS = (
    "--allow-unknown-fields",
    "--allow-unknown-static-fields",
    "--cpuset-threads",
    "--disable-hot-restart",
    "--enable-core-dump",
    "--enable-fine-grain-logging",
    "--enable-mutex-tracing",
    "--ignore-unknown-dynamic-fields",
    "--ignore_rest",
    "--log-format-escaped",
    "--log-stacktrace-single-entry",
    "--reject-unknown-dynamic-fields",
    "--skip-deprecated-logs",
    "--skip-hot-restart-on-no-parent",
    "--skip-hot-restart-parent-stats",
    "--use-dynamic-base-id",
)


def ignored(command: Callable[..., Any]) -> Callable[..., Any]:
    """Take what Envoy takes and we have no use for."""
    for flag in IGNORED_VALUES:
        command = click.option(flag, multiple=True, hidden=True, expose_value=False)(command)
    for flag in IGNORED_FLAGS:
        command = click.option(flag, is_flag=True, hidden=True, expose_value=False)(command)
    return command


def print_version(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    """A line of the shape of Envoy's, which tools cut at slashes, that says whose version it is."""
    if wanted:
        from importlib.metadata import version

        click.echo(f"\n{sys.argv[0]}  version: eastgate/{version('eastgate')}/Clean/RELEASE/OpenSSL\n")
        context.exit()


def print_hot_restart(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    """There is none."""
    if wanted:
        click.echo("disabled")
        context.exit()


@click.command(
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": ["-h", "--help"]}
)
@click.option("-c", "--config-path", default="", metavar="FILE", help="bootstrap, JSON or YAML")
@click.option("--config-yaml", default="", metavar="TEXT", help="merged into the bootstrap")
@click.option("--drain-time-s", default=600.0, type=click.FloatRange(0), metavar="SECONDS", help="length of a drain")
@click.option("--concurrency", type=click.IntRange(0), metavar="N", help="workers  [default: granted CPUs]")
@click.option("-l", "--log-level", default="info", metavar="LEVEL", help="trace to off")
@click.option("--log-path", default="", metavar="FILE", help="where the log goes  [default: stderr]")
@click.option("--mode", default="serve", type=click.Choice(["serve", "validate", "init_only"]), help="serve, or check")
@click.option("--admin-address-path", default="", metavar="FILE", help="where the admin's address is written to")
@click.option("--base-id-path", default="", hidden=True)
@click.option("--service-cluster", default="", metavar="NAME", help="the node's cluster")
@click.option("--service-node", default="", metavar="ID", help="the node's id")
@click.option("--stats-tag", "stats_tags", multiple=True, metavar="NAME:VALUE", help="a label of all metrics")
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=print_version, help="print it")
@click.option("--hot-restart-version", is_flag=True, is_eager=True, expose_value=False, callback=print_hot_restart)
@ignored
def envoy(mode: str, log_path: str, base_id_path: str, **said: Any) -> None:
    """Run in Envoy's place, with Envoy's arguments. Others of Envoy's flags are taken and ignored."""
    with loading():
        from eastgate.proxy import log
        from eastgate.proxy.envoy_settings import EnvoyFlags, envoy_settings

    settings = envoy_settings(EnvoyFlags(**said), os.environ)
    log.configure(settings.given.log_level, settings.given.log_format, log_path)
    for word in click.get_current_context().args:
        if word.startswith("-"):
            log.Log("arguments").warning("unknown flag, ignored", flag=word)
    if mode != "serve":
        from eastgate.proxy.about import node_identity

        # What istiod would refuse, or could not even be sent.
        node_identity(settings, os.environ)
        click.echo(f"configuration '{said['config_path']}' OK")
        return
    if base_id_path:
        write_file("--base-id-path", base_id_path, "0")
    with loading():
        from eastgate.fastpath.parent import end_with
        from eastgate.proxy.app import run_gateway

    if end_with(PARENT):
        run_gateway(settings)


def write_file(flag: str, path: str, text: str) -> None:
    """Raises EastgateError."""
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise EastgateError(f"{flag} {path}: cannot be written: {error.strerror}") from None


def fail(reason: str) -> NoReturn:
    """One line on stderr, and the exit code of Envoy for what it does not start with."""
    from eastgate.proxy.log import one_line

    sys.stderr.write(f"eastgate-envoy: {one_line(reason)}\n")
    sys.exit(1)


def main() -> None:
    """Entry point."""
    try:
        envoy.main(standalone_mode=False)
    except click.ClickException as error:
        fail(" ".join(error.format_message().split()))
    except (click.Abort, KeyboardInterrupt):
        sys.exit(0)
    except EastgateError as error:
        fail(str(error))
