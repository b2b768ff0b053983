"""Options of the command line, made of what is declared elsewhere."""

import os
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click
from click.core import ParameterSource
from eastgate.proxy.given import SETTINGS, Given, given
from eastgate.proxy.setting import PREFIX, Setting

Command = TypeVar("Command", bound=Callable[..., Any])

DUMP_HELP = "read Envoy's or eastgate's config_dump (with EDS), /clusters JSON, or both, instead; repeatable"


def option(flag: str, **settings: Any) -> Callable[[Command], Command]:
    """An option that also reads EASTGATE_<FLAG>."""
    name = flag.removeprefix("--").replace("-", "_").upper()
    return click.option(flag, envvar=PREFIX + name, show_envvar=True, **settings)


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


def told(values: Mapping[str, Any]) -> Given:
    """Settings that the command in hand was told. Raises SettingsError naming the flag or the variable."""
    context = click.get_current_context()
    said = {
        one.name: source_of(context, one)
        for one in context.command.params
        if one.name is not None and context.get_parameter_source(one.name) is not ParameterSource.DEFAULT
    }
    return given({name: value for name, value in values.items() if value != ()}, said)
