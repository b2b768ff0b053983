"""`eastgate mesh`: the group of what is done with a mesh file."""

import click

from .lazy import Entry, LazyGroup

ENTRIES = {
    "serve": Entry("mesh_serve", "Send every node what istiod would send for a mesh file.", extra="mesh"),
    "endpoints": Entry("mesh_endpoints", "Show what a proxy of a mesh file would have, and why.", extra="mesh"),
    "diff": Entry("mesh_diff", "Say which shares a change of a mesh file moves.", extra="mesh"),
    "import": Entry("mesh_import", "Write running clusters as a mesh file, through kubectl.", extra="mesh"),
    "run": Entry("mesh_run", "Run the scenario of a mesh file on loopback.", extra="mesh"),
}


@click.group(cls=LazyGroup, entries=ENTRIES)
def command() -> None:
    """The embedded control plane: serve a mesh file, or run its scenario."""
