"""The product's own ADS server on a thread and a loop of its own, so that several proxies hear the same."""

import asyncio
import threading
from collections.abc import Coroutine, Mapping
from typing import Any

from eastgate.mesh.ads_server import AdsServer, TypeStatus

from .recordings import Resources


class PlainSource:
    """The same resources for every node; more for those whose node id is in `extra`."""

    def __init__(self, resources: Resources, extra: Mapping[str, Resources] | None = None) -> None:
        self.shared = resources
        self._extra = extra or {}

    def resources(self, node: Any) -> Mapping[str, Mapping[str, bytes]]:
        """Type URL -> name -> bytes."""
        extra = self._extra.get(node.id, {})
        return {url: {**found, **extra.get(url, {})} for url, found in self.shared.items()}


class AdsThread:
    """An AdsServer for tests that block."""

    def __init__(self, resources: Resources, *, extra: Mapping[str, Resources] | None = None) -> None:
        self._source = PlainSource(resources, extra)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True, name="ads")
        self._thread.start()
        self._server: AdsServer = self._call(self._make())
        self.address = f"127.0.0.1:{self._call(self._server.start())}"

    def push(self, type_url: str, resources: Mapping[str, bytes]) -> None:
        """Change some resources of a type; they go out at once."""
        self._source.shared = {**self._source.shared, type_url: {**self._source.shared[type_url], **resources}}
        self._loop.call_soon_threadsafe(self._server.changed)

    def settled(self, timeout_s: float = 30.0) -> list[TypeStatus]:
        """Wait until all clients have acknowledged everything; what each said."""
        self._call(self._server.settled(timeout_s), timeout_s + 5)
        return self.status()

    def status(self) -> list[TypeStatus]:
        """What every client has said of every type."""
        found: list[TypeStatus] = self._call(self._status())
        return found

    def close(self) -> None:
        self._call(self._server.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _make(self) -> AdsServer:
        return AdsServer(self._source, debounce_s=0.0)

    async def _status(self) -> list[TypeStatus]:
        return self._server.status()

    def _call(self, coroutine: Coroutine[Any, Any, Any], timeout_s: float = 30.0) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout_s)
