"""Access logs that istiod configures have the same lines as real Envoy's, for the same connections."""

import json
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from envoy_data_plane.envoy.config.accesslog.v3 import AccessLog
from envoy_data_plane.envoy.config.listener.v3 import FilterChain, Listener
from envoy_data_plane.envoy.extensions.access_loggers.file.v3 import FileAccessLog
from envoy_data_plane.envoy.extensions.filters.network.tcp_proxy.v3 import TcpProxy

from ..support import messages
from ..support.gateway_process import Eastgate, Envoy
from ..support.hellos import client_hello
from ..support.replay_ads import ReplayThread
from ..support.tls_echo import Endpoint, TestCa
from ..support.waiting import until
from .test_statistics import connect, listener_counters

SERVED, REFUSING = messages.sni("echo"), messages.sni("refusing")
TEXT = (
    "%RESPONSE_FLAGS% %BYTES_RECEIVED% %UPSTREAM_HOST% %UPSTREAM_CLUSTER_RAW% %REQUESTED_SERVER_NAME% %RESPONSE_CODE% "
    "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT% %PROTOCOL% "
    '"%REQ(:METHOD)%" %REQ(:PATH):5% 100%% %DYNAMIC_METADATA(a)% %UPSTREAM_PEER_URI_SAN%\n'
)
JSON = {
    "flags": "%RESPONSE_FLAGS%",
    "bytes": "%BYTES_RECEIVED%",
    "to": "host %UPSTREAM_HOST%",
    "more": {"code": "%RESPONSE_CODE%", "method": "%REQ(:METHOD)%", "name": "%REQUESTED_SERVER_NAME%"},
}


@pytest.fixture(scope="module")
def endpoint() -> Iterator[Endpoint]:
    made = Endpoint(("127.0.0.1", 0), tls=TestCa().server_context("127.0.0.1"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def refusing() -> Iterator[tuple[str, int]]:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()


def log(path: Path, log_format: dict[str, Any], **fields: Any) -> AccessLog:
    config = FileAccessLog.from_dict({"path": str(path), "log_format": log_format})
    made = AccessLog.from_dict(fields)
    made.name, made.typed_config = "envoy.access_loggers.file", messages.pack(config)
    return made


def logged(chain: FilterChain, logs: Sequence[AccessLog]) -> FilterChain:
    (proxy,) = chain.filters
    assert proxy.typed_config is not None
    config = TcpProxy.parse(proxy.typed_config.value)
    config.access_log = list(logs)
    proxy.typed_config = messages.pack(config)
    return chain


def lines(folder: Path, start: Any, endpoints: dict[str, list[messages.At]]) -> dict[str, list[str]]:
    """By file, what one proxy wrote."""
    flags = {"response_flag_filter": {"flags": ["NR"]}}
    texts, objects, not_routed = (folder / name for name in ("text", "json", "listener"))
    logs = [
        log(texts, {"text_format_source": {"inline_string": TEXT}}),
        log(objects, {"json_format": JSON}),
        log(folder / "never", {"text_format_source": {"inline_string": "x\n"}}, filter=flags),
    ]
    chains = [logged(messages.chain(name, max_connect_attempts=1), logs) for name in endpoints]
    listener = Listener.parse(messages.listener(chains))
    listener.access_log = [log(not_routed, {"text_format_source": {"inline_string": TEXT}}, filter=flags)]
    server = ReplayThread(messages.resources(endpoints, listeners=[bytes(listener)]))
    try:
        with start(server.address) as proxy:
            address = proxy.wait_ready().bound_address(messages.LISTENER)
            for name in (SERVED, REFUSING, "unknown.test"):
                connect(address, name).close()
            wanted = {"downstream_cx_destroy": 2, "no_filter_chain_match": 1}
            until(lambda: wanted.items() <= listener_counters(proxy).items(), "all connections have ended")
            proxy.stop()
    finally:
        server.close()
    return {path.name: sorted(path.read_text().splitlines()) for path in folder.iterdir() if path.read_text()}


def test_lines_are_envoys(tmp_path: Path, endpoint: Endpoint, refusing: tuple[str, int]) -> None:
    endpoints = {SERVED: [messages.At(endpoint.address)], REFUSING: [messages.At(refusing)]}
    found = []
    for start in (Eastgate, Envoy):
        folder = tmp_path / str(len(found))
        folder.mkdir()
        found.append(lines(folder, start, endpoints))
    ours, envoys = found
    assert ours.keys() == envoys.keys() == {"text", "json", "listener"}
    assert ours["text"] == envoys["text"]
    assert ours["listener"] == envoys["listener"]
    # In Envoy's order of fields, which is that of their names.
    assert [json.loads(line) for line in ours["json"]] == [json.loads(line) for line in envoys["json"]]
    host, port = endpoint.address[:2]
    size = len(client_hello(SERVED))
    assert ours["text"][0] == (f'- {size} {host}:{port} {SERVED} {SERVED} 0 127.0.0.1 127.0.0.1 - "-" - 100% - -')
    assert ours["listener"][0].startswith("NR ")
