"""The state file: what is written comes back; what is damaged, old or another's does not."""

import os
import stat
import time
from pathlib import Path

import pytest
from eastgate.proxy.disk.state_file import DAMAGED, NAME, StateError, StateFile
from eastgate.xds.resources import Snapshot
from eastgate.xds.store import Store

from ...support.recordings import CDS, EDS, LDS, PREFIX, RDS, recorded
from ...xds import istiod as build

IDENTITY = {"NETWORK": "n1", "LABELS": {"istio": "eastwestgateway"}}


def recorded_store() -> Store:
    store = Store()
    stage = recorded("2-failover", "anthos-gateway")
    for type_url in (CDS, EDS, LDS):
        store.apply(type_url, "v7", [build.packed(type_url, payload) for payload in stage[type_url].values()])
    return store


def state_file(folder: Path, *, max_age_s: float = 60.0, identity: object = None) -> StateFile:
    return StateFile(str(folder), identity or IDENTITY, max_age_s=max_age_s)  # type: ignore[arg-type]


def restored(file: StateFile) -> Snapshot:
    saved = file.load()
    assert saved is not None
    store = Store()
    for response in saved.responses:
        assert not store.apply(response.type_url, response.version, response.resources).rejected
    return store.snapshot


def test_what_was_saved_comes_back(tmp_path: Path) -> None:
    file, before = state_file(tmp_path), recorded_store().snapshot
    assert file.load() is None
    file.save(before)
    after = restored(file)
    assert (after.clusters, after.assignments, after.listeners) == (
        before.clusters,
        before.assignments,
        before.listeners,
    )
    assert after.versions == {CDS: "v7", EDS: "v7", LDS: "v7"}
    assert not after.warming


def test_routes_come_back_with_the_listeners_that_name_them(tmp_path: Path) -> None:
    store, stage = Store(router=False), recorded("9-subsets", "anthos-sidecar")
    for type_url in (CDS, EDS, LDS, RDS):
        store.apply(type_url, "v7", [build.packed(type_url, payload) for payload in stage[type_url].values()])
    file = state_file(tmp_path)
    file.save(store.snapshot)
    after = restored(file)
    assert set(after.routes) == set(stage[RDS])
    assert after.routes == store.snapshot.routes
    assert after.versions[RDS] == "v7"


def test_a_file_from_before_routes_were_kept_is_served(tmp_path: Path) -> None:
    file = state_file(tmp_path)
    file.save(recorded_store().snapshot)
    file.path.write_bytes(file.path.read_bytes().replace(b"eastgate-state 2 ", b"eastgate-state 1 ", 1))
    assert restored(file).clusters == recorded_store().snapshot.clusters


def test_only_the_owner_may_read_and_nothing_else_is_left(tmp_path: Path) -> None:
    file = state_file(tmp_path)
    (tmp_path / f".{NAME}.new").write_text("left by a crash")
    os.chmod(tmp_path / f".{NAME}.new", 0o644)
    file.save(Snapshot())
    file.save(recorded_store().snapshot)
    assert [path.name for path in tmp_path.iterdir()] == [NAME]
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600


@pytest.mark.parametrize("at", [0.0, 0.02, 0.3, 0.999])
def test_flipped_bit_is_found_and_the_file_moved_aside(tmp_path: Path, at: float) -> None:
    file = state_file(tmp_path)
    file.save(recorded_store().snapshot)
    content = bytearray(file.path.read_bytes())
    content[int(at * len(content))] ^= 4
    file.path.write_bytes(content)
    with pytest.raises(StateError, match=f"moved to .*{DAMAGED}") as caught:
        file.load()
    assert caught.value.damaged
    assert (tmp_path / DAMAGED).read_bytes() == content
    assert file.load() is None


@pytest.mark.parametrize("kept", [0, 5, 100, -1])
def test_truncated_file_is_damaged(tmp_path: Path, kept: int) -> None:
    file = state_file(tmp_path)
    file.save(recorded_store().snapshot)
    file.path.write_bytes(file.path.read_bytes()[:kept])
    with pytest.raises(StateError) as caught:
        file.load()
    assert caught.value.damaged


def test_old_file_is_not_served_unless_it_was_confirmed(tmp_path: Path) -> None:
    file = state_file(tmp_path)
    file.save(Snapshot())
    long_ago = time.time() - 120  # noqa: TID251
    os.utime(file.path, (long_ago, long_ago))
    with pytest.raises(StateError, match="is 120 s old, more than 60 s"):
        file.load()
    file.confirm()
    assert file.load() is not None


def test_configuration_of_another_node_is_not_served(tmp_path: Path) -> None:
    state_file(tmp_path).save(Snapshot())
    with pytest.raises(StateError, match="another node: NETWORK, REQUESTED_NETWORK_VIEW differ"):
        state_file(tmp_path, identity={**IDENTITY, "NETWORK": "n2", "REQUESTED_NETWORK_VIEW": "n2"}).load()
    assert state_file(tmp_path).load() is not None


def test_file_of_a_later_version_is_left_where_it_is(tmp_path: Path) -> None:
    file = state_file(tmp_path)
    file.save(Snapshot())
    file.path.write_bytes(file.path.read_bytes().replace(b" 2 ", b" 3 ", 1))
    with pytest.raises(StateError, match="has format 3, this version reads 2"):
        file.load()
    assert file.path.exists()


def test_resource_with_a_private_key_is_left_out(tmp_path: Path) -> None:
    key = b"-----BEGIN PRIVATE KEY-----\nMC4CAQAw\n-----END PRIVATE KEY-----\n"
    # data source -> tls_certificate -> common_tls_context -> UpstreamTlsContext -> transport_socket of the cluster.
    context = build.field(1, build.field(2, build.field(2, build.field(2, key))))
    url = PREFIX + "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
    socket = build.field(1, b"envoy.transport_sockets.tls") + build.field(3, build.packed(url, context))
    store = Store()
    with_key = build.cluster("with-key") + build.field(24, socket)
    store.apply(CDS, "v1", [build.packed(CDS, with_key), build.packed(CDS, build.cluster("without"))])
    assert set(store.names(CDS)) == {"with-key", "without"}
    file = state_file(tmp_path)
    file.save(store.snapshot)
    assert b"PRIVATE" not in file.path.read_bytes()
    assert set(restored(file).clusters) == {"without"}


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_file_that_others_can_write_to_is_not_served(tmp_path: Path, mode: int) -> None:
    file = state_file(tmp_path)
    file.save(recorded_store().snapshot)
    file.path.chmod(mode)
    with pytest.raises(StateError, match=f"can be written to by others \\(mode {mode:04o}\\)"):
        file.load()
    # Left where it is, and replaced by the next one that is saved.
    file.save(recorded_store().snapshot)
    assert file.load() is not None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_file_of_another_user_is_not_served(tmp_path: Path) -> None:
    file = state_file(tmp_path)
    file.save(recorded_store().snapshot)
    os.chown(file.path, 12345, -1)
    with pytest.raises(StateError, match="belongs to user 12345, not to user 0"):
        file.load()


def test_what_is_no_plain_file_is_not_served(tmp_path: Path) -> None:
    file = state_file(tmp_path)
    (tmp_path / "elsewhere").write_bytes(b"")
    file.path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StateError, match="cannot be read"):
        file.load()
    file.path.unlink()
    os.mkfifo(file.path)
    with pytest.raises(StateError, match="is no state file"):
        file.load()


def test_ticket_keys_and_pkcs12_are_on_no_disk(tmp_path: Path) -> None:
    keys = build.field(4, build.field(1, build.field(3, b"ticket-key-of-80-bytes")))
    pkcs12 = build.field(1, build.field(2, build.field(8, build.field(2, b"pkcs12-archive"))))
    store = Store()
    for name, kind, context in (("tickets", "Downstream", keys), ("archive", "Upstream", pkcs12)):
        url = PREFIX + f"envoy.extensions.transport_sockets.tls.v3.{kind}TlsContext"
        socket = build.field(1, b"envoy.transport_sockets.tls") + build.field(3, build.packed(url, context))
        store.apply(CDS, "v1", [build.packed(CDS, build.cluster(name) + build.field(24, socket))])
    held = {one.name: one.raw for one in store.snapshot.clusters.values()}
    assert held, "at least the last one is accepted"
    file = state_file(tmp_path)
    file.save(store.snapshot)
    assert b"ticket-key" not in file.path.read_bytes()
    assert b"pkcs12-archive" not in file.path.read_bytes()
