"""A state-of-the-world ADS server that sends what a test tells it to, right or wrong, and keeps what is answered."""

import itertools
import queue
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from eastgate.xds.message import encode, read
from eastgate.xds.subscription import DISCOVERY_REQUEST, DISCOVERY_RESPONSE, SotwSubscriptions

from .waiting import until


class ScriptedAds:
    """On a thread. Each type is answered what `send` said last of it, once it is asked for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._said: dict[str, tuple[str, Sequence[bytes]]] = {}
        self._asked: dict[str, None] = {}
        self._outgoing: queue.Queue[bytes | None] = queue.Queue()
        self._answers: dict[str, str] = {}
        self.names: set[str] = set()
        """Names asked for by the last request that holds some."""
        self._server = grpc.server(ThreadPoolExecutor(4))
        service, name = SotwSubscriptions.method.strip("/").split("/")
        handler = grpc.stream_stream_rpc_method_handler(self._serve)
        self._server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, {name: handler})])
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def send(self, type_url: str, resources: Sequence[bytes]) -> str:
        """Send Anys as the resources of a type, now or when it is asked for; return the version."""
        with self._lock:
            version = str(next(self._numbers))
            self._said[type_url] = version, resources
            if type_url in self._asked:
                self._put(type_url)
        return version

    def answer(self, version: str) -> str:
        """Wait for the answer to a version: the reason of a NACK, or nothing."""
        until(lambda: version in self._answers, f"version {version} is answered")
        return self._answers[version]

    def close(self) -> None:
        self._outgoing.put(None)
        self._server.stop(None)

    def _put(self, type_url: str) -> None:
        version, resources = self._said[type_url]
        message = {"version_info": version, "resources": resources, "type_url": type_url, "nonce": version}
        self._outgoing.put(encode(DISCOVERY_RESPONSE, message))

    def _serve(self, requests: Iterator[bytes], _: Any) -> Iterator[bytes]:
        threading.Thread(target=self._listen, args=(requests,), daemon=True).start()
        while (payload := self._outgoing.get()) is not None:
            yield payload

    def _listen(self, requests: Iterator[bytes]) -> None:
        try:
            for raw in requests:
                self._hear(read(DISCOVERY_REQUEST, raw))
        except grpc.RpcError:
            return

    def _hear(self, request: dict[str, Any]) -> None:
        with self._lock:
            self.names = set(request.get("resource_names", ())) or self.names
            nonce, type_url = request.get("response_nonce", ""), request["type_url"]
            if nonce:
                self._answers.setdefault(nonce, request.get("error_detail", {}).get("message", ""))
            elif type_url not in self._asked:
                self._asked[type_url] = None
                if type_url in self._said:
                    self._put(type_url)
