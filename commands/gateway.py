"""`eastgate gateway`: the running proxy."""

from typing import Any

import click
from eastgate.proxy.given import IDENTITY, JOURNAL, LOG, SERVING, STREAM

from .lazy import loading
from .options import FROM_ENVIRONMENT, declared_options, told


@click.command(epilog=FROM_ENVIRONMENT)
@declared_options(STREAM, IDENTITY, SERVING, JOURNAL, LOG)
def command(**flags: Any) -> None:
    """Run as an east-west gateway, configured by istiod."""
    with loading():
        from eastgate.proxy import log
        from eastgate.proxy.app import run_gateway
        from eastgate.proxy.settings import resolve

    settings = resolve(told(flags))
    log.configure(settings.given.log_level, settings.given.log_format)
    run_gateway(settings)
