"""`eastgate record`: a journal without a gateway."""

from typing import Any

import click
from eastgate.proxy.given import JOURNAL, LOG, STREAM

from .options import FROM_ENVIRONMENT, declared_options, told


@click.command(epilog=FROM_ENVIRONMENT)
@click.argument("directory", type=click.Path(file_okay=False))
@declared_options(STREAM, JOURNAL, LOG)
def command(directory: str, **flags: Any) -> None:
    """Subscribe to istiod as a gateway would, serve nobody, and keep every push in a journal in DIRECTORY."""
    from eastgate.proxy import log
    from eastgate.proxy.recording import run_record
    from eastgate.proxy.settings import resolve

    settings = resolve(told({**flags, "record": directory, "workers": 0}))
    log.configure(settings.given.log_level, settings.given.log_format)
    run_record(settings)
