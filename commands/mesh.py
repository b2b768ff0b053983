"""`eastgate mesh`: the group of what is done with a mesh file."""

import click

from .lazy import Entry, LazyGroup

ENTRIES = {
    "serve": Entry("mesh_serve", "Send every node what istiod would send for a mesh file.", extra="mesh"),
    "run": Entry("mesh_run", "Run the scenario of a mesh file on loopback.", extra="mesh"),
}


@click.group(cls=LazyGroup, entries=ENTRIES)
def command() -> None:
    """The embedded control plane: serve a mesh file, or run its scenario."""
