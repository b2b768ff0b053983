"""`eastgate bench selection`: how long choosing an endpoint takes."""

import click

from .options import json_option, plain_option

POLICIES = ("ROUND_ROBIN", "LEAST_REQUEST", "RANDOM", "RING_HASH", "MAGLEV")


@click.command()
@plain_option("--policy", "policies", multiple=True, type=click.Choice(POLICIES), help="only these; repeatable")
@plain_option("--size", "sizes", multiple=True, type=click.IntRange(1, 1_000_000), help="endpoints; repeatable")
@plain_option("--equal", is_flag=True, help="all weights are 1; else they are 1 to 100")
@plain_option("--seed", default=1, type=int, show_default=True, help="of the weights")
@json_option
def command(policies: tuple[str, ...], sizes: tuple[int, ...], equal: bool, seed: int, as_json: bool) -> None:
    """Measure picks of an endpoint, by policy and size, beside a plain Python picker."""
    import json
    from dataclasses import asdict

    from eastgate.insight.selection_bench import SIZES, measure, table_lines

    found = measure(policies or POLICIES, sizes or SIZES, equal=equal, seed=seed)
    if as_json:
        click.echo(json.dumps({"measured": [asdict(one) for one in found]}, indent=1))
    else:
        click.echo("\n".join(table_lines(found)))
