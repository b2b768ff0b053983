"""`eastgate probe`: one ClientHello to a gateway; what answered, or why it was refused."""

import socket
import sys
from typing import TYPE_CHECKING

import click
from eastgate.xds.whole_number import PORT, whole_number

from .asked import Asked, asked_options
from .options import dump_option, json_option, plain_option

if TYPE_CHECKING:
    from eastgate.insight.dump_source import Admin
    from eastgate.insight.probe import Connector


def host_port(context: click.Context, parameter: click.Parameter, value: str) -> tuple[str, int]:
    """HOST:PORT, or [HOST]:PORT. Raises BadParameter."""
    host, mark, port = value.rpartition(":")
    number = whole_number(port, PORT)
    if not mark or not host.strip("[]") or not number:
        raise click.BadParameter(f"{value!r}: expected HOST:PORT, such as 192.0.2.2:15443", context, parameter)
    return host.strip("[]"), number


SERVICE = "NAME.NAMESPACE:PORT[/SUBSET]"
seconds = {"metavar": "SECONDS", "show_default": True}


@click.command()
@click.argument("address", metavar="HOST:PORT", callback=host_port)
@plain_option(
    "--service", "services", multiple=True, metavar=SERVICE, help="or HOST:PORT, or the name of a cluster; repeatable"
)
@plain_option("--all", "every", is_flag=True, help="all services of --dump, or of the proxy that is asked")
@plain_option("--cert", default="", metavar="FILE", help="client certificate, a PEM chain")
@plain_option("--key", default="", metavar="FILE", help="its key; empty: in the same file")
@plain_option("--alpn", "protocols", multiple=True, metavar="PROTOCOL", help="instead of Istio's; repeatable")
@plain_option("--timeout", default=5.0, type=click.FloatRange(0.1, 300), help="for connect and handshake", **seconds)
@plain_option("--wait", default=1.0, type=click.FloatRange(0, 300), help="for a refusal after the handshake", **seconds)
@plain_option("--from", "origin", default="", metavar="POD", help="connect from this pod, or one of deploy/NAME")
@asked_options
@dump_option("with --all: take the services from Envoy's or eastgate's dumps of a client or gateway")
@json_option
def command(
    address: tuple[str, int],
    services: tuple[str, ...],
    every: bool,
    cert: str,
    key: str,
    protocols: tuple[str, ...],
    timeout: float,
    wait: float,
    origin: str,
    asked: Asked,
    dump: tuple[str, ...],
    as_json: bool,
) -> None:
    """Say the ClientHello of an Istio client to HOST:PORT. Exit code 1 unless pods of the mesh answer.

    --admin, or --pod, is the gateway: its own words for a refusal come from there. With --from the connection begins in
    that pod, beside its proxy.
    """
    import json

    from eastgate.insight.probe import ISTIO_PROTOCOLS, Hello
    from eastgate.insight.probe_services import Target, probe_all, server_name
    from eastgate.insight.probe_text import answer_lines, probed_json, table_lines

    if bool(services) is every:
        raise click.UsageError("--service or --all: for which services?")
    hello = Hello("", protocols or ISTIO_PROTOCOLS, cert, key)
    connect = connector(asked, origin) if origin else socket.create_connection
    with asked.proxy() as admin:
        names = names_of_all(admin, dump) if every else tuple(map(server_name, services))
        found = probe_all(Target(address, hello, timeout, wait, admin, connect), names)
    if as_json:
        click.echo(json.dumps({"probes": [probed_json(one) for one in found]}, indent=1))
    else:
        lines = table_lines(found) if every else [line for one in found for line in answer_lines(one)]
        click.echo("\n".join(lines))
    sys.exit(0 if all(one.answer.reached for one in found) else 1)


def connector(asked: Asked, origin: str) -> "Connector":
    """Connects as the pod does. Raises InsightError."""
    from eastgate.insight.pod_socket import PodConnector
    from eastgate.insight.pods import found_pod

    kubectl = asked.kubectl_in_context()
    return PodConnector(kubectl, found_pod(kubectl, origin, said_by="--from"))


def names_of_all(admin: "Admin", dump: tuple[str, ...]) -> tuple[str, ...]:
    """Server names of all services that a dump, or the proxy that is asked, knows. Raises InsightError."""
    from eastgate.insight.dump_source import proxies
    from eastgate.insight.errors import InsightError
    from eastgate.insight.probe_services import names_of

    models = proxies(admin, dump)
    names = names_of(models)
    if not names:
        raise InsightError(f"--all: no service in {', '.join(one.source for one in models)}")
    return names
