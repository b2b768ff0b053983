"""`eastgate mesh serve`: the embedded control plane of a mesh file."""

from typing import Any

import click
from eastgate.proxy.given import LOG

from .options import FROM_ENVIRONMENT, declared_options, option, source_of_option, told


@click.command(epilog=FROM_ENVIRONMENT)
@click.argument("file", type=click.Path(dir_okay=False))
@option("--listen", default="127.0.0.1:15010", metavar="HOST:PORT", help="plaintext ADS; port 0 = free")
@option("--secure", default="", metavar="HOST:PORT", help="ADS with TLS, and certificates for workloads with a token")
@option(
    "--identities", default="", metavar="DIR", help="with --secure: root-cert.pem, each workload's token and SDS socket"
)
@declared_options(LOG)
def command(file: str, listen: str, secure: str, identities: str, **flags: Any) -> None:
    """Send every node what istiod would send for FILE; read it again when it changes."""
    from pathlib import Path

    from eastgate.mesh.serving import Secure, serve_file
    from eastgate.proxy import log
    from eastgate.proxy.errors import SettingsError
    from eastgate.proxy.setting import join_host_port, parse_host_port

    said = told(flags)
    log.configure(said.log_level, said.log_format)
    where = source_of_option("listen")
    address = join_host_port(*parse_host_port(where, listen, allow_port_zero=True))
    if bool(secure) != bool(identities):
        given, missing = ("secure", "--identities") if secure else ("identities", "--secure")
        raise SettingsError(source_of_option(given), secure or identities, f"needs {missing} as well")
    also = None
    if secure:
        place = source_of_option("secure")
        also = Secure(join_host_port(*parse_host_port(place, secure, allow_port_zero=True)), Path(identities))
    try:
        serve_file(Path(file), address, also)
    except OSError as error:
        reason = error.strerror or str(error)
        if also and error.filename == also.address:
            raise SettingsError(source_of_option("secure"), secure, reason) from None
        if also and error.filename != address:
            raise SettingsError(source_of_option("identities"), identities, f"{error.filename}: {reason}") from None
        raise SettingsError(where, listen, reason) from None
