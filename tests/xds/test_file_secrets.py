"""Certificates from files that are rotated, also while they are looked at."""

from pathlib import Path

from eastgate.xds.file_secrets import FileSecrets, SecretFiles
from eastgate.xds.local_secrets import CERTIFICATE, ROOTS
from eastgate.xds.secret_store import SecretStore
from eastgate.xds.tls_records import SecretRef

from ..support.secrets import SPIFFE, Keyed, keyed

SOURCE = "cluster:sds-grpc"
WANTED = [SecretRef(CERTIFICATE, SOURCE), SecretRef(ROOTS, SOURCE)]


class Followed:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = SecretStore()
        files = SecretFiles(*(str(folder / name) for name in ("cert.pem", "key.pem", "roots.pem")))
        self.secrets = FileSecrets(SOURCE, files, self.store)

    def write(self, pair: Keyed, root: bytes) -> None:
        for name, content in (("cert.pem", pair.certificate), ("key.pem", pair.key), ("roots.pem", root)):
            new = self.folder / f"{name}.new"
            new.write_bytes(content)
            new.rename(self.folder / name)

    @property
    def serial(self) -> str:
        secret = self.store.snapshot.secrets.get(WANTED[0])
        return secret.certificates[0].serial if secret else ""


def test_files_are_followed(tmp_path: Path) -> None:
    followed = Followed(tmp_path)
    followed.store.want(WANTED)
    followed.secrets.look()
    error = followed.secrets.statistics.errors[CERTIFICATE]
    assert error == f"{tmp_path / 'cert.pem'}: cannot be read: No such file or directory"
    followed.write(keyed(SPIFFE, serial=0x11), keyed("root").certificate)
    followed.secrets.look()
    assert (followed.serial, followed.secrets.statistics.errors) == ("11", {})
    assert WANTED[1] in followed.store.snapshot.secrets
    generation = followed.store.snapshot.generation
    followed.secrets.look()
    assert followed.store.snapshot.generation == generation
    followed.write(keyed(SPIFFE, serial=0x22), keyed("root").certificate)
    followed.secrets.look()
    assert followed.serial == "22"


def test_half_of_a_rotation_changes_nothing_and_is_looked_at_again(tmp_path: Path) -> None:
    followed = Followed(tmp_path)
    followed.store.want(WANTED)
    followed.write(keyed(SPIFFE, serial=0x11), keyed("root").certificate)
    followed.secrets.look()
    pair = keyed(SPIFFE, serial=0x22)
    (tmp_path / "cert.pem").write_bytes(pair.certificate)
    followed.secrets.look()
    assert followed.serial == "11"
    assert "is not the key of its certificate" in followed.secrets.statistics.errors[CERTIFICATE]
    (tmp_path / "key.pem").write_bytes(pair.key)
    followed.secrets.look()
    assert (followed.serial, followed.secrets.statistics.errors) == ("22", {})


def test_nothing_is_read_that_nobody_wants(tmp_path: Path) -> None:
    followed = Followed(tmp_path)
    followed.secrets.look()
    assert followed.secrets.statistics.update_attempt == 0
    followed.write(keyed(SPIFFE), keyed("root").certificate)
    followed.store.want(WANTED[:1])
    followed.secrets.look()
    assert list(followed.store.snapshot.secrets) == WANTED[:1]
    # What is wanted later is read then.
    followed.store.want(WANTED)
    followed.secrets.look()
    assert len(followed.store.snapshot.secrets) == 2


def test_what_is_wanted_again_is_read_again(tmp_path: Path) -> None:
    """The store forgets a key that nobody wants: between two looks it may be forgotten and wanted anew."""
    followed = Followed(tmp_path)
    followed.write(keyed(SPIFFE, serial=0x11), keyed("root").certificate)
    followed.store.want(WANTED)
    followed.secrets.look()
    followed.store.want([])
    followed.store.want(WANTED)
    assert followed.serial == ""
    followed.secrets.look()
    assert followed.serial == "11"
