"""`eastgate sidecar` by itself, where a DestinationRule names files: its clusters name secrets that are in them.

Nobody but the proxy reads them there; with pilot-agent its SDS does. The endpoint asks for a certificate and answers
with the serial number of the one that it was shown.
"""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from eastgate.xds.message import encode, read

from ..support import messages
from ..support.authority import Identity
from ..support.gateway_process import EASTGATE, Eastgate, ProxyProcess
from ..support.recordings import CDS, EDS, LDS, Resources
from ..support.replay_ads import ReplayThread
from ..support.upstreams import reached
from ..support.waiting import until
from ..xds.test_secret_refs import sds
from ..xds.test_secret_refs import socket as transport_socket
from .test_sidecar_failures import CLIENT, PARAMETERS, ROOT, Endpoint, serial_of

NAME = "outbound|443||bank.test"


class Sidecar(Eastgate):
    """Its own certificate comes from files that are given by flags, as it comes from istiod elsewhere."""

    kind = "eastgate sidecar"

    def __init__(self, discovery: str, folder: Path) -> None:
        command = [EASTGATE, "sidecar", "--discovery", discovery, "--admin", "127.0.0.1:0", "--drain-time", "0"]
        own = ("--workload-cert", str(folder / "chain.pem"), "--workload-key", str(folder / "key.pem"))
        ProxyProcess.__init__(self, [*command, "--node-id", "sidecar~127.0.0.1~web.shop~shop.svc.cluster.local", *own])


def resources(endpoint: Endpoint, folder: Path) -> Resources:
    """A cluster of mode MUTUAL with paths, and a listener that leads there."""
    found = messages.resources({NAME: [messages.At(endpoint.address)]})
    cluster = read("envoy.config.cluster.v3.Cluster", found[CDS][NAME])
    cluster["transport_socket"] = transport_socket(
        "UpstreamTlsContext",
        **PARAMETERS,
        tls_certificate_sds_secret_configs=[sds(f"file-cert:{folder / 'client.pem'}~{folder / 'client-key.pem'}")],
        combined_validation_context={"validation_context_sds_secret_config": sds(f"file-root:{folder / 'ca.pem'}")},
    )
    return {
        CDS: {NAME: encode("envoy.config.cluster.v3.Cluster", cluster)},
        EDS: found[EDS],
        LDS: {messages.LISTENER: messages.listener([messages.plain_chain(NAME)], tls_inspector=False)},
    }


def write(folder: Path, identity: Identity) -> None:
    for name, content in (("client.pem", identity.chain), ("client-key.pem", identity.key)):
        new = folder / f"{name}.new"
        new.write_bytes(content)
        new.rename(folder / name)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[tuple[ReplayThread, Path]]:
    with closing(Endpoint(tmp_path)) as endpoint, ReplayThread(resources(endpoint, tmp_path)) as istiod:
        yield istiod, tmp_path


def test_files_that_a_rule_names_are_read_and_followed(place: tuple[ReplayThread, Path]) -> None:
    istiod, folder = place
    first, second = ROOT.issue(CLIENT), ROOT.issue(CLIENT)
    write(folder, first)
    (folder / "ca.pem").write_bytes(ROOT.pem)
    with Sidecar(istiod.address, folder) as sidecar:
        sidecar.wait_ready()

        def served_by(identity: Identity) -> bool:
            seen = reached(sidecar.bound_address(messages.LISTENER)) or ""
            return seen.lstrip("0") == serial_of(identity).lstrip("0")

        # As soon as it is ready.
        assert served_by(first)
        write(folder, second)
        until(lambda: served_by(second), "the rotated certificate is shown")
        assert "secret_file" not in sidecar.stderr
        assert "PRIVATE KEY" not in sidecar.get("/config_dump")[1]
        assert sidecar.stat("sds.sds-grpc.update_success") >= 3


def test_a_file_that_is_missing_is_said_once_and_closes_its_cluster_alone(place: tuple[ReplayThread, Path]) -> None:
    istiod, folder = place
    (folder / "ca.pem").write_bytes(ROOT.pem)
    with Sidecar(istiod.address, folder) as sidecar:
        # It is no reason to keep everything else from serving.
        sidecar.wait_ready()
        attempts = sidecar.stat("sds.sds-grpc.update_attempt")
        until(lambda: sidecar.stat("sds.sds-grpc.update_attempt") >= attempts + 2, "the file is looked for again")
        (line,) = [one for one in sidecar.lines if "secret_file" in one]
        assert f"{folder / 'client.pem'}: cannot be read: No such file or directory" in line
        assert "Traceback" not in sidecar.stderr
        assert not reached(sidecar.bound_address(messages.LISTENER))
        identity = ROOT.issue(CLIENT)
        write(folder, identity)
        until(lambda: reached(sidecar.bound_address(messages.LISTENER)), "with the file it is served")
