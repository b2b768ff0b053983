"""What becomes of lines when the file is slow, full, away or rotated."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from eastgate.proxy.disk import line_writer
from eastgate.proxy.disk.line_writer import LineWriter

LINE = b"x" * 999 + b"\n"


@contextmanager
def fifo(path: Path) -> Iterator[int]:
    """A FIFO and the descriptor of its reader, who does not read yet."""
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    yield reader
    os.close(reader)


def test_lines_arrive_in_order(tmp_path: Path) -> None:
    path = tmp_path / "log"
    writer = LineWriter(str(path))
    for number in range(1000):
        writer.add(b"%d\n" % number, 1)
    writer.close()
    assert path.read_text().split() == [str(number) for number in range(1000)]
    assert (writer.failed, writer.dropped) == (0, 0)


def test_stalled_reader_costs_lines_and_never_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_writer, "QUEUE_BYTES", 10 * len(LINE))
    with fifo(tmp_path / "log") as reader:
        writer = LineWriter(str(tmp_path / "log"))
        # A pipe holds 64 KiB: most of these have no place.
        for _ in range(1000):
            writer.add(LINE, 1)
        assert writer.dropped >= 1000 - 10 - 67
        received = bytearray()
        os.set_blocking(reader, True)

        def read() -> None:
            while data := os.read(reader, 65536):
                received.extend(data)

        draining = threading.Thread(target=read)
        draining.start()
        writer.close()
        draining.join(10)
        assert received == LINE * (1000 - writer.dropped)
        assert writer.failed == 0


def test_closing_does_not_wait_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_writer, "CLOSE_S", 0.05)
    with fifo(tmp_path / "log") as reader:
        writer = LineWriter(str(tmp_path / "log"))
        for _ in range(1000):
            writer.add(LINE, 1)
        writer.close()
        writer.add(LINE, 1)
        assert writer.dropped == 1
        os.set_blocking(reader, True)
        left = 1000 * len(LINE)
        while left:
            left -= len(os.read(reader, 65536))


@pytest.mark.parametrize("path", ["/dev/full", "/nowhere/log"])
def test_lines_that_the_file_does_not_take_are_counted(path: str, caplog: pytest.LogCaptureFixture) -> None:
    writer = LineWriter(path)
    writer.add(LINE * 3, 3)
    writer.add(LINE, 1)
    writer.close()
    assert writer.failed == 4
    assert len(caplog.records) == 1, "said once"


def test_fifo_without_a_reader_is_named_and_does_not_hold_up_the_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    os.mkfifo(tmp_path / "log")
    LineWriter(str(tmp_path / "log")).close()
    assert caplog.messages == ["access log cannot be opened"]


def test_rotation_moves_no_line_to_the_wrong_file(tmp_path: Path) -> None:
    path = tmp_path / "log"
    writer = LineWriter(str(path))
    writer.add(LINE * 2, 2)
    path.rename(tmp_path / "log.1")
    writer.reopen()
    writer.add(LINE * 3, 3)
    writer.close()
    assert (tmp_path / "log.1").read_bytes() == LINE * 2
    assert path.read_bytes() == LINE * 3
