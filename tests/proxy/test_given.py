"""One declaration a setting: command line, environment, range and documents say the same."""

import pytest
from eastgate.commands.gateway import command
from eastgate.proxy.errors import SettingsError
from eastgate.proxy.given import SETTINGS, Given, given

from ..support.settings_table import PAGE, with_table

NUMBERS = [one for one in SETTINGS.values() if one.kind in (int, float)]


def test_table_in_the_documents_is_that_of_the_declarations() -> None:
    assert PAGE.read_text() == with_table(PAGE.read_text()), "make settings-table"


def test_each_setting_is_an_option_and_a_variable_of_gateway() -> None:
    params = {one.name: one for one in command.params}
    assert params.keys() == SETTINGS.keys()
    for name, setting in SETTINGS.items():
        assert params[name].opts == [setting.flag]
        assert params[name].envvar == setting.variable


def test_nothing_said_is_the_declared_default() -> None:
    assert given({}) == Given()
    assert {name: getattr(Given(), name) for name in SETTINGS} == {one.name: one.default for one in SETTINGS.values()}


@pytest.mark.parametrize("setting", NUMBERS, ids=lambda one: one.name)
def test_each_number_has_a_range_and_keeps_it(setting) -> None:
    low, high = setting.low, setting.high
    for bound in (low, high):
        assert getattr(given({setting.name: str(bound)}), setting.name) == bound
    for beyond in (str(low - 1), str(high + 1), "nan", "", "1e400", "9" * 5000):
        with pytest.raises(SettingsError) as caught:
            given({setting.name: beyond})
        assert str(caught.value).startswith(setting.flag)
        assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("setting", [one for one in SETTINGS.values() if one.choices], ids=lambda one: one.name)
def test_each_choice_is_taken_and_nothing_else(setting) -> None:
    for choice in setting.choices:
        assert getattr(given({setting.name: choice}), setting.name) == choice
    with pytest.raises(SettingsError, match=f"EASTGATE_X 'none': expected one of {setting.choices[0]}, "):
        given({setting.name: "none"}, {setting.name: "EASTGATE_X"})
