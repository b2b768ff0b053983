"""/debug/xds and `eastgate ledger`: what was accepted and rejected, by resource, as JSON or a table. Decides nothing.

Times are ages in seconds and, for JSON, the date as well.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any

from eastgate.insight.errors import DumpError
from eastgate.proxy.compile.notices import Notices
from eastgate.proxy.control_errors import ControlError
from eastgate.proxy.log import one_line, quoted
from eastgate.xds.ads import AdsClient
from eastgate.xds.decode import SHORT_NAMES
from eastgate.xds.ledger import STATES, TYPES, Accepted, Line, Rejected
from eastgate.xds.record import record

HEADER = ("TYPE", "STATE", "RESOURCE", "VERSION", "AGE", "NONCE", "REJECTED", "AGO", "REASON")
# What there was none of.
NONE = "-"
NO_NOTICES: Mapping[tuple[str, str], Notices] = MappingProxyType({})
# Of a nonce, which istiod makes of a version and a UUID.
SHOWN = 24


@record
class Now:
    """One moment on both clocks: `loop_s` is what the ledger counts in, `date` what people read."""

    loop_s: float
    date: datetime

    def age_s(self, at_s: float) -> float:
        return max(0.0, self.loop_s - at_s)

    def when(self, at_s: float) -> str:
        return (self.date - timedelta(seconds=self.age_s(at_s))).isoformat(timespec="milliseconds")


def now(loop_s: float) -> Now:
    return Now(loop_s, datetime.now(UTC))


def stream_json(ads: AdsClient, moment: Now) -> dict[str, Any]:
    """The stream and its types."""
    counts = ads.ledger.counts(ads.store.snapshot, ads.store.wanted)
    return {
        "connected": ads.connected,
        "address": ads.address,
        "protocol": ads.protocol,
        "since_s": round(moment.age_s(ads.changed_s), 3) if ads.changed_s else None,
        "connects": ads.connects,
        "last_error": ads.last_error,
        "types": {
            SHORT_NAMES[type_url]: {
                "version": one.version,
                "nonce": one.nonce,
                "age_s": round(moment.age_s(one.updated_s), 3) if one.updated_s else None,
                "acks": one.update_success,
                "nacks": one.update_rejected,
                "rejections": ads.ledger.rejections[type_url],
                "resources": {state.lower(): counts[type_url][state] for state in STATES},
            }
            for type_url, one in ads.statistics.items()
        },
    }


def response_json(one: Accepted | Rejected | None, moment: Now) -> dict[str, Any] | None:
    if one is None:
        return None
    shown: dict[str, Any] = {
        "version": one.version,
        "nonce": one.nonce,
        "age_s": round(moment.age_s(one.at_s), 3),
        "at": moment.when(one.at_s),
    }
    if isinstance(one, Rejected):
        shown["reason"] = one.reason
    return shown


def line_json(line: Line, moment: Now, notices: Mapping[tuple[str, str], Notices] = NO_NOTICES) -> dict[str, Any]:
    """One resource; ``notices`` only where there are any."""
    told = notices.get((SHORT_NAMES[line.type_url], line.name), ())
    return {
        "type": SHORT_NAMES[line.type_url],
        "name": line.name,
        "state": line.state,
        "accepted": response_json(line.accepted, moment),
        "rejected": response_json(line.rejected, moment),
        **({"notices": [one.as_json() for one in told]} if told else {}),
    }


def wanted(lines: Iterable[Line], query: Mapping[str, str]) -> Iterator[Line]:
    """Those that `type`, `state` and `name` of the query ask for; `name` is a part of the name."""
    kind, state, name = query.get("type", "").upper(), query.get("state", "").upper(), query.get("name", "")
    return (
        line
        for line in lines
        if (not kind or SHORT_NAMES[line.type_url] == kind)
        and (not state or line.state == state)
        and (not name or name in line.name)
    )


def query_error(query: Mapping[str, str]) -> str:
    """Why a query cannot be answered; empty when it can."""
    for key, known in (
        ("type", tuple(SHORT_NAMES[one] for one in TYPES)),
        ("state", STATES),
        ("format", ("TEXT", "JSON")),
    ):
        if query.get(key, "").upper() not in {"", *known}:
            return f"{key} {query[key]!r} is none of {', '.join(one.lower() for one in known)}"
    return ""


def faults_json(faults: Iterable[ControlError]) -> list[dict[str, Any]]:
    """Faults of the control side, the newest last."""
    return [
        {
            "part": fault.part.value,
            "about": fault.about,
            "cause": fault.cause,
            "places": list(fault.places),
            "times": fault.times,
            "at": fault.at.isoformat(timespec="milliseconds"),
        }
        for fault in faults
    ]


def json_pieces(
    stream: Mapping[str, Any],
    faults: Sequence[Mapping[str, Any]],
    lines: Iterable[Line],
    moment: Now,
    notices: Mapping[tuple[str, str], Notices] = NO_NOTICES,
) -> Iterator[str]:
    """The JSON text, a piece for each resource."""
    yield '{"stream": ' + json.dumps(stream) + ',\n "control_errors": ' + json.dumps(faults) + ',\n "resources": ['
    separator = "\n"
    for line in lines:
        yield separator + "  " + json.dumps(line_json(line, moment, notices))
        separator = ",\n"
    yield "\n ]\n}\n"


def age_text(seconds: float | None) -> str:
    """Two units at most, as kubectl prints ages."""
    if seconds is None:
        return NONE
    whole = int(seconds)
    if whole < 120:
        return f"{whole}s"
    if whole < 7200:
        return f"{whole // 60}m{whole % 60}s"
    if whole < 172_800:
        return f"{whole // 3600}h{whole % 3600 // 60}m"
    return f"{whole // 86_400}d{whole % 86_400 // 3600}h"


def stream_text(stream: Mapping[str, Any]) -> str:
    """What the stream is and what became of each type, in lines."""
    state = f"connected to {stream['address']}" if stream["connected"] else "not connected"
    if stream["since_s"] is not None:
        state += f" for {age_text(stream['since_s'])}"
    state += f", {stream['protocol']}, {stream['connects']} streams so far"
    if stream["last_error"]:
        state += f"; last error: {stream['last_error']}"
    lines = [state]
    for kind, one in stream["types"].items():
        counts = ", ".join(f"{count} {name}" for name, count in one["resources"].items() if count) or "none"
        lines.append(
            f"{kind}: {counts}; version {one['version'] or NONE}, accepted {age_text(one['age_s'])} ago;"
            f" {one['acks']} ACK, {one['nacks']} NACK"
            if one["version"]
            else f"{kind}: {counts}; nothing accepted; {one['acks']} ACK, {one['nacks']} NACK"
        )
    return "\n".join(lines) + "\n"


def cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    """One resource as it stands in JSON, as cells of the table."""
    accepted, rejected = row["accepted"] or {}, row["rejected"] or {}
    return (
        row["type"],
        row["state"],
        row["name"],
        accepted.get("version") or NONE,
        age_text(accepted.get("age_s")),
        accepted.get("nonce", "")[:SHOWN] or NONE,
        rejected.get("version") or (NONE if not rejected else '""'),
        age_text(rejected.get("age_s")),
        rejected.get("reason") or NONE,
    )


def table_pieces(rows: Sequence[tuple[str, ...]], header: tuple[str, ...] = HEADER) -> Iterator[str]:
    """Padded columns, a piece for each row."""
    table = [header, *rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() + "\n"


def fault_text(fault: Mapping[str, Any]) -> str:
    """One fault as a line."""
    about = f" ({quoted(fault['about'])})" if fault["about"] else ""
    place = fault["places"][0] if fault["places"] else "an unknown place"
    return (
        f"fault of {fault['part']}{about}: {quoted(fault['cause'])} at {place}; {fault['times']} times, {fault['at']}\n"
    )


def text_pieces(
    stream: Mapping[str, Any], faults: Iterable[Mapping[str, Any]], lines: Sequence[Mapping[str, Any]]
) -> Iterator[str]:
    """The stream, faults, a table of resources, and what of them has no effect or refuses."""
    yield stream_text(stream)
    yield from map(fault_text, faults)
    yield "\n"
    yield from table_pieces([cells(line) for line in lines])
    for line in lines:
        for told in line.get("notices", ()):
            yield f"{line['type']} {quoted(line['name'])} {told['kind']}: {one_line(told['text'])}\n"


def ledger_text(document: Any, source: str) -> str:
    """A /debug/xds document for people. Raises DumpError for another."""
    try:
        rows = document["resources"]
        if "stream" not in document:
            return "".join(table_pieces([cells(row) for row in rows]))
        return "".join(text_pieces(document["stream"], document.get("control_errors", ()), rows))
    except (KeyError, TypeError, AttributeError):
        raise DumpError(f"{source}: not a ledger (is that eastgate's admin?)") from None
