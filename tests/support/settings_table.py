"""The table of settings in docs/run-a-gateway.md, made of their declarations.

`make settings-table` writes it; tests/proxy/test_given.py compares.
"""

from pathlib import Path

from eastgate.proxy.given import SETTINGS
from eastgate.proxy.setting import Setting

PAGE = Path(__file__).parents[2] / "docs" / "run-a-gateway.md"
START, END = "<!-- settings:start -->\n", "<!-- settings:end -->\n"


def row(setting: Setting) -> str:
    """One line of the table."""
    name = f"`{setting.flag} {setting.metavar}`" if setting.metavar else f"`{setting.flag}`"
    meaning = f"{setting.help}. {setting.more}" if setting.more else setting.help
    cells = (name, meaning, setting.shown_default, setting.range)
    return f"| {' | '.join(cells)} |"


def table() -> str:
    """All settings, in the order of their declaration."""
    head = ["| flag | meaning | default | range |", "|---|---|---|---|"]
    return "\n".join(head + [row(one) for one in SETTINGS.values()]) + "\n"


def with_table(text: str) -> str:
    """The page with the table of today between its marks. Raises ValueError for a page without them."""
    before, _, rest = text.partition(START)
    _, mark, after = rest.partition(END)
    if not mark:
        raise ValueError(f"{PAGE.name} has no {START.strip()} and {END.strip()}")
    return f"{before}{START}{table()}{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text()))
