"""`eastgate version`: as `eastgate --version`."""

import click


@click.command()
def command() -> None:
    """Print the version, and those of what it runs on."""
    from eastgate.proxy.build_info import lines

    click.echo("\n".join(lines()))
