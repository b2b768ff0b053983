"""When a snapshot is compiled and becomes visible: in slices on the loop, the newest one only, one at a time."""

import asyncio
from collections.abc import Callable, Collection, Iterable
from contextlib import closing, suppress
from dataclasses import replace

from eastgate.proxy.control_errors import ControlErrors, Part
from eastgate.proxy.slices import SLICE_S
from eastgate.xds.errors import XdsError
from eastgate.xds.resources import Snapshot

from .compiler import Compiler


class Publisher:
    """Feeds snapshots to the compiler. ``publish_routes`` makes the compiled routes current, and must not wait; it
    returns the names of listeners that still have their old ones.
    """

    def __init__(
        self, compiler: Compiler, publish_routes: Callable[[], Collection[str]], errors: ControlErrors | None = None
    ) -> None:
        self._compiler = compiler
        self._publish_routes = publish_routes
        self._control_errors = errors if errors is not None else ControlErrors()
        self._newest: Snapshot | None = None
        self._published: Snapshot | None = None
        self._errors: tuple[XdsError, ...] = ()
        self._turn = asyncio.Lock()
        self._woken = asyncio.Event()
        self._stale: set[str] = set()
        self._again = False

    async def publish(self, snapshot: Snapshot) -> tuple[XdsError, ...]:
        """Return when `snapshot`, or a newer one that came meanwhile, is current; with what could not be compiled.

        A newer snapshot holds everything that the older one would have changed, so the older one is given up.
        """
        self._newest = snapshot
        async with self._turn:
            while self._newest is not None and self._published is not self._newest:
                await self._try_compile(self._newest)
                await self._refresh()
            self._await_notices()
            return self._errors

    async def _try_compile(self, snapshot: Snapshot) -> None:
        with self._control_errors.guard(Part.PUBLISH):
            await self._compile(snapshot)
            return
        # Given up: what was published before serves on, and the next snapshot holds what this one has.
        self._errors, self._published = (), snapshot

    def refresh(self, clusters: Iterable[str]) -> None:
        """Compile these clusters again because the health of their endpoints changed, without waiting.

        At once, or when the snapshot that is being compiled has been published: until then its tables, and what they
        say of health, could still replace these. Those that take long are compiled while `run` runs.
        """
        self._stale.update(clusters)
        if self._turn.locked():
            return
        for name in [name for name in self._stale if not self._compiler.takes_long(name)]:
            self._stale.discard(name)
            with self._control_errors.guard(Part.COMPILE, name):
                self._compiler.refresh(name)
        if self._stale:
            self._woken.set()
        self._await_notices()

    def _await_notices(self) -> None:
        """Have `run` tell what the log is to say later."""
        if self._compiler.notices.wait_s is not None:
            self._woken.set()

    def recompile(self) -> None:
        """Have `run` compile the newest snapshot again, because something changed that it refers to: a secret."""
        self._again = True
        self._woken.set()

    async def run(self) -> None:
        """Compile until cancelled what takes long, or is to be compiled again; and tell what waits to be logged."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._compiler.notices.wait_s):
                    await self._woken.wait()
            self._woken.clear()
            with self._control_errors.guard(Part.PUBLISH):
                self._compiler.notices.tell()
            if self._again and self._newest is not None:
                self._again = False
                await self.publish(replace(self._newest))
            async with self._turn:
                await self._refresh()

    async def _refresh(self) -> None:
        while self._stale:
            name = self._stale.pop()
            with (
                self._control_errors.guard(Part.COMPILE, name),
                closing(self._compiler.refresh_steps(name)) as steps,
            ):
                for errand in steps:
                    if errand is not None:
                        await errand.run_aside()

    async def _compile(self, snapshot: Snapshot) -> None:
        clock = asyncio.get_running_loop().time
        slice_end = clock() + SLICE_S
        with closing(self._compiler.steps(snapshot)) as steps:
            while self._newest is snapshot:
                try:
                    errand = next(steps)
                except StopIteration as end:
                    # In the same turn of the loop as the clusters: a slot's next table is never met by old routes.
                    self._compiler.hold(self._publish_routes())
                    self._errors, self._published = end.value, snapshot
                    break
                if errand is not None:
                    await errand.run_aside()
                    slice_end = clock() + SLICE_S
                elif clock() >= slice_end:
                    await asyncio.sleep(0)
                    slice_end = clock() + SLICE_S
        if self._published is snapshot:
            for _ in self._compiler.tidy():
                await asyncio.sleep(0)
