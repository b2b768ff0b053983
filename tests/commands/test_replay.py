"""Replay of recorded series: the tables after each push are those of the compiler that was fed live."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from eastgate.fastpath.loop.cluster_slots import ClusterSlots
from eastgate.fastpath.match.facts import Observed
from eastgate.proxy.compile.compiler import Compiler
from eastgate.proxy.disk.journal import JournalError, JournalFile, files_of, packed
from eastgate.proxy.disk.recorder import Recorder
from eastgate.proxy.disk.replay import Journal, Push, Wanted, moment
from eastgate.xds.ads import Push as Pushed
from eastgate.xds.delta_subscription import DeltaSubscriptions
from eastgate.xds.resources import Snapshot
from eastgate.xds.store import Store
from eastgate.xds.subscription import SotwSubscriptions

from ..support.recordings import CDS, EDS, LDS, payload_series
from ..support.waiting import until
from ..xds import istiod as build

TYPES = ((CDS, True), (EDS, False), (LDS, True))
ALPN = ("istio",)


def tables(compiler: Compiler) -> dict[str, Any]:
    """Everything that decides what a connection meets: endpoints with shares, and where each server name leads."""
    clusters = {}
    for name, one in compiler.clusters.items():
        table = one.table
        shape = (
            (table.columns, table.policy, bytes(table.shares()), table.priorities(), table.schedule())
            if table is not None
            else None
        )
        clusters[name] = (one.cluster, one.closed, shape)
    listeners = {}
    for name, listener in compiler.listeners.items():
        names = [server for chain in listener.listener.filter_chains for server in chain.match.server_names]
        matched = [listener.routes.match(Observed(server_name=server, application_protocols=ALPN)) for server in names]
        listeners[name] = (listener.listener, listener.cluster_names, matched, len(listener.routes))
    return {"clusters": clusters, "listeners": listeners, "rejected": dict(compiler.rejected)}


class Live:
    """What a gateway does with each push, recorded on the way; `after` are its tables push by push."""

    def __init__(self, folder: Path, *, file_bytes: int = 1 << 20) -> None:
        self.store, self.compiler = Store(), Compiler(ClusterSlots())
        self.recorder = Recorder(str(folder), {"id": "router~x"}, file_bytes=file_bytes, keep=1000)
        self.recorder.begin(self.store.snapshot)
        self.after: list[dict[str, Any]] = []
        self.streams = {"sotw": SotwSubscriptions(TYPES), "delta": DeltaSubscriptions(TYPES)}

    async def push(self, payload: bytes, protocol: str = "sotw") -> None:
        response = self.streams[protocol].read(payload)
        applied = self.store.apply_response(response)
        reason, rejected = applied.reason, applied.rejected
        if applied.changed:
            revoked = self.store.revoke(self.compiler.apply(self.store.snapshot))
            reason, rejected = reason or revoked.reason, rejected + revoked.rejected
        self.recorder.record(
            Pushed(response.type_url, response.version, response.nonce, protocol, payload, reason, rejected),  # type: ignore[arg-type]
            self.store.snapshot,
        )
        self.after.append(tables(self.compiler))
        # Rotation looks at what has been written.
        await reached(lambda: self.recorder.recorded == len(self.after))


async def reached(condition: Callable[[], bool]) -> None:
    await asyncio.to_thread(until, condition, "the journal's thread is there")


@pytest.mark.parametrize("protocol", ["sotw", "delta"])
async def test_tables_after_each_recorded_push_are_equal_whatever_the_files(tmp_path: Path, protocol: str) -> None:
    # Small files, so that the series goes over several.
    live = Live(tmp_path, file_bytes=10_000)
    for push in payload_series("anthos-gateway", protocol):
        await live.push(push.payload, protocol)
    live.recorder.close()
    journal = Journal(str(tmp_path))
    assert len(journal.files) > 2
    assert len(live.after) > 20
    assert len({repr(sorted(one["clusters"])) for one in live.after}) > 1
    for number, wanted in enumerate(live.after, 1):
        replayed = journal.at(Wanted(number=number))
        assert replayed.push is not None
        assert replayed.push.number == number
        assert tables(replayed.compiler) == wanted, number
        assert replayed.notes == ()
    assert tables(journal.at(Wanted()).compiler) == live.after[-1]
    for number in (2, len(live.after)):
        before = journal.at(Wanted(number=number, before=True))
        assert tables(before.compiler) == live.after[number - 2]


A, B = "outbound_.80_._.a.svc", "outbound_.80_._.b.svc"


def one(name: str, address: str, **fields: Any) -> bytes:
    return build.assignment(name, [build.locality_endpoints("r", [build.endpoint(address)], **fields)])


async def small(folder: Path) -> Live:
    live = Live(folder)
    await live.push(build.response(CDS, "c1", "1", [build.cluster(A)]))
    await live.push(build.response(EDS, "e1", "2", [one(A, "1.1.1.1")]))
    await live.push(build.response(EDS, "e2", "3", [one(A, "2.2.2.2", priority=200)]))
    await live.push(build.response(EDS, "e3", "4", [one(A, "3.3.3.3")]))
    live.recorder.close()
    return live


async def test_rejected_push_replays_as_rejected(tmp_path: Path) -> None:
    live = await small(tmp_path)
    replayed = Journal(str(tmp_path)).at(Wanted(number=3))
    assert replayed.push is not None
    assert replayed.push.reason.startswith(f"EDS {A} rejected: ")
    assert tables(replayed.compiler) == live.after[2] == live.after[1]
    (endpoint,) = replayed.model().clusters[A].endpoints
    assert endpoint.address == "1.1.1.1:8080"
    assert [(one.kind, one.name) for one in replayed.model().rejected] == [("EDS", A)]


async def test_time_chooses_the_last_push_until_then(tmp_path: Path) -> None:
    await small(tmp_path)
    journal = Journal(str(tmp_path))
    pushes = list(journal.pushes())
    assert [push.number for push in pushes] == [1, 2, 3, 4]
    for push in pushes:
        found = journal.at(Wanted(at=moment(push.at))).push
        assert found is not None
        # Pushes of one millisecond count as one moment.
        assert (found.at, found.number >= push.number) == (push.at, True)
    with pytest.raises(JournalError, match=r"nothing is older than 2001-.*: it holds 1 to 4"):
        journal.at(Wanted(at=moment("2001-01-01T00:00:00Z")))


@pytest.mark.parametrize("before", [False, True])
async def test_unknown_push_is_named_with_what_there_is(tmp_path: Path, before: bool) -> None:
    await small(tmp_path)
    with pytest.raises(JournalError, match="no push 5: it holds 1 to 4"):
        Journal(str(tmp_path)).at(Wanted(number=5, before=before))


async def test_truncated_tail_is_a_note_and_state_is_that_of_the_push_before(tmp_path: Path) -> None:
    live = await small(tmp_path)
    (path,) = files_of(tmp_path)
    path.write_bytes(path.read_bytes()[:-5])
    replayed = Journal(str(tmp_path)).at(Wanted())
    assert replayed.push is not None
    assert replayed.push.number == 3
    assert tables(replayed.compiler) == live.after[2]
    (note,) = replayed.notes
    assert note.startswith(f"{path.name}: frame 9 at byte ")


async def test_file_that_a_crash_ended_at_its_beginning_is_passed_over(tmp_path: Path) -> None:
    live = await small(tmp_path)
    recorder = Recorder(str(tmp_path), {}, file_bytes=1 << 20, keep=9)
    recorder.begin(Snapshot())
    recorder.close()
    newest = files_of(tmp_path)[-1]
    second = [frame.offset for frame in JournalFile(newest).frames()][1]
    newest.write_bytes(newest.read_bytes()[: second + 3])
    assert tables(Journal(str(tmp_path)).at(Wanted()).compiler) == live.after[-1]


def test_directory_without_a_journal_is_refused(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="it holds no pushes"):
        Journal(str(tmp_path))
    with pytest.raises(JournalError, match="cannot be read: No such file"):
        list(Journal(str(tmp_path / "none")).pushes())


def test_push_says_what_became_of_it() -> None:
    push = Push(7, "2026-03-04T09:12:01+00:00", "EDS", "v2", "n", "sotw", "no good", 5)
    assert push.sentence == "push 7 of 2026-03-04T09:12:01+00:00: EDS version v2, rejected: no good"


def crafted(folder: Path, begin: dict[str, Any], **push: Any) -> str:
    """A journal whose checksums are right and whose contents are not."""
    held = [packed({"kind": "held", "type": name}, build.response(url, "", "", [])) for name, url in SHORT.items()]
    header = {"kind": "push", "push": 1, "at": "2026-03-04T09:00:00+00:00", "type": "EDS", "version": "v", "nonce": "n"}
    header |= {"protocol": "sotw", "reason": "", **push}
    frames = [packed({"kind": "begin", "journal": 1, "first": 1, **begin}), *held]
    payload = build.response("type.googleapis.com/odd", "v", "n", [])
    (folder / "pushes-000000000001.gz").write_bytes(b"".join((*frames, packed(header, payload))))
    (folder / "pushes-000000000002.gz").write_bytes(frames[0])
    return str(folder)


SHORT = {"CDS": CDS, "EDS": EDS, "LDS": LDS}


@pytest.mark.parametrize(
    ("begin", "push", "wanted", "said"),
    [
        ({}, {}, Wanted(), "is of type 'type.googleapis.com/odd'"),
        ({}, {"at": "late"}, Wanted(), "its header lacks or spoils Invalid isoformat string: 'late'"),
        ({}, {"push": "x"}, Wanted(), "its header is none of a journal's"),
        ({}, {"withheld": 7}, Wanted(), "is of type"),
        ({}, {}, Wanted(at=moment("2026-03-04T10:00:00Z")), "does not say when it began: 'at'"),
        ({"at": "x"}, {}, Wanted(at=moment("2026-03-04T10:00:00Z")), "does not say when it began"),
    ],
)
def test_crafted_journal_is_refused_in_one_line(
    tmp_path: Path, begin: dict[str, Any], push: dict[str, Any], wanted: Wanted, said: str
) -> None:
    with pytest.raises(JournalError, match=said) as raised:
        Journal(crafted(tmp_path, begin, **push)).at(wanted)
    assert str(tmp_path) in str(raised.value)
    assert "\n" not in str(raised.value)
