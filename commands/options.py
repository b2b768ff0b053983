"""Options of the command line, made of what is declared elsewhere."""

import os
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click
from click.core import ParameterSource
from eastgate.proxy.given import SETTINGS, Given, given
from eastgate.proxy.setting import PREFIX, Setting

Command = TypeVar("Command", bound=Callable[..., Any])

FROM_ENVIRONMENT = "Each option can be given as EASTGATE_<OPTION> too: EASTGATE_DRAIN_TIME for --drain-time."
DUMP_HELP = "read Envoy's or eastgate's config_dump (with EDS), /clusters JSON, or both, instead; repeatable"


class QuietOption(click.Option):
    """Says nothing of a default that is nothing."""

    def __init__(self, *names: Any, **settings: Any) -> None:
        if settings.get("default") in ("", 0) and not settings.get("is_flag"):
            settings["show_default"] = False
        super().__init__(*names, **settings)


def plain_option(*names: str, **settings: Any) -> Callable[[Command], Command]:
    """An option of one command alone."""
    return click.option(*names, cls=QuietOption, **settings)


def option(flag: str, **settings: Any) -> Callable[[Command], Command]:
    """An option that also reads EASTGATE_<FLAG>."""
    name = flag.removeprefix("--").replace("-", "_").upper()
    return click.option(flag, cls=QuietOption, envvar=PREFIX + name, show_envvar=True, **settings)


def admin_address(context: click.Context, parameter: click.Parameter, value: str) -> str:
    """URL of HOST:PORT or of a URL, without a slash at its end. Raises BadParameter for what cannot be one."""
    from eastgate.insight.dump_source import admin_url

    try:
        return admin_url(value)
    except ValueError as error:
        raise click.BadParameter(f"{value!r}: {error}", context, parameter) from None


def admin_option(command: Command) -> Command:
    """Where the running proxy is asked."""
    return option(
        "--admin",
        default="127.0.0.1:15000",
        callback=admin_address,
        metavar="HOST:PORT",
        help="admin of a running proxy, or its URL",
    )(command)


def dump_option(text: str = DUMP_HELP) -> Callable[[Command], Command]:
    """Files in the place of a running proxy."""
    return plain_option("--dump", multiple=True, metavar="FILE", help=text)


json_option = plain_option("--json", "as_json", is_flag=True, help="print JSON")
connections_per_step = plain_option(
    "--connections", default=None, type=click.IntRange(1, 1_000_000), help="connections per step"
)

stay_option = plain_option("--stay", is_flag=True, help="keep it up after the last step, and say how to ask along")


def options(*each: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Several options that commands share, in this order."""

    def apply(command: Command) -> Command:
        for one in reversed(each):
            command = one(command)
        return command

    return apply


def help_of(setting: Setting) -> str:
    """What --help says: the text, the default and the range, as far as there is something to say."""
    said = []
    if setting.shown_default:
        said.append(f"default: {setting.shown_default}")
    if setting.range and not setting.choices:
        said.append(setting.range)
    return f"{setting.help}  [{'; '.join(said)}]" if said else setting.help


def declared_option(setting: Setting) -> Callable[[Command], Command]:
    """The option of a setting. Its text is read by the declaration; None, or nothing, where nothing was said."""
    common: dict[str, Any] = {"envvar": setting.variable, "help": help_of(setting), "show_default": False}
    if setting.kind is bool:
        return click.option(setting.flag, is_flag=True, default=None, **common)
    choices = setting.choices
    return click.option(
        setting.flag,
        default=None,
        multiple=setting.kind is tuple,
        metavar=f"[{'|'.join(choices)}]" if choices else setting.metavar,
        shell_complete=lambda _, __, begun: [one for one in choices if one.startswith(begun)],
        **common,
    )


def declared_options(*parts: str) -> Callable[[Command], Command]:
    """The options of all settings of these parts, in the order of their declaration."""
    return options(*(declared_option(one) for one in SETTINGS.values() if one.part in parts))


def source_of(context: click.Context, parameter: click.Parameter) -> str:
    """How the user said it: the variable that it came from, or the flag."""
    if context.get_parameter_source(parameter.name or "") is ParameterSource.ENVIRONMENT:
        own = parameter.envvar if isinstance(parameter.envvar, str) else ""
        if own and os.environ.get(own):
            return own
        return f"{context.auto_envvar_prefix}_{(parameter.name or '').upper()}"
    return max(parameter.opts, key=len) if parameter.param_type_name == "option" else parameter.human_readable_name


def source_of_option(name: str) -> str:
    """The same for an option of the command in hand."""
    context = click.get_current_context()
    return source_of(context, next(one for one in context.command.params if one.name == name))


def told(values: Mapping[str, Any]) -> Given:
    """Settings that the command in hand was told. Raises SettingsError naming the flag or the variable."""
    context = click.get_current_context()
    said = {
        one.name: source_of(context, one)
        for one in context.command.params
        if one.name is not None and context.get_parameter_source(one.name) is not ParameterSource.DEFAULT
    }
    return given({name: value for name, value in values.items() if value != ()}, said)
