"""Secrets whose names say which files they are in."""

import os
from pathlib import Path

import pytest
from eastgate.xds.local_secrets import LARGEST_FILE
from eastgate.xds.named_files import Named, NamedFiles, named
from eastgate.xds.secret_store import SecretStore
from eastgate.xds.tls_records import SecretRef

from ..support.secrets import Keyed, keyed

SOURCE = "cluster:sds-grpc"


def renamed(path: Path, content: bytes) -> None:
    """Replace a file as a careful writer does."""
    new = path.with_suffix(".new")
    new.write_bytes(content)
    new.rename(path)


class Followed:
    def __init__(self, folder: Path, *system_roots: str) -> None:
        self.folder = folder
        self.store = SecretStore()
        self.files = NamedFiles(SOURCE, self.store, system_roots=system_roots)
        self.certificate = f"file-cert:{folder / 'cert.pem'}~{folder / 'key.pem'}"
        self.roots = f"file-root:{folder / 'roots.pem'}"

    def want(self, *names: str) -> None:
        self.store.want([SecretRef(name, SOURCE) for name in names])

    def write(self, pair: Keyed) -> None:
        renamed(self.folder / "cert.pem", pair.certificate)
        renamed(self.folder / "key.pem", pair.key)

    def serials(self, name: str) -> list[str]:
        secret = self.store.snapshot.secrets.get(SecretRef(name, SOURCE))
        return [one.serial for one in secret.certificates] if secret else []


@pytest.fixture
def followed(tmp_path: Path) -> Followed:
    return Followed(tmp_path)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("file-cert:cert~key", Named(("cert", "key"), True)),
        ("file-root:root", Named(("root",))),
        ("file:root", None),
        ("default", None),
        ("file-root:system", Named(("/",))),
    ],
)
def test_names_are_those_of_istio(name: str, found: Named | None) -> None:
    assert named(name, ["/nowhere", "/", "/tmp"]) == found


@pytest.mark.parametrize(
    "name", ["file-root:root~extra", "file-cert:cert", "file-cert:~key", "file-root:", "file-cert:a~b~c"]
)
def test_a_name_that_names_no_files_is_said_once(followed: Followed, name: str) -> None:
    followed.want(name)
    followed.files.look()
    followed.files.look()
    assert followed.files.statistics.errors == {
        name: "it names no files: file-cert:CERTIFICATE~KEY or file-root:CERTIFICATES"
    }
    assert followed.files.statistics.update_failure == 1


def test_files_are_followed(followed: Followed) -> None:
    first, second, root = keyed("a", serial=0x11), keyed("a", serial=0x22), keyed("root", serial=0x33)
    followed.write(first)
    renamed(followed.folder / "roots.pem", root.certificate)
    followed.want(followed.certificate, followed.roots)
    followed.files.look()
    assert followed.serials(followed.certificate) == ["11"]
    assert followed.serials(followed.roots) == ["33"]
    generation = followed.store.snapshot.generation
    followed.files.look()
    assert followed.store.snapshot.generation == generation
    # Between the two files of a rotation nothing changes, and what it changes to is found.
    renamed(followed.folder / "cert.pem", second.certificate)
    followed.files.look()
    assert followed.serials(followed.certificate) == ["11"]
    assert "is not the key of its certificate" in followed.files.statistics.errors[followed.certificate]
    renamed(followed.folder / "key.pem", second.key)
    followed.files.look()
    assert (followed.serials(followed.certificate), followed.files.statistics.errors) == (["22"], {})
    renamed(followed.folder / "roots.pem", root.certificate + keyed("other", serial=0x44).certificate)
    followed.files.look()
    assert followed.serials(followed.roots) == ["33", "44"]


def test_a_missing_file_is_said_once_and_holds_up_no_other(followed: Followed) -> None:
    renamed(followed.folder / "roots.pem", keyed("root", serial=0x33).certificate)
    followed.want(followed.certificate, followed.roots)
    for _ in range(3):
        followed.files.look()
    missing = f"{followed.folder / 'cert.pem'}: cannot be read: No such file or directory"
    assert followed.files.statistics.errors == {followed.certificate: missing}
    assert followed.files.statistics.update_failure == 1
    assert followed.serials(followed.roots) == ["33"]
    # One that goes leaves what was in it.
    (followed.folder / "roots.pem").unlink()
    followed.files.look()
    assert followed.serials(followed.roots) == ["33"]
    assert followed.files.statistics.update_failure == 2
    followed.write(keyed("a", serial=0x11))
    followed.files.look()
    assert followed.serials(followed.certificate) == ["11"]


def test_what_is_no_file_is_not_waited_for(followed: Followed) -> None:
    os.mkfifo(followed.folder / "roots.pem")
    (followed.folder / "cert.pem").symlink_to("/dev/zero")
    (followed.folder / "key.pem").mkdir()
    followed.want(followed.certificate, followed.roots)
    followed.files.look()
    errors = followed.files.statistics.errors
    assert errors[followed.roots] == f"{followed.folder / 'roots.pem'}: cannot be read: it is not a file"
    assert errors[followed.certificate] == f"{followed.folder / 'cert.pem'}: cannot be read: it is not a file"
    (followed.folder / "roots.pem").unlink()
    with (followed.folder / "roots.pem").open("wb") as file:
        file.truncate(LARGEST_FILE + 1)
    followed.files.look()
    assert "it has more than 4194304 bytes" in errors[followed.roots]
    renamed(followed.folder / "roots.pem", b"nobody\n")
    followed.files.look()
    assert errors[followed.roots].startswith(f"{followed.folder / 'roots.pem'}: ")


def test_what_the_machine_trusts(tmp_path: Path) -> None:
    followed = Followed(tmp_path, str(tmp_path / "nowhere"), str(tmp_path / "bundle"))
    followed.want("file-root:system")
    followed.files.look()
    nowhere = f"this machine has no file of what it trusts, such as {tmp_path / 'nowhere'}"
    assert followed.files.statistics.errors == {"file-root:system": nowhere}
    renamed(tmp_path / "bundle", keyed("root", serial=0x33).certificate)
    followed.files.look()
    assert followed.serials("file-root:system") == ["33"]


async def test_what_is_wanted_later_or_again_is_read_at_once(followed: Followed) -> None:
    followed.write(keyed("a", serial=0x11))

    async def wanted_meanwhile(_: float) -> None:
        followed.want(followed.certificate, "default")
        assert followed.serials(followed.certificate) == ["11"]
        followed.want()
        assert followed.serials(followed.certificate) == []
        followed.want(followed.certificate, followed.roots)
        assert followed.serials(followed.certificate) == ["11"]
        followed.files.close()

    followed.files = NamedFiles(SOURCE, followed.store, sleep=wanted_meanwhile)
    await followed.files.run()
    # What nobody wants any more has no faults.
    assert set(followed.files.statistics.errors) == {followed.roots}
    followed.want()
    followed.files.look()
    assert followed.files.statistics.errors == {}
    assert not followed.files.awaits(followed.roots)
