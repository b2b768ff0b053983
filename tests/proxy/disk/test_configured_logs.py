"""Lines of the access logs that a control plane configures: whose, where, and which are left out."""

import json
from pathlib import Path

import pytest
from eastgate.fastpath.loop.event_ring import ConnectionEvent
from eastgate.fastpath.reason import Reason
from eastgate.proxy.disk.configured_logs import ConfiguredLogs, is_wanted, may_tell_probes
from eastgate.xds.access_log import AccessLogSpec, LogFilter

from .test_log_format import EVENT

NOT_ROUTED = EVENT._replace(reason=Reason.UNKNOWN_SERVER_NAME, log=0)
FAILED = EVENT._replace(reason=Reason.CONNECT_FAILED)


def text(path: Path, template: str, **more: object) -> AccessLogSpec:
    return AccessLogSpec(str(path), text=template, **more)  # type: ignore[arg-type]


def test_lines_go_to_the_logs_of_their_chain_and_of_their_listener(tmp_path: Path) -> None:
    first, second, of_listener = (tmp_path / name for name in ("first", "second", "listener"))
    chain = (text(first, "%BYTES_SENT%\n"), AccessLogSpec(str(second), json='{"flags":"%RESPONSE_FLAGS%"}'))
    listener = (text(of_listener, "%RESPONSE_FLAGS%\n", filter=LogFilter("flags", flags=frozenset({"NR"}))),)
    logs = ConfiguredLogs(lambda number: listener if number == 1 else ())
    number = logs.number(chain)
    assert number == logs.number(tuple(chain)) != logs.number(listener) != 0
    assert logs.number(()) == 0
    event = EVENT._replace(log=number)
    logs.write([event, event._replace(reason=Reason.CONNECT_FAILED), NOT_ROUTED, NOT_ROUTED._replace(listener=2)])
    # One that ended before it found a chain, without the flag that the log asks for.
    logs.write([NOT_ROUTED._replace(reason=Reason.IDLE_PROBE)])
    logs.close()
    assert first.read_text() == "2000\n2000\n"
    assert [json.loads(line) for line in second.read_text().splitlines()] == [{"flags": "-"}, {"flags": "UF,URX"}]
    assert of_listener.read_text() == "NR\n"
    assert (logs.failed, logs.dropped) == (0, 0)


NR = LogFilter("flags", flags=frozenset({"NR"}))
SLOW = LogFilter("duration", operation="GE", value=100)


@pytest.mark.parametrize(
    ("filters", "told"),
    [
        ([], False),
        ([None], True),
        ([NR], False),
        ([NR, SLOW], True),
        ([LogFilter("and", filters=(NR, SLOW))], False),
        ([LogFilter("or", filters=(NR, SLOW))], True),
        ([LogFilter("flags")], False),
    ],
)
def test_probes_are_told_where_a_log_may_have_a_line_of_them(filters: list[LogFilter | None], told: bool) -> None:
    assert may_tell_probes(tuple(AccessLogSpec("/dev/null", filter=one) for one in filters)) is told


def test_several_logs_share_a_file(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    logs = ConfiguredLogs(lambda number: ())
    logs.write([EVENT._replace(log=logs.number((text(shared, "a\n"), text(shared, "b\n"))))])
    logs.close()
    assert shared.read_text() == "a\nb\n"


def test_a_line_that_fails_costs_itself(tmp_path: Path) -> None:
    path = tmp_path / "log"
    logs = ConfiguredLogs(lambda number: ())
    number = logs.number((text(path, "%START_TIME% x\n"),))
    logs.write([EVENT._replace(log=number, start=float("nan")), EVENT._replace(log=number)])
    logs.close()
    assert path.read_text() == "2023-11-14T22:13:20.125Z x\n"


@pytest.mark.parametrize(
    ("chosen", "wanted"),
    [
        (None, (True, True, True)),
        (LogFilter("flags"), (False, True, True)),
        (LogFilter("flags", flags=frozenset({"URX"})), (False, False, True)),
        (LogFilter("status", operation="GE", value=400), (False, False, False)),
        (LogFilter("status", operation="EQ", value=0), (True, True, True)),
        (LogFilter("status", operation="NE", value=0), (False, False, False)),
        (LogFilter("duration", operation="GE", value=1567), (True, True, True)),
        (LogFilter("duration", operation="LE", value=1566), (False, False, False)),
        (LogFilter("and"), (True, True, True)),
        (LogFilter("or"), (False, False, False)),
        (LogFilter("or", filters=(LogFilter("flags", flags=frozenset({"NR"})),)), (False, True, False)),
        (LogFilter("and", filters=(LogFilter("flags"), LogFilter("or"))), (False, False, False)),
    ],
)
def test_filters(chosen: LogFilter | None, wanted: tuple[bool, ...]) -> None:
    events: tuple[ConnectionEvent, ...] = (EVENT, NOT_ROUTED, FAILED)
    assert tuple(is_wanted(chosen, event) for event in events) == wanted
