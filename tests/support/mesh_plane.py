"""The embedded control plane on a loop of its own, for tests that block; and certificates for its workloads."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

from eastgate.mesh.ads_server import AdsServer, TypeStatus
from eastgate.mesh.ca import MeshCa
from eastgate.mesh.model import Mesh, Workload
from eastgate.mesh.sds_server import SdsServer
from eastgate.mesh.source import MeshSource

HOST = "127.0.0.1"
# Of echo in the namespace shop: only mesh mTLS, and of the mesh only the client.
CLIENT_ONLY = """\
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: strict, namespace: shop}
spec: {mtls: {mode: STRICT}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: client-only, namespace: shop}
spec:
  selector: {matchLabels: {app: echo}}
  rules: [{from: [{source: {principals: [cluster.local/ns/shop/sa/client]}}]}]
"""


class MeshPlane:
    """Serves a mesh. ``source``: what answers for it."""

    def __init__(self, mesh: Mesh, source: Callable[[Mesh], MeshSource] = MeshSource) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        self._sds: list[SdsServer] = []
        self.server: AdsServer = self.call(self._make(source(mesh)))
        self.address = f"{HOST}:{self.call(self.server.start())}"

    @staticmethod
    async def _make(source: MeshSource) -> AdsServer:
        return AdsServer(source)

    def call(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(60)

    async def _status(self) -> list[TypeStatus]:
        return self.server.status()

    def status(self) -> list[TypeStatus]:
        found: list[TypeStatus] = self.call(self._status())
        return found

    def secrets(self, ca: MeshCa, workload: Workload, path: Path) -> SdsServer:
        """An SDS server for a workload on this socket."""

        async def started() -> SdsServer:
            name = workload.spiffe_id(ca.trust_domain)
            server = SdsServer(lambda: ca.issue(name, cluster=workload.cluster))
            await server.start(path)
            return server

        server: SdsServer = self.call(started())
        self._sds.append(server)
        return server

    def close(self) -> None:
        for server in self._sds:
            self.call(server.stop())
        self.call(self.server.stop())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()


def with_secrets(path: Path) -> Callable[[dict[str, Any]], None]:
    """A change to Envoy's bootstrap: `sds-grpc` is the server on this socket, as pilot-agent has it."""

    def change(bootstrap: dict[str, Any]) -> None:
        clusters = bootstrap["static_resources"]["clusters"]
        endpoint = {"endpoint": {"address": {"pipe": {"path": str(path)}}}}
        clusters.append(
            {
                **clusters[0],
                "name": "sds-grpc",
                "load_assignment": {"cluster_name": "sds-grpc", "endpoints": [{"lb_endpoints": [endpoint]}]},
            }
        )

    return change


def sidecar_node(workload: Workload, **metadata: str) -> Mapping[str, Any]:
    """The Node of a workload's sidecar, as JSON."""
    return {
        "id": f"sidecar~{workload.address}~{workload.name}.{workload.namespace}~{workload.namespace}.svc.cluster.local",
        "cluster": f"{workload.name}.{workload.namespace}",
        "metadata": {
            "CLUSTER_ID": workload.cluster,
            "NETWORK": workload.network,
            "NAMESPACE": workload.namespace,
            "LABELS": dict(workload.labels),
            "SERVICE_ACCOUNT": workload.service_account,
            "ISTIO_VERSION": "1.31.0",
            **metadata,
        },
    }
