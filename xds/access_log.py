"""Access logs of listeners and chains: which file, in what form, and of which connections. Opens nothing.

What a log asks for and cannot have (another kind of log, a filter that looks at requests) makes it no log at all, with
a warning that says why: no line is better than lines of connections that nobody asked for.
"""

import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from .errors import XdsError
from .fields import checked_text
from .message import read
from .record import record

_ACCESS_LOG = "envoy.config.accesslog.v3.AccessLog"
_FILE = "envoy.extensions.access_loggers.file.v3.FileAccessLog"
_STREAMS = {
    "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog": "/dev/stdout",
    "envoy.extensions.access_loggers.stream.v3.StderrAccessLog": "/dev/stderr",
}
OPERATIONS = ("EQ", "GE", "LE", "NE")


@record
class LogFilter:
    """Which connections are logged. ``kind``: flags (one of ``flags``, any where it is empty), status or duration
    (compared as ``operation`` says with ``value``; a duration in milliseconds), and, or (``filters``).
    """

    kind: str
    flags: frozenset[str] = frozenset()
    operation: str = "EQ"
    value: int = 0
    filters: tuple["LogFilter", ...] = ()


@record
class AccessLogSpec:
    """One log. ``text`` or ``json``: its format, of which the second is a JSON text; neither: Envoy's own."""

    path: str
    text: str = ""
    json: str = ""
    omit_empty: bool = False
    filter: LogFilter | None = None


@record
class AccessLogs:
    """The logs of a listener or chain, and what of them has no effect."""

    logs: tuple[AccessLogSpec, ...] = ()
    warnings: tuple[str, ...] = ()


NO_LOGS = AccessLogs()


def access_logs(raw: Iterable[bytes]) -> AccessLogs:
    """Of the bytes of AccessLog messages."""
    every = tuple(raw)
    return _access_logs(every) if every else NO_LOGS


@lru_cache(maxsize=64)
def _access_logs(raw: tuple[bytes, ...]) -> AccessLogs:
    logs, warnings = [], []
    for one in raw:
        try:
            logs.append(_log(read(_ACCESS_LOG, one)))
        except (ValueError, XdsError) as error:
            warnings.append(f"access_log: {error.reason if isinstance(error, XdsError) else error}")
    return AccessLogs(tuple(logs), tuple(warnings))


def _log(message: Mapping[str, Any]) -> AccessLogSpec:
    config = message.get("typed_config", {})
    kind = str(config.get("@type", "")).rpartition("/")[2]
    if kind not in (_FILE, *_STREAMS):
        raise ValueError(f"{message.get('name') or kind}: only files, stdout and stderr are written")
    path = _STREAMS.get(kind) or checked_text("path", config.get("path", ""))
    if not path:
        raise ValueError("a file without a path")
    chosen = _filter(message["filter"]) if "filter" in message else None
    if kind in _STREAMS and config.get("@value"):
        raise ValueError(f"{kind}: a format of its own is not read; give a file log with path {path} one")
    return _with_format(path, config, chosen)


def _with_format(path: str, said: Mapping[str, Any], chosen: LogFilter | None) -> AccessLogSpec:
    form = said.get("log_format", {})
    if "text_format_source" in form:
        source = form["text_format_source"]
        if "inline_string" not in source:
            raise ValueError("a format that stands in a file or a variable is not read")
        return AccessLogSpec(path, text=source["inline_string"], filter=chosen)
    if form.get("formatters"):
        raise ValueError("formatters of extensions are not there")
    template = form.get("json_format") or said.get("json_format") or said.get("typed_json_format")
    return AccessLogSpec(
        path,
        text=form.get("text_format") or said.get("format", ""),
        json=json.dumps(template, sort_keys=True) if template else "",
        omit_empty=bool(form.get("omit_empty_values", False)),
        filter=chosen,
    )


def _filter(message: Mapping[str, Any]) -> LogFilter:
    for name in ("and_filter", "or_filter"):
        if name in message:
            return LogFilter(
                name.removesuffix("_filter"), filters=tuple(map(_filter, message[name].get("filters", ())))
            )
    if "response_flag_filter" in message:
        return LogFilter("flags", flags=frozenset(message["response_flag_filter"].get("flags", ())))
    for name, kind in (("status_code_filter", "status"), ("duration_filter", "duration")):
        if name in message:
            comparison = message[name].get("comparison", {})
            operation = comparison.get("op", "EQ")
            if operation not in OPERATIONS:
                raise ValueError(f"{name}: operation {operation} is none of {', '.join(OPERATIONS)}")
            value = comparison.get("value", {}).get("default_value", 0)
            return LogFilter(kind, operation=operation, value=value)
    if "not_health_check_filter" in message:
        # No TCP connection is known as a health check.
        return LogFilter("and")
    raise ValueError(f"{next(iter(message), 'an empty filter')} looks at what no TCP connection has: nothing is logged")
