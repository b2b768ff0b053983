"""The command line: which commands there are, and errors to exit codes.

0 fine, 1 a finding or a failed expectation, 2 bad usage or configuration: one line on stderr, no traceback.
"""

import sys
from typing import NoReturn

import click
from eastgate.insight.errors import InsightError
from eastgate.mesh.errors import MeshError
from eastgate.proxy.errors import EastgateError

from .lazy import Entry, LazyGroup
from .options import source_of
from .output import OutputLostError, open_streams

CONTEXT = {"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "EASTGATE", "show_default": True}
OWN_ERRORS = (EastgateError, InsightError, MeshError)
INTERRUPTED = 130

ENTRIES = {
    "demo": Entry("demo", "Two meshed clusters on loopback, failing over and back.", extra="mesh"),
    "gateway": Entry("gateway", "Run as an east-west gateway, configured by istiod."),
    "sidecar": Entry("sidecar", "Run beside one workload, configured by istiod.", extra="tls"),
    "endpoints": Entry("endpoints", "Show endpoints with health, priority, locality, weight and share."),
    "explain": Entry("explain", "Explain the shares of a cluster: who gets how much, and why."),
    "doctor": Entry("doctor", "Say why failover or cross-network traffic cannot work."),
    "probe": Entry("probe", "Say an Istio client's hello to a gateway: what answers, or why not.", extra="tls"),
    "page": Entry("page", "Serve the page of a proxy on this machine: stock Envoy too, in a pod or in files."),
    "ledger": Entry("ledger", "Show which version of each resource was accepted or rejected, when, and why."),
    "events": Entry("events", "Say when and why traffic moved, endpoints were ejected, resources rejected."),
    "record": Entry("record", "Keep every push of an istiod in a journal, and serve nobody."),
    "replay": Entry("replay", "Show the endpoints that a gateway had after one push of a journal.", extra="mesh"),
    "diff": Entry("diff", "Say what the step from one configuration to another does to traffic, in shares."),
    "mesh": Entry("mesh", "The embedded control plane: serve a mesh file, or run its scenario.", extra="mesh"),
    "compare-envoy": Entry(
        "compare_envoy", "The same configuration and connections through real Envoy and eastgate.", extra="mesh"
    ),
    "bench": Entry("bench", "Measure parts of eastgate on this machine: how long choosing an endpoint takes."),
    "version": Entry("version", "Print the version, and those of what it runs on."),
}


def print_version(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    """Answer --version before anything else is looked at."""
    if wanted:
        from eastgate.proxy.build_info import lines

        click.echo("\n".join(lines()))
        context.exit()


@click.group(cls=LazyGroup, entries=ENTRIES, context_settings=CONTEXT)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=print_version,
    help="Show versions and exit.",
)
def eastgate() -> None:
    """A TCP data plane for Istio multi-cluster meshes."""


def fail(reason: str, code: int) -> NoReturn:
    """One line on stderr, whatever names from outside are in it, and the exit code."""
    from eastgate.proxy.log import one_line

    sys.stderr.write(f"eastgate: {one_line(reason)}\n")
    sys.exit(code)


def bad_parameter(error: click.BadParameter) -> str:
    """What is wrong with an option or argument, by the name under which the user gave it."""
    reason = " ".join((error.message or error.format_message()).split())
    return f"{source_of(error.ctx, error.param)}: {reason}" if error.ctx and error.param else reason


def run() -> None:
    """The command, and the end of what it printed. Raises what it raises."""
    try:
        eastgate.main(standalone_mode=False)
    finally:
        # Here, where an error of it is ours to report, and not at the end of the interpreter.
        sys.stdout.flush()


def main() -> None:
    """Entry point: errors of the user become one line on stderr."""
    open_streams()
    try:
        run()
    except click.exceptions.NoArgsIsHelpError as error:
        sys.stderr.write(error.format_message() + "\n")
        sys.exit(2)
    except OutputLostError as error:
        fail(str(error), error.exit_code) if error.told else sys.exit(error.exit_code)
    except click.exceptions.MissingParameter as error:
        fail(" ".join(error.format_message().split()), 2)
    except click.BadParameter as error:
        fail(bad_parameter(error), 2)
    except click.ClickException as error:
        fail(" ".join(error.format_message().split()), 2)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(INTERRUPTED)
    except OWN_ERRORS as error:
        fail(str(error), getattr(error, "exit_code", 2))
