"""`eastgate demo`: the scenario that comes with eastgate."""

import click

from .options import connections_per_step, json_option


@click.command()
@connections_per_step
@json_option
def command(connections: int | None, as_json: bool) -> None:
    """Two meshed clusters on loopback, failing over and back: gateways, control planes and mTLS are real."""
    from importlib.resources import files

    from eastgate.proxy import log
    from eastgate.trial.scenario_run import run_file

    log.configure("error")
    text = files("eastgate.mesh").joinpath("demo.yaml").read_bytes()
    run_file(text, "demo.yaml", as_json=as_json, connections=connections)
