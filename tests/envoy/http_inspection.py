"""What Envoy's http_inspector makes of first bytes: a listener whose chains are the protocols that it finds."""

import socket
import struct
from collections.abc import Sequence
from contextlib import ExitStack, closing
from datetime import timedelta
from types import TracebackType
from typing import Self

from envoy_data_plane.envoy.config.listener.v3 import FilterChainMatch, Listener, ListenerFilter
from envoy_data_plane.envoy.extensions.filters.listener.http_inspector.v3 import HttpInspector

from ..support import messages
from ..support.ads_thread import AdsThread
from ..support.gateway_process import Envoy
from .numbered import NumberedEndpoints, host_of

PROTOCOLS = ("", "http/1.0", "http/1.1", "h2c")
# What a connection comes to that waits for more: Envoy closes it when the time is over, or the first line too long.
WAITS = "need_more"
WAIT_S = 0.3
TIMEOUT = struct.pack("ll", 20, 0)


def listener() -> bytes:
    """Chain n for PROTOCOLS[n]; the first one takes whatever is not HTTP."""
    chains = [messages.plain_chain(f"c{number}") for number in range(len(PROTOCOLS))]
    for chain, protocol in zip(chains[1:], PROTOCOLS[1:], strict=True):
        chain.filter_chain_match = FilterChainMatch(application_protocols=[protocol])
    parsed = Listener.parse(messages.listener(chains))
    parsed.listener_filters = [
        ListenerFilter(name="envoy.filters.listener.http_inspector", typed_config=messages.pack(HttpInspector()))
    ]
    parsed.listener_filters_timeout = timedelta(seconds=WAIT_S)
    return bytes(parsed)


class HttpInspection:
    """A running Envoy that is asked."""

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            endpoints = stack.enter_context(closing(NumberedEndpoints()))
            services = {f"c{n}": [messages.At((host_of(n), endpoints.port))] for n in range(len(PROTOCOLS))}
            control = stack.enter_context(closing(AdsThread(messages.resources(services, listeners=[listener()]))))
            envoy = stack.enter_context(Envoy(control.address))
            envoy.wait_ready()
            self._address = envoy.bound_address(messages.LISTENER)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.__exit__(kind, error, at)

    def found(self, pieces: Sequence[bytes]) -> str:
        """The protocol of these first bytes, "" for none, or WAITS; each piece is sent by itself."""
        with socket.create_connection(self._address) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, TIMEOUT)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                for piece in pieces:
                    client.sendall(piece)
                data = client.recv(2)
            except ConnectionError:
                data = b""
        if len(data) == 2:
            return PROTOCOLS[int.from_bytes(data, "big")]
        return WAITS
