"""`mesh serve` with identities: what each workload finds in its folder is enough to be one of the mesh."""

import asyncio
import re
import signal
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from eastgate.mesh.ca import MeshCa
from eastgate.mesh.identities import Identities
from eastgate.xds.certificate_request import CREATE, CertificateRequest, read_response

from ..support.gateway_process import EASTGATE, run_command
from ..support.waiting import until
from .sidecars import MESH, read


class Serve:
    """`eastgate mesh serve` as a process."""

    def __init__(self, file: Path, folder: Path) -> None:
        command = [EASTGATE, "mesh", "serve", str(file), "--listen", "127.0.0.1:0", "--secure", "127.0.0.1:0"]
        self.log = folder.with_name("log")
        with self.log.open("w") as stream:
            self.process = subprocess.Popen([*command, "--identities", str(folder)], stderr=stream)
        until(
            lambda: "serving with TLS" in self.log.read_text() or self.process.poll() is not None,
            "it serves",
            deadline_s=60,
        )
        found = re.search(r"serving with TLS.*address=(\S+)", self.log.read_text())
        assert found, self.log.read_text()
        self.secure = found[1]

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Serve, Path]]:
    file, folder = tmp_path / "mesh.yaml", tmp_path / "identities"
    file.write_text(MESH)
    serve = Serve(file, folder)
    yield serve, folder
    assert serve.stop() == 0


def test_a_workload_gets_a_certificate_with_what_its_folder_holds(served: tuple[Serve, Path]) -> None:
    serve, folder = served
    own = folder / "a" / "shop" / "web-1"
    assert [stat.S_IMODE(path.stat().st_mode) for path in (own, own / "token", own / "sds")] == [0o700, 0o600, 0o600]
    key = ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    request = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()
    root = (folder / "root-cert.pem").read_bytes()
    # The name that pilot-agent expects of an istiod.
    options = (("grpc.ssl_target_name_override", "istiod.istio-system.svc"),)
    with grpc.secure_channel(serve.secure, grpc.ssl_channel_credentials(root), options) as channel:
        metadata = (("authorization", f"Bearer {(own / 'token').read_text()}"), ("clusterid", "a"))
        call = channel.unary_unary(CREATE)
        chain = read_response(call(bytes(CertificateRequest(request)), metadata=metadata, timeout=20))
    leaf = x509.load_pem_x509_certificate(chain[0].encode())
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == ["spiffe://cluster.local/ns/shop/sa/web"]
    assert chain[-1].encode() == root


@pytest.mark.parametrize(
    ("arguments", "cause"),
    [
        (("--secure", "127.0.0.1:0"), "--secure '127.0.0.1:0': needs --identities as well"),
        (("--identities", "x"), "--identities 'x': needs --secure as well"),
        (("--secure", "nowhere", "--identities", "x"), "--secure 'nowhere'"),
        (("--secure", "127.0.0.1:0", "--identities", "/proc/none"), "--identities '/proc/none'"),
    ],
)
def test_what_cannot_be_is_one_line(arguments: tuple[str, ...], cause: str, tmp_path: Path) -> None:
    file = tmp_path / "mesh.yaml"
    file.write_text(MESH)
    run = run_command("mesh", "serve", str(file), "--listen", "127.0.0.1:0", *arguments)
    assert run.returncode == 2
    assert run.stderr.splitlines()[-1].startswith(f"eastgate: {cause}")


async def test_workloads_come_and_go(tmp_path: Path) -> None:
    identities = Identities(tmp_path / "i", MeshCa())
    few = read().mesh
    await identities.start(few)
    web = next(one for one in few.workloads if one.name == "web-1")
    assert (identities.place(web) / "sds").is_socket()
    await identities.update(replace(few, workloads=()))
    with pytest.raises(OSError, match=r"refused|No such file"):
        await asyncio.open_unix_connection(identities.place(web) / "sds")
    await identities.update(few)
    _, writer = await asyncio.open_unix_connection(identities.place(web) / "sds")
    writer.close()
    await identities.stop()


async def test_a_path_too_long_for_a_socket_is_named(tmp_path: Path) -> None:
    identities = Identities(tmp_path / ("x" * 100), MeshCa())
    with pytest.raises(OSError, match="107 bytes at most"):
        await identities.start(read().mesh)
    await identities.stop()


async def test_tokens_alone_need_no_short_path(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 30)
    mesh = read().mesh
    identities = Identities(folder, MeshCa(), sockets=False)
    await identities.start(mesh)
    await identities.update(replace(mesh, workloads=mesh.workloads[:1]))
    assert {path.name for path in identities.place(mesh.workloads[0]).iterdir()} == {"token"}
    await identities.stop()
