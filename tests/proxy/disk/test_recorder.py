"""The recorder: every push once, new files that need no other, nothing secret, losses counted and made good."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from eastgate.proxy.disk import recorder as module
from eastgate.proxy.disk.journal import Frame, JournalFile, files_of
from eastgate.proxy.disk.recorder import Recorder, without_keys
from eastgate.proxy.errors import SettingsError
from eastgate.xds.ads import Push
from eastgate.xds.decode import CDS, EDS, LDS
from eastgate.xds.resources import Rejection, Snapshot
from eastgate.xds.store import Store

from ...support.waiting import until
from ...xds import istiod as build

A = "outbound_.80_._.a.svc"
KEY = b"-----BEGIN PRIVATE KEY-----"


def store() -> Store:
    made = Store()
    made.apply(CDS, "v1", [build.packed(CDS, build.cluster(A))])
    return made


def push(number: int, payload: bytes = b"", *, rejected: tuple[Rejection, ...] = ()) -> Push:
    sent = payload or build.response(EDS, f"v{number}", f"n{number}", [])
    return Push(EDS, f"v{number}", f"n{number}", "sotw", sent, "no good" if rejected else "", rejected)


def frames(folder: Path) -> list[Frame]:
    return [frame for path in files_of(folder) for frame in JournalFile(path).frames()]


async def reached(condition: Callable[[], bool]) -> None:
    await asyncio.to_thread(until, condition, "the journal's thread is there")


async def test_push_is_kept_with_its_answer(tmp_path: Path) -> None:
    held = store().snapshot
    recorder = Recorder(str(tmp_path), {"id": "router~x"}, file_bytes=1 << 20, keep=2)
    recorder.begin(held)
    recorder.record(push(1), held)
    recorder.record(push(2, rejected=(Rejection(EDS, A, "v2", "no good", b""),)), held)
    recorder.close()
    recorder.close()
    begin, cds, eds, lds, rds, first, second = frames(tmp_path)
    assert begin.header["node"] == {"id": "router~x"}
    assert [one.header["type"] for one in (cds, eds, lds, rds)] == ["CDS", "EDS", "LDS", "RDS"]
    assert cds.header["version"] == "v1"
    assert first.payload == push(1).payload
    assert {key: first.header[key] for key in ("push", "type", "version", "nonce", "protocol", "reason")} == {
        "push": 1,
        "type": "EDS",
        "version": "v1",
        "nonce": "n1",
        "protocol": "sotw",
        "reason": "",
    }
    assert (second.header["reason"], second.header["rejected"]) == ("no good", [["EDS", A]])
    assert recorder.counters() == (2, 0, 0)


async def test_full_file_is_followed_by_one_that_needs_no_other(tmp_path: Path) -> None:
    held = store().snapshot
    recorder = Recorder(str(tmp_path), {}, file_bytes=2000, keep=3)
    recorder.begin(held)
    for number in range(1, 101):
        recorder.record(push(number, os.urandom(200)), held)
        await reached(lambda number=number: recorder.recorded == number)  # type: ignore[misc]
    recorder.close()
    files = files_of(tmp_path)
    assert len(files) == 3
    for path in files:
        kinds = [frame.kind for frame in JournalFile(path).frames()]
        assert kinds[:4] == ["begin", "held", "held", "held"]
        assert path.stat().st_size < 4000
    numbers = [frame.header["push"] for frame in frames(tmp_path) if frame.kind == "push"]
    assert numbers == list(range(numbers[0], 101))


async def test_disk_that_refuses_costs_pushes_and_the_next_file_holds_what_came_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETRY_S", 0.0)
    recorder = Recorder(str(tmp_path), {}, file_bytes=1 << 20, keep=5)
    recorder.begin(Snapshot())
    recorder.record(push(1), Snapshot())
    await reached(lambda: recorder.recorded == 1)
    real, full = os.write, True

    def write(descriptor: int, data: bytes) -> int:
        if full and len(data) > 20:
            raise OSError(28, "No space left on device")
        return real(descriptor, data)

    monkeypatch.setattr(os, "write", write)
    recorder.record(push(2), Snapshot())
    await reached(lambda: recorder.failed == 1)
    full = False
    recorder.record(push(3), store().snapshot)
    await reached(lambda: len(files_of(tmp_path)) == 2)
    recorder.record(push(4), store().snapshot)
    recorder.close()
    assert recorder.counters() == (2, 1, 1)
    newest = list(JournalFile(files_of(tmp_path)[-1]).frames())
    assert newest[0].header["lost"] == 1
    assert A.encode() in newest[1].payload
    assert [(one.header["push"], one.header["version"]) for one in newest if one.kind == "push"] == [(2, "v4")]


async def test_full_queue_costs_pushes_not_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "QUEUE_BYTES", 10_000)
    recorder = Recorder(str(tmp_path), {}, file_bytes=1 << 20, keep=5)
    # The thread does not run yet: what is queued stays queued.
    for number in range(1, 11):
        recorder.record(push(number, b"x" * 3000), Snapshot())
    assert recorder.lost == 7
    recorder.begin(Snapshot())
    await reached(lambda: recorder.failed == 3)
    recorder.record(push(11), Snapshot())
    recorder.record(push(12), Snapshot())
    recorder.close()
    assert recorder.lost == 8
    assert [one.header["version"] for one in frames(tmp_path) if one.kind == "push"] == ["v12"]


async def test_second_process_is_refused(tmp_path: Path) -> None:
    first = Recorder(str(tmp_path), {}, file_bytes=1 << 20, keep=2)
    first.begin(Snapshot())
    with pytest.raises(SettingsError, match="another process records there"):
        Recorder(str(tmp_path), {}, file_bytes=1 << 20, keep=2)
    first.close()
    second = Recorder(str(tmp_path), {}, file_bytes=1 << 20, keep=2)
    second.begin(Snapshot())
    second.close()


@pytest.mark.parametrize("protocol", ["sotw", "delta"])
async def test_private_keys_are_left_out_by_name(tmp_path: Path, protocol: str) -> None:
    from eastgate.xds.delta_subscription import DELTA_RESPONSE
    from eastgate.xds.message import encode

    clean = build.packed(LDS, build.listener("clean", [build.chain(A)]))
    dirty = build.packed(LDS, build.listener("dirty", [build.chain(A, name=KEY.decode())]))
    if protocol == "sotw":
        payload = build.response(LDS, "v1", "n1", []) + build.field(2, clean) + build.field(2, dirty)
    else:
        resources = [{"name": "clean", "resource": clean}, {"name": "dirty", "resource": dirty}]
        payload = encode(DELTA_RESPONSE, {"type_url": LDS, "nonce": "n1", "resources": resources})
    kept, names = without_keys(payload, protocol)
    assert names == ["dirty"]
    assert KEY not in kept
    assert b"clean" in kept
    recorder = Recorder(str(tmp_path), {}, file_bytes=1 << 20, keep=2)
    with_key = Store()
    with_key.apply(LDS, "v1", [clean, dirty])
    assert len(with_key.snapshot.listeners) == 2
    recorder.begin(with_key.snapshot)
    recorder.record(Push(LDS, "v1", "n1", protocol, payload, "", ()), with_key.snapshot)  # type: ignore[arg-type]
    recorder.close()
    found = frames(tmp_path)
    assert all(KEY not in frame.payload for frame in found)
    assert found[-1].header["withheld"] == ["dirty"]
    assert b"clean" in found[-1].payload
