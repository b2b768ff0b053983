"""Files of a journal: what is written comes back; what is cut off is named; what is damaged is refused by place."""

import stat
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from eastgate.proxy.disk.journal import JournalError, JournalFile, JournalWriter, files_of, first_of, is_journal

HELD: list[tuple[Mapping[str, Any], bytes]] = [({"type": name}, name.encode()) for name in ("CDS", "EDS", "LDS")]


def written(folder: Path, pushes: int = 3, *, keep: int = 8) -> JournalWriter:
    """A closed journal of so many pushes, each with its number as payload, in one more file."""
    writer = JournalWriter(folder, keep=keep)
    writer.find_next()
    writer.begin({"at": "2026-03-04T09:00:00+00:00"}, iter(HELD))
    for _ in range(pushes):
        writer.push({"type": "EDS"}, b"payload %d\n" % writer.next_push * 100)
    writer.close()
    return writer


def only(folder: Path) -> JournalFile:
    (path,) = files_of(folder)
    return JournalFile(path)


def test_frames_come_back_in_order_with_their_payload(tmp_path: Path) -> None:
    written(tmp_path)
    file = only(tmp_path)
    frames = list(file.frames())
    assert [frame.kind for frame in frames] == ["begin", *["held"] * 3, *["push"] * 3]
    assert frames[0].header["first"] == 1
    assert [frame.header["push"] for frame in frames[4:]] == [1, 2, 3]
    assert frames[5].payload == b"payload 2\n" * 100
    assert file.truncated == ""
    assert [frame.offset for frame in frames] == sorted({frame.offset for frame in frames})


def test_files_are_the_owners_and_readable_by_zcat(tmp_path: Path) -> None:
    written(tmp_path)
    (path,) = files_of(tmp_path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    text = subprocess.run(["gzip", "-dc", path], capture_output=True, check=True, timeout=20).stdout
    assert b'"kind":"push","push":3' in text


@pytest.mark.parametrize("lost", [1, 8, 30])
def test_end_that_a_crash_cut_off_is_named_and_ignored(tmp_path: Path, lost: int) -> None:
    written(tmp_path)
    (path,) = files_of(tmp_path)
    last = [frame.offset for frame in only(tmp_path).frames()][-1]
    path.write_bytes(path.read_bytes()[:-lost])
    file = JournalFile(path)
    assert [frame.header["push"] for frame in file.frames() if frame.kind == "push"] == [1, 2]
    assert file.truncated == f"frame 7 at byte {last} is cut off"


def test_flipped_bit_is_refused_with_its_place(tmp_path: Path) -> None:
    written(tmp_path)
    (path,) = files_of(tmp_path)
    offsets = [frame.offset for frame in only(tmp_path).frames()]
    content = path.read_bytes()
    for index in range(1, len(offsets) - 1):
        for at in (offsets[index], (offsets[index] + offsets[index + 1]) // 2, offsets[index + 1] - 6):
            path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
            with pytest.raises(JournalError, match=rf"frame {index + 1} at byte {offsets[index]} is damaged: "):
                list(JournalFile(path).frames())


def test_no_bit_changes_what_a_frame_says_unseen(tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path, keep=8)
    writer.begin({"at": "x"}, iter(HELD))
    writer.push({"type": "EDS"}, b"payload")
    writer.close()
    (path,) = files_of(tmp_path)
    whole, content = list(only(tmp_path).frames()), path.read_bytes()
    refused = 0
    for at in range(len(content)):
        for bit in range(8):
            path.write_bytes(content[:at] + bytes([content[at] ^ 1 << bit]) + content[at + 1 :])
            file, read = JournalFile(path), []
            try:
                read += file.frames()
            except JournalError:
                refused += 1
            # gzip does not check the time and the system in its own header; these say nothing here.
            assert read == whole or (read == whole[: len(read)] and (file.truncated or len(read) < len(whole)))
    assert refused > 6 * len(content)


@pytest.mark.parametrize("content", [b"", b"{}", b"\x1f\x8b", b"\x1f\x8bnothing of the kind", b"\0" * 100])
def test_another_file_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "pushes-000000000001.gz"
    path.write_bytes(content)
    if not content:
        assert list(JournalFile(path).frames()) == []
        return
    with pytest.raises(JournalError, match=f"{path}: is not a journal"):
        list(JournalFile(path).frames())


def test_another_format_and_a_missing_file_are_refused_by_name(tmp_path: Path) -> None:
    import gzip

    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(b'{"kind":"begin","journal":99}\n'))
    with pytest.raises(JournalError, match="is of journal format 99, this version reads 1"):
        list(JournalFile(path).frames())
    with pytest.raises(JournalError, match="cannot be read: No such file"):
        list(JournalFile(tmp_path / "none").frames())


def test_numbers_go_on_in_the_next_file_and_old_files_go(tmp_path: Path) -> None:
    for _ in range(5):
        written(tmp_path, 2, keep=3)
    assert [first_of(path) for path in files_of(tmp_path)] == [5, 7, 9]


def test_numbers_go_on_behind_a_cut_off_and_a_damaged_file(tmp_path: Path) -> None:
    written(tmp_path, 3)
    (path,) = files_of(tmp_path)
    path.write_bytes(path.read_bytes()[:-3])
    assert written(tmp_path, 1).next_push == 4
    newest = files_of(tmp_path)[-1]
    newest.write_bytes(newest.read_bytes()[:40] + b"\xff" * 100)
    assert written(tmp_path, 1).next_push == 5


def test_file_that_got_no_push_is_written_anew(tmp_path: Path) -> None:
    written(tmp_path, 0)
    written(tmp_path, 1)
    assert [first_of(path) for path in files_of(tmp_path)] == [1]


def test_failed_write_leaves_the_file_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    writer = JournalWriter(tmp_path, keep=2)
    writer.begin({}, iter(HELD))
    real = os.write
    calls: list[int] = []

    def full(descriptor: int, data: bytes) -> int:
        calls.append(len(data))
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        return real(descriptor, data[:10])

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space"):
        writer.push({"type": "EDS"}, b"payload")
    monkeypatch.setattr(os, "write", real)
    writer.push({"type": "EDS"}, b"other")
    writer.close()
    assert [frame.payload for frame in only(tmp_path).frames() if frame.kind == "push"] == [b"other"]


def test_what_is_a_journal(tmp_path: Path) -> None:
    written(tmp_path)
    (tmp_path / "dump.json").write_text("{}")
    assert is_journal(tmp_path)
    assert is_journal(files_of(tmp_path)[0])
    assert not is_journal(tmp_path / "dump.json")
    assert not is_journal(tmp_path / "none")
