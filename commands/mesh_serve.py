"""`eastgate mesh serve`: the embedded control plane of a mesh file."""

from typing import Any

import click
from eastgate.proxy.given import LOG

from .options import FROM_ENVIRONMENT, declared_options, option, source_of_option, told


@click.command(epilog=FROM_ENVIRONMENT)
@click.argument("file", type=click.Path(dir_okay=False))
@option("--listen", default="127.0.0.1:15010", metavar="HOST:PORT", help="plaintext ADS; port 0 = free")
@declared_options(LOG)
def command(file: str, listen: str, **flags: Any) -> None:
    """Send every node what istiod would send for FILE; read it again when it changes."""
    from pathlib import Path

    from eastgate.mesh.serving import serve_file
    from eastgate.proxy import log
    from eastgate.proxy.errors import SettingsError
    from eastgate.proxy.setting import join_host_port, parse_host_port

    said = told(flags)
    log.configure(said.log_level, said.log_format)
    where = source_of_option("listen")
    address = join_host_port(*parse_host_port(where, listen, allow_port_zero=True))
    try:
        serve_file(Path(file), address)
    except OSError as error:
        raise SettingsError(where, listen, error.strerror or str(error)) from None
