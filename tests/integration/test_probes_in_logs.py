"""Connections that close without a byte, beside logs that a control plane configured for a listener."""

import socket
from contextlib import closing
from pathlib import Path

from envoy_data_plane.envoy.config.accesslog.v3 import AccessLog, AccessLogFilter, ResponseFlagFilter
from envoy_data_plane.envoy.config.core.v3 import DataSource, SubstitutionFormatString
from envoy_data_plane.envoy.config.listener.v3 import Listener
from envoy_data_plane.envoy.extensions.access_loggers.file.v3 import FileAccessLog

from ..support import messages
from ..support.gateway_process import Eastgate
from ..support.hellos import client_hello
from ..support.recordings import LDS
from ..support.replay_ads import ReplayThread
from ..support.waiting import until

NAME, OTHER = messages.sni("echo"), messages.sni("other")
REFUSED = f"listener.{messages.LISTENER}.refused."
FORMAT = "%RESPONSE_FLAGS% %REQUESTED_SERVER_NAME%\n"


def listener(path: Path, flags: list[str]) -> bytes:
    """With a log of connections that have these flags, of all without any."""
    made = Listener.parse(messages.listener([messages.chain(NAME)]))
    chosen = AccessLogFilter(response_flag_filter=ResponseFlagFilter(flags=flags)) if flags else None
    form = SubstitutionFormatString(text_format_source=DataSource(inline_string=FORMAT))
    log = messages.pack(FileAccessLog(path=str(path), log_format=form))
    made.access_log = [AccessLog(name="envoy.access_loggers.file", filter=chosen, typed_config=log)]
    return bytes(made)


def test_probes_have_a_line_where_a_log_asks_for_it(tmp_path: Path) -> None:
    path = tmp_path / "log"
    resources = messages.resources({NAME: []}, listeners=[listener(path, [])])
    with closing(ReplayThread(resources)) as server, Eastgate(server.address) as gateway:
        gateway.wait_ready()
        address = gateway.bound_address(messages.LISTENER)

        def probe(number: int) -> None:
            socket.create_connection(address, 10).close()
            until(lambda: gateway.stats(REFUSED)["idle_probe"] == number, "the probe is counted")

        probe(1)
        until(lambda: path.exists() and path.read_text() == "- -\n", "its line is written")
        server.push_some(LDS, {messages.LISTENER: listener(path, ["NR"])})
        probe(2)
        with socket.create_connection(address, 10) as client:
            client.sendall(client_hello(OTHER))
            assert reset(client)
        until(lambda: path.read_text() == f"- -\nNR {OTHER}\n", "only what has no route has a line")


def reset(client: socket.socket) -> bool:
    client.settimeout(10)
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True
