"""Lines of the log on stderr, one a record: time, level, event, fields; as text or as JSON.

One dialect for all that logs in the process: our parts, asyncio, gRPC. A name that comes from outside cannot begin a
second line, nor look like another field.
"""

import codecs
import json
import logging
import sys
from collections.abc import Iterator
from datetime import UTC, datetime

from eastgate.xds.log import Log

from .errors import EastgateError
from .given import LOG_LEVELS

__all__ = ["LEVELS", "Log", "configure", "current_level", "one_line", "quoted", "set_level"]

LEVELS = LOG_LEVELS
OURS = "eastgate"
# Loaded now: the first line that needs it may be the one that says that there are no descriptors left.
codecs.lookup("unicode_escape")


def one_line(text: str) -> str:
    """The text with everything escaped that would end the line or move the cursor."""
    return text if text.isprintable() else "".join(_escaped(one) for one in text)


def _escaped(letter: str) -> str:
    return letter if letter.isprintable() else letter.encode("unicode_escape").decode()


def quoted(value: object) -> str:
    """A field's value as one word, or in double quotes."""
    text = str(value)
    plain = text != "" and not any(letter.isspace() or letter in '"=' for letter in text) and text.isprintable()
    return text if plain else in_quotes(text)


def in_quotes(text: str) -> str:
    """The text in double quotes, on one line whatever it holds."""
    return '"' + text.encode("unicode_escape").decode().replace('"', '\\"') + '"'


def moment(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def is_ours(record: logging.LogRecord) -> bool:
    return record.name.partition(".")[0] == OURS


def event_of(record: logging.LogRecord) -> str:
    """What happened: a constant. What libraries say holds anything, and is a field of an event that has their name."""
    return record.getMessage() if is_ours(record) else record.name


def fields_of(record: logging.LogRecord) -> Iterator[tuple[str, object]]:
    """The fields of a record; an exception is one too."""
    if not is_ours(record):
        yield "message", record.getMessage()
    yield from getattr(record, "fields", {}).items()
    if record.exc_info and record.exc_info[1] is not None:
        yield "error", repr(record.exc_info[1])
        yield "traceback", logging.Formatter().formatException(record.exc_info)


class TextFormatter(logging.Formatter):
    """`time level event key=value ...`; values that hold blanks or quotes are quoted."""

    def format(self, record: logging.LogRecord) -> str:
        fields = "".join(f" {key}={quoted(value)}" for key, value in fields_of(record))
        return f"{moment(record)} {record.levelname.lower()} {one_line(event_of(record))}{fields}"


class JsonFormatter(logging.Formatter):
    """One object a line: `time`, `level`, `event`, then the fields; numbers stay numbers."""

    def format(self, record: logging.LogRecord) -> str:
        said: dict[str, object] = {
            "time": moment(record),
            "level": record.levelname.lower(),
            "event": event_of(record),
        }
        for key, value in fields_of(record):
            said[key if key not in said else f"{key}_"] = value if isinstance(value, int | float | None) else str(value)
        return json.dumps(said)


FORMATTERS: dict[str, type[logging.Formatter]] = {"text": TextFormatter, "json": JsonFormatter}


def configure(level: str, form: str = "text", path: str = "") -> None:
    """Send all records to stderr, or to the file at `path`: ours from `level` on, those of libraries from warnings on.

    Call once, before any. Raises EastgateError for a file that cannot be written.
    """
    handler: logging.Handler
    try:
        # Looks for itself whether the file was moved away. Late: it costs a megabyte, and few logs go to a file.
        if path:
            from logging.handlers import WatchedFileHandler

            handler = WatchedFileHandler(path, encoding="utf-8")
        else:
            handler = logging.StreamHandler(sys.stderr)
    except OSError as error:
        raise EastgateError(f"log file {path}: cannot be written: {error.strerror}") from None
    handler.setFormatter(FORMATTERS[form]())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    set_level(level)


def set_level(level: str) -> None:
    """Raises ValueError for a level that is none of LEVELS."""
    if level not in LEVELS:
        raise ValueError(f"log level {level!r} is none of {', '.join(LEVELS)}")
    logging.getLogger(OURS).setLevel(level.upper())


def current_level() -> str:
    return logging.getLevelName(logging.getLogger(OURS).level).lower()
