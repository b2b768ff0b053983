"""`eastgate sidecar` by itself: its certificate from a control plane with TLS and a CA, or from files."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from eastgate.mesh.ads_server import AdsServer
from eastgate.mesh.ca import MeshCa
from eastgate.mesh.certificate_service import CertificateService
from eastgate.mesh.source import MeshSource
from eastgate.mesh.tokens import Caller, Tokens

from ..mesh.sidecars import read
from ..support.gateway_process import EASTGATE, Eastgate, ProxyProcess
from ..support.secrets import keyed
from ..support.waiting import until

CA = MeshCa()
NAME = "spiffe://cluster.local/ns/shop/sa/web"
NODE = "sidecar~10.1.0.1~web-1.shop~shop.svc.cluster.local"


class Sidecar(Eastgate):
    kind = "eastgate sidecar"

    def __init__(self, discovery: str, folder: Path, *flags: str) -> None:
        command = [EASTGATE, "sidecar", "--discovery", discovery, "--admin", "127.0.0.1:0", "--drain-time", "0"]
        command += ["--discovery-root-cert", str(folder / "root.pem"), "--token-file", str(folder / "token")]
        ProxyProcess.__init__(self, [*command, "--node-id", NODE, "--cluster-id", "a", "--network", "na", *flags])

    def names(self) -> set[str]:
        entries = self.json("/certs")["certificates"]
        return {name["uri"] for entry in entries for one in entry["cert_chain"] for name in one["subject_alt_names"]}


@pytest.fixture
async def istiod(tmp_path: Path) -> AsyncIterator[str]:
    tokens = Tokens()
    own = CA.issue_server("127.0.0.1", "istiod.istio-system.svc", cluster="a")
    credentials = grpc.ssl_server_credentials([(own.key.encode(), own.chain.encode())])
    service = CertificateService(CA, tokens).handler()
    server = AdsServer(MeshSource(read().mesh), services=[service], credentials=credentials)
    port = await server.start()
    (tmp_path / "root.pem").write_text(CA.root)
    (tmp_path / "token").write_text(tokens.issue(Caller("shop", "web")))
    yield f"127.0.0.1:{port}"
    await server.stop()


async def test_istiod_signs_and_only_then_it_is_ready(istiod: str, tmp_path: Path) -> None:
    token = (tmp_path / "token").read_text()
    (tmp_path / "token").write_text("stale")

    def check() -> None:
        with Sidecar(istiod, tmp_path, "--service-account", "web") as sidecar:
            until(lambda: "certificate_refused" in sidecar.stderr, "the stale token is refused")
            assert not sidecar.is_ready()
            (tmp_path / "token").write_text(token)
            until(lambda: sidecar.names() == {NAME}, "the certificate is there")
            assert sidecar.stat("sds.sds-grpc.update_success") == 1
            assert "PRIVATE KEY" not in sidecar.get("/config_dump")[1]

    # ADS says no to the stale token as well: both come back.
    await asyncio.to_thread(check)


async def test_files_in_its_place(istiod: str, tmp_path: Path) -> None:
    pair = keyed(NAME)
    for name, content in (("cert", pair.certificate), ("key", pair.key), ("roots", keyed("root").certificate)):
        (tmp_path / name).write_bytes(content)
    flags = [part for name in ("cert", "key", "roots") for part in (f"--workload-{name}", str(tmp_path / name))]

    def check() -> None:
        with Sidecar(istiod, tmp_path, *flags) as sidecar:
            until(lambda: sidecar.names() == {NAME}, "the certificate is there")
            other = keyed("spiffe://cluster.local/ns/shop/sa/other")
            (tmp_path / "cert").write_bytes(other.certificate)
            (tmp_path / "key").write_bytes(other.key)
            until(lambda: sidecar.names() == {"spiffe://cluster.local/ns/shop/sa/other"}, "the rotated one is there")

    await asyncio.to_thread(check)
