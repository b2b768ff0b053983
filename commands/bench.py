"""`eastgate bench`: the group of what measures."""

import click

from .lazy import Entry, LazyGroup

ENTRIES = {"selection": Entry("bench_selection", "How long choosing an endpoint takes, by policy and size.")}


@click.group(cls=LazyGroup, entries=ENTRIES)
def command() -> None:
    """Measure parts of eastgate on this machine."""
