"""What pilot-agent does around a proxy: the bootstrap that it renders, its argv, its sockets, its own pages."""

import json
import re
import sys
import threading
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any

from .gateway_process import ANNOUNCED, ProxyProcess
from .recordings import FOLDER, Resources
from .replay_ads import ReplayThread
from .secrets import AgentThread
from .waiting import until

ENVOY = str(Path(sys.executable).with_name("eastgate-envoy"))
RECORDED = FOLDER / "envoy" / "anthos-gateway" / "bootstrap.json"
# As pilot-agent 1.31 writes them, in its order; -c comes first.
ARGUMENTS = (
    *("--drain-time-s", "45", "--drain-strategy", "immediate", "--local-address-ip-version", "v4"),
    *("--file-flush-interval-msec", "1000", "--disable-hot-restart", "--allow-unknown-static-fields"),
    *("-l", "warning", "--component-log-level", "misc:error", "--skip-deprecated-logs", "--concurrency", "2"),
)
SIDECAR = "sidecar~10.10.1.30~echo-a.default~default.svc.cluster.local"
STATS = "/stats?usedonly&filter="
# What the agent asks, to the letter.
UPDATES = STATS + r"^(cluster_manager\.cds|listener_manager\.lds)\.(update_success|update_rejected)$"
STATE = STATS + r"^(server\.state|listener_manager\.workers_started)"
ACTIVE = STATS + "downstream_cx_active$"


class AgentPages(AbstractContextManager["AgentPages"]):
    """pilot-agent's port 15020: /healthz/ready answers `status`; every path that was asked for is in `asked`."""

    def __init__(self) -> None:
        self.status = 200
        self.asked: list[str] = []
        pages = self

        class Pages(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                pages.asked.append(self.path)
                self.send_response(pages.status)
                self.end_headers()

            def do_POST(self) -> None:
                self.do_GET()

            def log_message(self, *_: object) -> None:
                """Silent."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


def rendered(folder: Path, agent_port: int, node_id: str = SIDECAR) -> dict[str, Any]:
    """The bootstrap as pilot-agent renders it, with sockets in this folder and free ports for all listeners."""
    value: dict[str, Any] = json.loads(RECORDED.read_text())
    value["node"]["id"] = node_id
    value["admin"]["address"]["socket_address"]["port_value"] = 0
    for cluster in value["static_resources"]["clusters"]:
        address = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"]
        if cluster["name"] == "prometheus_stats":
            address["socket_address"]["port_value"] = 0
        elif cluster["name"] == "agent":
            address["socket_address"]["port_value"] = agent_port
        else:
            address["pipe"]["path"] = str(folder / cluster["name"])
    # As with EXIT_ON_ZERO_ACTIVE_CONNECTIONS.
    value["stats_config"]["stats_matcher"]["inclusion_list"]["patterns"].append({"suffix": "downstream_cx_active"})
    for listener in value["static_resources"]["listeners"]:
        listener["address"]["socket_address"] |= {"address": "127.0.0.1", "port_value": 0}
    return value


class InEnvoysPlace(ProxyProcess):
    """`eastgate-envoy` with pilot-agent's argv; `more`: further flags."""

    kind = "eastgate-envoy"

    def __init__(self, bootstrap: Mapping[str, Any], folder: Path, more: Iterable[str] = ()) -> None:
        file = folder / "envoy-rev.json"
        file.write_text(json.dumps(bootstrap))
        super().__init__([ENVOY, "-c", str(file), *ARGUMENTS, "-l", "info", *more])

    @property
    def admin(self) -> str:
        announced = [line for line in list(self.lines) if line.startswith(ANNOUNCED)]
        return announced[0].removeprefix(ANNOUNCED).strip() if announced else ""

    def static_port(self, name: str) -> int:
        """Where a static listener listens."""

        def found() -> list[str]:
            return re.findall(rf"listening name={re.escape(name)} address=\S+ port=(\d+)", self.stderr)

        until(found, f"static listener {name} listens\n{self.stderr[-2000:]}")
        return int(found()[0])


class Pod(AbstractContextManager["Pod"]):
    """A pod's pilot-agent: ADS and SDS on its Unix sockets, its pages; and, once started, the proxy."""

    def __init__(self, folder: Path, resources: Resources, secrets: dict[str, bytes], node_id: str = SIDECAR) -> None:
        self.folder = folder
        self.pages = AgentPages()
        self.ads = ReplayThread(resources, socket_path=str(folder / "xds-grpc"))
        self.sds = AgentThread(str(folder / "sds-grpc"), secrets)
        self.bootstrap = rendered(folder, self.pages.port, node_id)

    def proxy(self, *more: str) -> InEnvoysPlace:
        return InEnvoysPlace(self.bootstrap, self.folder, more)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.ads.close()
        self.sds.close()
        self.pages.__exit__(None, None, None)
