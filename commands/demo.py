"""`eastgate demo`: the scenario that comes with eastgate."""

import click

from .options import connections_per_step, json_option, stay_option


@click.command()
@connections_per_step
@stay_option
@json_option
def command(connections: int | None, stay: bool, as_json: bool) -> None:
    """Two meshed clusters on loopback, failing over and back, between an ordinary HTTP client and ordinary servers.

    Sidecars, gateways, control planes and mTLS are real; root is not needed.
    """
    from importlib.resources import files

    from eastgate.proxy import log
    from eastgate.trial.scenario_run import Wanted, run_file

    log.configure("error")
    text = files("eastgate.mesh").joinpath("demo.yaml").read_bytes()
    run_file(text, "demo.yaml", Wanted(as_json=as_json, stay=stay), connections=connections)
