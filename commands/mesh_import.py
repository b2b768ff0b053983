"""`eastgate mesh import`: running clusters as a mesh file."""

from typing import IO

import click

from .options import plain_option


@click.command()
@plain_option(
    "--context", "contexts", multiple=True, required=True, metavar="CONTEXT[=CLUSTER]", help="of kubectl; repeatable"
)
@plain_option("--kubectl", default="kubectl", metavar="PROGRAM", help="the program to run")
@plain_option("--output", default="-", type=click.File("w", lazy=True), metavar="FILE", help="where it goes; - = here")
def command(contexts: tuple[str, ...], kubectl: str, output: IO[str]) -> None:
    """Write what kubectl says of these clusters as a mesh file: pods, services, nodes, rules, and never a secret.

    A cluster is called as its istiod calls it, unless CONTEXT=CLUSTER says otherwise.
    """
    from eastgate.mesh.importing import collect, mesh_text, run_kubectl

    found = []
    for text in contexts:
        context, _, name = text.partition("=")
        click.echo(f"reading {context}", err=True)
        found.append(collect(run_kubectl(kubectl, context), name))
    told, findings = mesh_text(found)
    for finding in findings:
        click.echo(finding, err=True)
    output.write(told)
