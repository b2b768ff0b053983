"""Log lines of the control side: level, event, fields. One line each, on stderr."""

import logging
import sys
from datetime import UTC, datetime

LEVELS = ("debug", "info", "warning", "error", "critical")


class FieldFormatter(logging.Formatter):
    """`time level event key=value ...`; values that hold blanks or quotes are quoted."""

    def format(self, record: logging.LogRecord) -> str:
        when = datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        fields: dict[str, object] = getattr(record, "fields", {})
        line = f"{when} {record.levelname.lower()} {record.getMessage()}"
        for key, value in fields.items():
            line += f" {key}={quoted(value)}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


def quoted(value: object) -> str:
    """A field's value as one word, or in double quotes."""
    text = str(value)
    plain = text != "" and not any(letter.isspace() or letter in '"=' for letter in text) and text.isprintable()
    return text if plain else '"' + text.encode("unicode_escape").decode().replace('"', '\\"') + '"'


class Log:
    """Structured logger of one component."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(f"eastgate.{name}")

    def debug(self, event: str, **fields: object) -> None:
        self._logger.debug(event, extra={"fields": fields})

    def info(self, event: str, **fields: object) -> None:
        self._logger.info(event, extra={"fields": fields})

    def warning(self, event: str, **fields: object) -> None:
        self._logger.warning(event, extra={"fields": fields})

    def error(self, event: str, **fields: object) -> None:
        self._logger.error(event, extra={"fields": fields})


def configure(level: str) -> None:
    """Send everything below `eastgate` to stderr from `level` on. Call once, before anything logs."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(FieldFormatter())
    root = logging.getLogger("eastgate")
    root.handlers[:] = [handler]
    root.propagate = False
    set_level(level)


def set_level(level: str) -> None:
    """Raises ValueError for a level that is none of LEVELS."""
    if level not in LEVELS:
        raise ValueError(f"log level {level!r} is none of {', '.join(LEVELS)}")
    logging.getLogger("eastgate").setLevel(level.upper())


def current_level() -> str:
    return logging.getLevelName(logging.getLogger("eastgate").level).lower()
