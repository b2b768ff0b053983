"""Who brings the keys of the workload into the store: sockets of SDS servers, files, or istiod's CA."""

from collections.abc import Awaitable
from typing import Protocol

from eastgate.xds.file_secrets import FileSecrets
from eastgate.xds.local_secrets import file_content
from eastgate.xds.named_files import NamedFiles
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
    def awaits(self, name: str) -> bool: ...


def secret_sources(settings: GatewaySettings, node: NodeIdentity, store: SecretStore) -> tuple[SecretSource, ...]:
    """The sources of these settings. A socket wins over files, and files over the CA; without a socket nobody else
    reads what names of secrets say of files.
    """
    found: list[SecretSource] = [
        SdsClient(f"cluster:{cluster}", address, node, store) for cluster, address in settings.secret_sockets.items()
    ]
    workload, source = settings.workload, f"cluster:{SDS_CLUSTER}"
    if SDS_CLUSTER in settings.secret_sockets:
        return tuple(found)
    found.append(NamedFiles(source, store))
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
                roots=lambda: file_content(workload.files.roots) if workload.files.roots else b"",
            )
        )
    return tuple(found)
