"""Who brings the keys of the workload into the store: sockets of SDS servers, files, or istiod's CA."""

from collections.abc import Awaitable
from typing import Protocol

from eastgate.xds.file_secrets import FileSecrets
from eastgate.xds.node import NodeIdentity
from eastgate.xds.own_certificate import OwnCertificate
from eastgate.xds.sds import SdsClient, SdsStatistics
from eastgate.xds.secret_store import SecretStore

from .settings import SDS_CLUSTER, GatewaySettings


class SecretSource(Protocol):
    """What keeps the secrets of one source in the store in step with where they come from."""

    source: str
    statistics: SdsStatistics

    def run(self) -> Awaitable[None]: ...
    def close(self) -> None: ...


def secret_sources(settings: GatewaySettings, node: NodeIdentity, store: SecretStore) -> tuple[SecretSource, ...]:
    """The sources of these settings. A socket wins over files, and files over the CA."""
    found: list[SecretSource] = [
        SdsClient(f"cluster:{cluster}", address, node, store) for cluster, address in settings.secret_sockets.items()
    ]
    workload, source = settings.workload, f"cluster:{SDS_CLUSTER}"
    if SDS_CLUSTER in settings.secret_sockets:
        return tuple(found)
    if workload.files.certificate:
        found.append(FileSecrets(source, workload.files, store))
    elif workload.authorities:
        found.append(
            OwnCertificate(
                source,
                workload.authorities,
                workload.name,
                store,
                open_channel=settings.credentials.open_channel,
                metadata=settings.credentials.metadata,
                roots=lambda: _content(workload.files.roots),
            )
        )
    return tuple(found)


def _content(path: str) -> bytes:
    if not path:
        return b""
    with open(path, "rb") as file:
        return file.read()
