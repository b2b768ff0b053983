"""How a process stops: what signals and /drain_listeners ask for, for one direction or for all."""

from collections.abc import Callable
from functools import partial
from signal import Signals

from eastgate.xds.record import record

from .drain import Activity, Drain
from .log import Log

# How often it is looked whether somebody has come.
ACTIVITY_S = 1.0


@record
class DataSide:
    """What stopping does to the data side, and asks of it. ``stop_accepting``: of everything, or of inbound alone.

    ``connections``: how many there have been, refused ones included.
    """

    stop_accepting: Callable[[bool], None]
    open_connections: Callable[[], int]
    connections: Callable[[], int]
    cut: Callable[[], int]


class Stopping:
    """Drains of a process and its end. ``window_s``: how long to go on accepting. ``at_once``: the first
    signal ends it. ``now`` is the loop's clock; ``finished`` is called at the end, perhaps more than once.
    """

    def __init__(
        self,
        window_s: float,
        data: DataSide,
        *,
        at_once: bool,
        now: Callable[[], float],
        finished: Callable[[], None],
        log: Log,
    ) -> None:
        self._data = data
        self._at_once = at_once
        self._now = now
        self._finished = finished
        self._log = log
        self._activity = Activity()
        self._look_again_s = float("-inf")
        self._all, self._inbound = (
            Drain(
                window_s,
                stop_accepting=partial(data.stop_accepting, inbound),
                open_connections=data.open_connections,
                cut=data.cut,
                finished=finished,
            )
            for inbound in (False, True)
        )

    @property
    def draining(self) -> bool:
        """Whether anything drains, or has."""
        return self._all.draining or self._inbound.draining

    def tick(self) -> None:
        """Move on when it is time to. Call it about ten times a second."""
        now = self._now()
        self._all.tick(now)
        self._inbound.tick(now)
        if now >= self._look_again_s:
            self._look_again_s = now + ACTIVITY_S
            self._activity.note(now, self._data.connections())

    def asked(self, *, graceful: bool, skip_exit: bool, inbound_only: bool) -> None:
        """/drain_listeners, as Envoy answers it: who drains already does not begin again.

        Without `graceful` at once. With `skip_exit` the listeners are never stopped.
        """
        drain = self._inbound if inbound_only else self._all
        if not graceful:
            drain.stop_now(self._now())
        elif not (drain.draining or self._all.draining):
            self._log.info(
                "draining", window_s=drain.window_s, direction="inbound" if inbound_only else "all", stays=skip_exit
            )
            drain.begin(self._now(), exits=False, skip_stop=skip_exit)

    def signalled(self, number: Signals) -> None:
        """SIGTERM or SIGINT: drain and end, or end at once."""
        if self._at_once or (self._all.draining and self._all.exits):
            self._log.info(
                "stopping at once" if self._at_once else "second signal, stopping at once", signal=number.name
            )
            self._finished()
            return
        now, active = self._now(), self._data.open_connections()
        idle = self._activity.is_idle(now, self._data.connections(), active)
        if idle:
            self._log.info("stopping, nothing is open", signal=number.name)
        else:
            self._log.info(
                "draining, a second signal stops at once",
                signal=number.name,
                window_s=self._all.window_s,
                open=active,
            )
        self._all.begin(now, exits=True, idle=idle)
