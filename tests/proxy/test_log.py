"""One dialect: a record is one line, whatever its fields hold, and reads back."""

import json
import logging
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from eastgate.proxy import log
from eastgate.proxy.log import LEVELS, Log, configure, current_level, one_line, set_level
from hypothesis import given
from hypothesis import strategies as st

from ..support.ads_thread import AdsThread
from ..support.gateway_process import Eastgate
from ..support.logs import logging_kept
from ..support.recordings import CDS, EDS, LDS
from ..support.waiting import until
from ..xds import istiod as build

ROOT = Path(__file__).parents[2]
FORGED = "x\n2026-01-01T00:00:00.000000Z critical forged reason=none"
LINE = re.compile(r"^[\d-]{10}T[\d:]{8}\.\d{6}Z (debug|info|warning|error|critical) ")


def record(name: str, event: str, fields: dict[str, Any]) -> logging.LogRecord:
    made = logging.LogRecord(name, logging.WARNING, "", 0, event, None, None)
    made.fields = fields  # type: ignore[attr-defined]
    return made


@given(event=st.text(), value=st.text())
def test_a_record_is_one_line_of_either_form(event: str, value: str) -> None:
    one = record("eastgate.x", event, {"value": value})
    text = log.TextFormatter().format(one)
    assert text.isprintable()
    said = json.loads(line := log.JsonFormatter().format(one))
    assert line.isprintable()
    assert (said["event"], said["value"], said["level"]) == (event, value, "warning")


@given(value=st.text(st.characters(codec="ascii")))
def test_a_field_is_one_word_for_whoever_splits_lines(value: str) -> None:
    line = log.TextFormatter().format(record("eastgate.x", "event", {"value": value, "last": 1}))
    words = shlex.split(line) if '"' in line else line.split(" ")
    assert len(words) == 5
    assert words[-1] == "last=1"


def test_json_keeps_numbers_and_what_collides() -> None:
    said = json.loads(log.JsonFormatter().format(record("eastgate.x", "e", {"n": 3, "t": None, "level": "high"})))
    assert (said["n"], said["t"], said["level"], said["level_"]) == (3, None, "warning", "high")


@pytest.mark.parametrize("form", ["text", "json"])
def test_what_libraries_log_and_what_is_thrown_is_one_line_too(capsys: pytest.CaptureFixture[str], form: str) -> None:
    configure("info", form)
    logging.getLogger("asyncio").error("Task exception was never retrieved\nfuture: %s", FORGED)
    logging.getLogger("grpc._cython.cygrpc").info("chatter")
    try:
        raise ValueError(FORGED)
    except ValueError:
        Log("x").exception("failed", name=FORGED)
    found = capsys.readouterr().err.splitlines()
    assert len(found) == 2
    for line in found:
        assert LINE.match(line) if form == "text" else json.loads(line)["level"] == "error"
    assert ' asyncio message="Task exception' in found[0] or json.loads(found[0])["event"] == "asyncio"
    assert "Traceback" in found[1]


def test_level_counts_for_ours_alone(capsys: pytest.CaptureFixture[str]) -> None:
    configure("error")
    Log("x").warning("unheard")
    logging.getLogger("asyncio").warning("heard")
    set_level("debug")
    assert current_level() == "debug"
    Log("x").debug("heard too")
    found = capsys.readouterr().err.splitlines()
    assert [line.split(" ", 2)[2] for line in found] == [
        "asyncio message=heard",
        "heard too",
    ]
    with pytest.raises(ValueError, match=f"none of {LEVELS[0]}, "):
        set_level("loud")


def test_what_a_command_sets_ends_with_its_test(request: pytest.FixtureRequest) -> None:
    def settings() -> tuple[object, ...]:
        root = logging.getLogger()
        return root.handlers[:], root.level, logging.getLogger("eastgate").level

    before = settings()
    with logging_kept():
        configure("error")
        assert settings() != before
    assert settings() == before
    assert "logging_as_before" in request.fixturenames


def test_one_line_leaves_letters_alone() -> None:
    assert one_line("Zürich a\\b") == "Zürich a\\b"
    assert one_line("a\nb\x1b[2J\u2028") == "a\\nb\\x1b[2J\\u2028"


def test_nobody_logs_past_the_one_logger() -> None:
    homes = {"xds/log.py", "proxy/log.py"}
    others = {
        str(path.relative_to(ROOT))
        for folder in ("commands", "trial", "proxy", "insight", "mesh", "fastpath", "xds")
        for path in (ROOT / folder).rglob("*.py*")
        if path.suffix in {".py", ".pyx"} and re.search(r"\bgetLogger\b|^import logging", path.read_text(), re.M)
    }
    assert others == homes


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_rejected_name_with_a_newline_forges_no_line(form: str) -> None:
    """The reason of a NACK names the resource; it comes from the control plane."""
    ads = AdsThread({CDS: {FORGED: build.cluster(FORGED, type=99)}, EDS: {}, LDS: {}})
    try:
        with Eastgate(ads.address, "--workers", "0", "--log-format", form) as gateway:
            until(lambda: "ads_nack" in gateway.stderr, "the cluster is rejected")
            gateway.stop()
            announced, *found = gateway.stderr.splitlines()
    finally:
        ads.close()
    assert announced.startswith("admin listening on ")
    levels = [LINE.match(line)[1] if form == "text" else json.loads(line)["level"] for line in found]  # type: ignore[index]
    assert set(levels) == {"info", "warning"}
