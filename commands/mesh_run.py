"""`eastgate mesh run`: the scenario of a mesh file."""

import click

from .options import connections_per_step, json_option, stay_option


@click.command()
@click.argument("file", type=click.Path(dir_okay=False))
@connections_per_step
@stay_option
@json_option
def command(file: str, connections: int | None, stay: bool, as_json: bool) -> None:
    """Run the scenario of FILE on loopback; exit 1 when a share is off by more than sampling allows."""
    from eastgate.mesh.placed import read_bytes
    from eastgate.proxy import log
    from eastgate.trial.scenario_run import Wanted, run_file

    from .progress import reading

    log.configure("warning")
    run_file(
        read_bytes(file), file, Wanted(as_json=as_json, stay=stay), connections=connections, progress=reading(file)
    )
