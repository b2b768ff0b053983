"""A group whose commands are modules, each imported when it is asked for and not before; how that is done fast."""

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any, NamedTuple

import click


class Entry(NamedTuple):
    """Where a command is, and what the list of commands says of it.

    ``extra``: of what is not installed with eastgate itself, where the command needs some.
    """

    module: str
    summary: str
    extra: str = ""


class MissingExtraError(click.ClickException):
    """A command without the packages that it needs: they are an extra of the distribution."""

    exit_code = 2

    def __init__(self, what: str, extra: str, package: str) -> None:
        super().__init__(f"{what}: the package {package} is missing: pip install 'eastgate[{extra}]'")


@contextmanager
def loading() -> Iterator[None]:
    """While modules load that stay as long as the process: no garbage collection looks among them for what could go."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


class LazyGroup(click.Group):
    """Knows names and summaries; the module of a command has it as `command`."""

    def __init__(self, *arguments: Any, entries: Mapping[str, Entry], **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.entries = entries

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of the table, which is that of a newcomer's questions."""
        del ctx
        return list(self.entries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Raises MissingExtraError for one that cannot be loaded here."""
        entry = self.entries.get(cmd_name)
        if entry is None:
            return None
        command: click.Command = import_module(f"{__package__}.{entry.module}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As a group does. Raises UsageError, which says what there is."""
        if args and args[0] not in self.entries and not args[0].startswith("-"):
            ctx.fail(f"{ctx.command_path} has no command {args[0]!r}; there are {', '.join(self.entries)}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """As a group does. Raises MissingExtraError for a command that finds no package of its extra."""
        try:
            return super().invoke(ctx)
        except ModuleNotFoundError as error:
            entry = self.entries.get(ctx.invoked_subcommand or "")
            package = (error.name or "").partition(".")[0]
            if entry is None or not entry.extra or package == "eastgate":
                raise
            raise MissingExtraError(f"{ctx.command_path} {ctx.invoked_subcommand}", entry.extra, package) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Names and whole summaries, without importing anything."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.summary) for name, entry in self.entries.items()])
